"""What all resources have: key, metadata, conditions. Pure. Eventing reference: conditions, child naming, immutability."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mesh.resources.documents import Document
from mesh.resources.problem import Problem

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Identity of a resource; the version does not belong to it. `group` is "" for the core group."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Metadata:
    """generation and uid are 0 and "" where the world has not given any."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0
    uid: str = ""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """The base of the typed ones. `problems` holds what decoding found; with an error in it the resource is not served."""

    key: Key
    api_version: str
    metadata: Metadata
    document: Document
    problems: tuple[Problem, ...] = ()

    @property
    def is_valid(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)

    def immutable(self) -> Mapping[str, Any]:
        """The fields that an update must leave alone, by path, as they were written (§17.8 of the reference)."""
        return {}

    def problem(
        self, message: str, *, path: str = "", hint: str = "", severity: Literal["error", "warning"] = "error"
    ) -> Problem:
        """A Problem of this resource, with its file and line."""
        document = self.document
        return Problem(severity, message, path, hint, document.file, document.line_of(path), str(self.key))


@dataclass(frozen=True, kw_only=True)
class Ignored(Resource):
    """An object that this version does not serve; `reason` says why."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """severity "" counts for Ready; `Info` and `Warning` are reported only."""

    type: str
    status: ConditionStatus
    reason: str = ""
    message: str = ""
    severity: str = ""

    def to_dict(self) -> dict[str, str]:
        written = {"type": self.type, "status": self.status}
        if self.reason:
            written["reason"] = self.reason
        if self.message:
            written["message"] = self.message
        if self.severity:
            written["severity"] = self.severity
        return written


UNDECIDED = Condition("Ready", "Unknown")


@dataclass(frozen=True, slots=True)
class Status:
    """conditions: sorted by type, as Knative writes them. fields: the rest of `status`, named as there."""

    conditions: tuple[Condition, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ready(self) -> Condition:
        return self.condition("Ready") or UNDECIDED

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def to_dict(
        self, observed_generation: int = 0, transition_times: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The status object as Knative writes it. transition_times: condition type → RFC 3339, seconds, UTC."""
        times = transition_times or {}
        conditions = []
        for condition in self.conditions:
            written = condition.to_dict()
            if condition.type in times:
                written["lastTransitionTime"] = times[condition.type]
            conditions.append(written)
        return {"observedGeneration": observed_generation, "conditions": conditions, **self.fields}


def happy(dependents: Sequence[Condition]) -> Condition:
    """Ready out of its dependents: any False → False, else any Unknown → Unknown, with that one's reason and message."""
    counted = [condition for condition in dependents if not condition.severity]
    for status in ("False", "Unknown"):
        for condition in counted:
            if condition.status == status:
                return Condition("Ready", condition.status, condition.reason, condition.message)
    return Condition("Ready", "True")


_LONGEST = 63
_MD5 = 32


def child_name(parent: str, suffix: str) -> str:
    """The name of an object that belongs to `parent`, at most 63 bytes: kmeta.ChildName, byte for byte.

    Dashboards and topics are named so; a long name is cut and told apart by an MD5.
    """
    name = parent + suffix
    if len(parent) <= _LONGEST - len(suffix):
        return name
    head = _LONGEST - _MD5
    if head > len(suffix):
        digest = hashlib.md5(parent.encode(), usedforsecurity=False).hexdigest()
        return parent[: head - len(suffix)] + digest + suffix
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    name = (parent[:head] + digest + suffix)[:_LONGEST]
    while not name[-1].isalnum():
        name = name[:-1]
    return name


def check_update(old: Resource, new: Resource) -> list[Problem]:
    """What in `new` changes a field that may not change, in the words of Knative's webhook. Empty: the update is fine."""
    before, after = old.immutable(), new.immutable()
    problems = []
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was != now:
            problems.append(
                new.problem(
                    f"Immutable field changed (-old +new): -{_told(was)} +{_told(now)}",
                    path=path,
                    hint="delete the object and create it again, or give it another name",
                )
            )
    return problems


def _told(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_told(inner)}" for key, inner in sorted(value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_told(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "nothing" if value is None else str(value)
