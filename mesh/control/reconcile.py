"""Files → the resources that hold now → plan and statuses. Decides what an edit that is not valid does: nothing, visibly.

A file that was valid takes effect as a whole or not at all: while its latest version has an error, its last good one runs
on, nothing of it is deleted, and its resources say so (condition `LatestFileValid`). A file that never was valid, as on a
first start, is taken document by document: what is invalid in it shows as not ready, its neighbours run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mesh.control.directory import FileText
from mesh.control.memory import Memory, timestamp
from mesh.plan.compile import Compiled
from mesh.plan.keys import plan_key, plan_keys
from mesh.plan.model import Plan
from mesh.resources.core import Secret
from mesh.resources.decode import Problem, decode, read_documents
from mesh.resources.meta import Condition, Ignored, Key, Resource, Status, check_update
from mesh.runtime.clock import Clock

LATEST_FILE_VALID = "LatestFileValid"


@dataclass(frozen=True, slots=True)
class Loaded:
    """How much there is: files read, objects in them, and how many of each kind."""

    files: int
    documents: int
    kinds: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What holds after a change.

    resources: whole objects with their status. bad_files: file → its first error. known: keys of the plan's topics and
    subscriptions that exist as resources, broken and unreadable ones included: only what is not among them was deleted.
    """

    plan: Plan
    resources: tuple[dict[str, Any], ...]
    problems: tuple[Problem, ...]
    ignored: tuple[Problem, ...]
    loaded: Loaded
    bad_files: Mapping[str, str]
    known: frozenset[str]

    @property
    def is_valid(self) -> bool:
        """No file is bad and no resource has an error."""
        return not self.bad_files and not any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _Version:
    """A file's content, decoded. unreadable: some part of it could not even be named."""

    file: FileText
    resources: tuple[Resource, ...]
    problems: tuple[Problem, ...]
    unreadable: bool

    @property
    def is_good(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What of a file runs. held: the resources of an older version, and why the latest one is not taken."""

    resources: tuple[Resource, ...]
    is_good: bool
    held: Mapping[Key, str] = field(default_factory=dict)


class Reconciler:
    """One entrance: `reconcile` with all files after each change. compile: resources → plan and statuses.

    check: what is wrong with a resource by itself beyond what decoding sees, such as a filter that cannot be read.
    """

    def __init__(
        self,
        compile_plan: Callable[[Sequence[Resource]], Compiled],
        *,
        memory: Memory,
        clock: Clock,
        namespace: str = "default",
        check: Callable[[Resource], Sequence[Problem]] = lambda _: (),
    ) -> None:
        self._check = check
        self._compile = compile_plan
        self._memory = memory
        self._clock = clock
        self._namespace = namespace
        self._latest: dict[str, _Version] = {}
        self._accepted: dict[str, _Accepted] = {}
        self._running: dict[Key, Resource] = {}

    def reconcile(self, files: Sequence[FileText]) -> Snapshot:
        """Take the files as they are now. Only those that changed are parsed."""
        self._take(files)
        owners, duplicates = self._choose(files)
        compiled = self._compile(list(owners.values()))
        self._running = owners
        held_keys = self._forget_deleted()
        resources = tuple(self._objects(owners.values(), compiled.statuses))
        problems = [problem for file in files for problem in self._latest[file.path].problems]
        known = self._known(owners.values(), held_keys)
        problems += [*duplicates, *compiled.problems, *self._save()]
        return Snapshot(
            plan=compiled.plan,
            resources=resources,
            problems=tuple(dict.fromkeys(problems)),
            ignored=tuple(compiled.ignored),
            loaded=_loaded(files, owners.values()),
            bad_files=self._bad_files(),
            known=known,
        )

    # Which version of each file runs.

    def _take(self, files: Sequence[FileText]) -> None:
        present = {file.path for file in files}
        for path in self._latest.keys() - present:
            del self._latest[path]
            del self._accepted[path]
        changed = [file for file in files if file.path not in self._latest or self._latest[file.path].file != file]
        for file in changed:
            self._latest[file.path] = self._read(file)
        for file in changed:
            version = self._with_update_check(self._latest[file.path])
            self._latest[file.path] = version
            self._accepted[file.path] = self._accept(version, self._accepted.get(file.path))

    def _read(self, file: FileText) -> _Version:
        if file.error:
            return _Version(file, (), (Problem("error", file.error, file=file.path),), unreadable=True)
        documents, problems = read_documents(file.text, file=file.path)
        unreadable = bool(problems)
        resources = []
        for document in documents:
            if "apiVersion" not in document.value and "kind" not in document.value:
                message = "ignored: no Kubernetes object, there is neither apiVersion nor kind"
                problems.append(Problem("warning", message, file=file.path, line=document.line))
                continue
            resource, found = decode(document, namespace=self._namespace)
            problems += found
            if resource is None:
                unreadable = True
            else:
                resources.append(resource)
                problems += self._check(resource)
        return _Version(file, tuple(resources), tuple(problems), unreadable)

    def _with_update_check(self, version: _Version) -> _Version:
        """With the errors of fields that an update must leave alone."""
        problems = list(version.problems)
        for resource in version.resources:
            old = self._running.get(resource.key)
            if old is not None and old.is_valid and resource.is_valid and not self._is_elsewhere(old, version):
                problems += check_update(old, resource)
        return replace(version, problems=tuple(problems))

    def _is_elsewhere(self, old: Resource, version: _Version) -> bool:
        """Whether another file still declares it: this one is then a duplicate and no update."""
        path = old.document.file
        latest = self._latest.get(path)
        return path != version.file.path and latest is not None and any(r.key == old.key for r in latest.resources)

    def _accept(self, version: _Version, before: _Accepted | None) -> _Accepted:
        if version.is_good:
            return _Accepted(version.resources, is_good=True)
        why = _first_error(version.problems)
        if before is not None and before.is_good:
            return replace(before, held={resource.key: why for resource in before.resources})
        return self._accept_singly(version, before)

    def _accept_singly(self, version: _Version, before: _Accepted | None) -> _Accepted:
        """Document by document: the new one, or the last good one where the new one has an error."""
        errors = {p.resource: _told(p) for p in reversed(version.problems) if p.severity == "error"}
        old = {resource.key: resource for resource in before.resources if resource.is_valid} if before else {}
        taken: dict[Key, Resource] = {}
        held: dict[Key, str] = {}
        for resource in version.resources:
            why = errors.get(str(resource.key))
            last = old.get(resource.key) or self._last_good(resource, version)
            if why is not None and last is not None:
                held[resource.key] = why
            taken.setdefault(resource.key, last if why is not None and last is not None else resource)
        if version.unreadable:
            for key, resource in old.items():
                if key not in taken:
                    taken[key], held[key] = resource, _first_error(version.problems)
        return _Accepted(tuple(taken.values()), is_good=False, held=held)

    def _last_good(self, resource: Resource, version: _Version) -> Resource | None:
        """The one that runs where this file took it over from another one, in another shape."""
        last = self._running.get(resource.key)
        return last if last is not None and last.is_valid and not self._is_elsewhere(last, version) else None

    def _choose(self, files: Sequence[FileText]) -> tuple[dict[Key, Resource], list[Problem]]:
        """One resource for each key: of two, the one that ran before, else the one that comes first."""
        owners: dict[Key, Resource] = {}
        problems = []
        for file in sorted(files, key=lambda file: file.path):
            for resource in self._accepted[file.path].resources:
                first = owners.setdefault(resource.key, resource)
                if first is resource:
                    continue
                last = self._running.get(resource.key)
                if last is not None and last.document.file == file.path != first.document.file:
                    owners[resource.key], first, resource = resource, resource, first  # noqa: PLW2901
                where = f"{first.document.file}:{first.document.line}"
                problems.append(resource.problem(f"declared twice: also at {where}, which is the one that counts"))
        return owners, problems

    # What is shown of them.

    def _objects(self, resources: Iterable[Resource], statuses: Mapping[Key, Status]) -> Iterable[dict[str, Any]]:
        now = timestamp(self._clock.now_ns())
        held = {key: why for accepted in self._accepted.values() for key, why in accepted.held.items()}
        objects = []
        for resource in sorted(resources, key=lambda resource: resource.key):
            if isinstance(resource, Ignored | Secret):
                continue
            key, document = resource.key, resource.document
            record = self._memory.observe(key, spec=_spec_digest(document.value), file=document.file, now=now)
            metadata = {**(document.value.get("metadata") or {}), "name": key.name}
            if key.namespace:
                metadata["namespace"] = key.namespace
            metadata |= {"uid": record.uid, "generation": record.generation, "creationTimestamp": record.created}
            value = {**document.value, "metadata": metadata}
            if key.kind == "Secret":
                value = _hidden(value)
            value.pop("status", None)
            status = statuses.get(key)
            if status is not None:
                status = _with_file_condition(status, held.get(key))
                times = self._memory.transitions(key, status.conditions, now=now)
                value["status"] = status.to_dict(record.generation, times)
            objects.append(value)
        return objects

    def _save(self) -> list[Problem]:
        """A full disk must not keep a plan from being used."""
        try:
            self._memory.save()
        except OSError as exc:
            return [Problem("warning", f"uid and generation of resources cannot be kept: {exc}")]
        return []

    def _forget_deleted(self) -> list[Key]:
        """Forget records of what is gone. Returns the keys that may only be unreadable: their file is, at the moment."""
        unread = {path for path, version in self._latest.items() if version.unreadable}
        held = []
        for key, record in list(self._memory.records.items()):
            if key in self._running:
                continue
            # A path that is not there may be the same file by another name, so in doubt nothing is forgotten.
            if unread and (record.file in unread or record.file not in self._latest):
                held.append(key)
            else:
                self._memory.forget(key)
        return held

    def _known(self, resources: Iterable[Resource], held: Iterable[Key]) -> frozenset[str]:
        """The keys of the plan that they stand for. How many parts a flow has is remembered for when it cannot be read."""
        known: set[str] = set()
        for resource in resources:
            keys = plan_keys(resource)
            known.update(keys)
            record = self._memory.records.get(resource.key)
            if record is None or (len(keys) < 2 and not record.parts):
                continue
            if resource.is_valid:
                record.parts = list(keys)
            known.update(record.parts)
        for key in held:
            known.update(self._memory.records[key].parts or filter(None, (plan_key(key),)))
        return frozenset(known)

    def _bad_files(self) -> dict[str, str]:
        return {
            path: _first_error(version.problems)
            for path, version in sorted(self._latest.items())
            if not version.is_good
        }


def _with_file_condition(status: Status, why: str | None) -> Status:
    if why is None:
        return status
    message = f"the last good version runs on: {why}"
    condition = Condition(LATEST_FILE_VALID, "False", "FileInvalid", message, severity="Info")
    return replace(status, conditions=tuple(sorted((*status.conditions, condition), key=lambda c: c.type)))


def _told(problem: Problem) -> str:
    where = f"{problem.file}:{problem.line}" if problem.line else problem.file
    return f"{where}: {problem.sentence}"


def _first_error(problems: Iterable[Problem]) -> str:
    return next((_told(problem) for problem in problems if problem.severity == "error"), "")


def _loaded(files: Sequence[FileText], resources: Iterable[Resource]) -> Loaded:
    kinds = Counter(resource.key.kind for resource in resources if not isinstance(resource, Ignored))
    return Loaded(len(files), sum(kinds.values()), dict(sorted(kinds.items())))


def _spec_digest(value: Mapping[str, Any]) -> str:
    """Of all that is not metadata or status: labels and annotations do not raise the generation, as in Kubernetes."""
    counted = {name: part for name, part in value.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _hidden(secret: Mapping[str, Any]) -> dict[str, Any]:
    """A Secret as far as anybody may see it: which keys it has."""
    keys = {name: "(hidden)" for part in ("data", "stringData") for name in secret.get(part) or ()}
    return {**{name: value for name, value in secret.items() if name != "stringData"}, "data": keys}
