"""All resources of one compilation, to be looked up, and what is found on the way. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from mesh.plan.hub import Hub
from mesh.plan.options import CompileOptions
from mesh.resources.core import ConfigMap, Secret
from mesh.resources.duck import uri_flaws
from mesh.resources.kinds import ADDRESSABLE
from mesh.resources.meta import Ignored, Key, Resource, Status
from mesh.resources.problem import Problem

_Kind = TypeVar("_Kind", bound=Resource)
SERVICE_TABLE = "knit-services"
"""Name of the ConfigMaps, in any namespace, that map `NAME` or `NAME.NAMESPACE` to the URL of a Service that has no object."""


@dataclass(slots=True)
class World:
    """What one compilation reads and what it finds. Of two resources with one key the first by file and line stays."""

    options: CompileOptions
    resources: dict[Key, Resource] = field(default_factory=dict)
    hubs: dict[Key, Hub] = field(default_factory=dict)
    """Brokers and channels that can be named; a Channel and what stands behind it are one hub under two keys."""
    doors: dict[str, Hub] = field(default_factory=dict)
    """Request path or host → who answers there."""
    services: dict[tuple[str, str], str] = field(default_factory=dict)
    """(namespace or "", name) → URL, out of the service tables."""
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Problem] = field(default_factory=list)
    statuses: dict[Key, Status] = field(default_factory=dict)

    def of(self, kind: type[_Kind]) -> list[_Kind]:
        """All resources of a class, in the order of their keys."""
        return [resource for resource in self.resources.values() if isinstance(resource, kind)]

    def settings(self, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap in the system namespace; None where there is none."""
        return self.config_map(self.options.system_namespace, name)

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The data of a ConfigMap; None where there is none."""
        found = self.resources.get(Key("", "ConfigMap", namespace, name))
        return found.data if isinstance(found, ConfigMap) else None

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The data of a Secret; None where there is none."""
        found = self.resources.get(Key("", "Secret", namespace, name))
        return found.data if isinstance(found, Secret) else None

    def report(self, resource: Resource, message: str, *, path: str = "", hint: str = "") -> Problem:
        """Note an error of a resource."""
        problem = resource.problem(message, path=path, hint=hint)
        self.problems.append(problem)
        return problem

    def warn(self, resource: Resource, message: str, *, path: str = "", hint: str = "") -> None:
        """Note something that works and is most likely not meant so."""
        self.problems.append(resource.problem(message, path=path, hint=hint, severity="warning"))

    def names_of(self, kind: str, namespace: str) -> list[str]:
        """The names of a kind in a namespace, for did-you-mean."""
        return [key.name for key in self.resources if key.kind == kind and key.namespace == namespace]


def gather(resources: Iterable[Resource], options: CompileOptions) -> World:
    """Index the resources. Their order does not matter."""
    world = World(options)
    taken: dict[Key, Resource] = {}
    for resource in sorted(resources, key=_place):
        if isinstance(resource, Ignored):
            problem = resource.problem(f"ignored: {resource.reason}", severity="warning")
            world.ignored.append(problem)
        first = taken.setdefault(resource.key, resource)
        if first is not resource:
            _report_twice(world, first, resource)
    world.resources = dict(sorted(taken.items()))
    for table in world.of(ConfigMap):
        if table.key.name == SERVICE_TABLE:
            _read_table(world, table)
    return world


def _place(resource: Resource) -> tuple[str, int, Key, int]:
    return resource.document.file, resource.document.line, resource.key, resource.metadata.generation


def _report_twice(world: World, first: Resource, second: Resource) -> None:
    where = first.document
    world.report(
        second,
        f"{second.key} is there twice: also in {where.file}, line {where.line}",
        path="metadata.name",
        hint="the first one is used; remove one of the two, or rename it",
    )


def _read_table(world: World, table: ConfigMap) -> None:
    for entry, url in sorted(table.data.items()):
        name, _, namespace = entry.partition(".")
        flaw = next(uri_flaws(url.strip(), f"data.{entry}"), None)
        if flaw is None:
            world.services.setdefault((namespace, name), url.strip())
        else:
            world.report(table, flaw.message, path=flaw.path, hint=flaw.hint)


def is_addressable(key: Key) -> bool:
    """Whether objects of that kind have an address here."""
    return key.kind in ADDRESSABLE and bool(key.group)
