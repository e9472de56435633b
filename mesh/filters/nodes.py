"""Trigger filters as values. Pure, picklable. Knative eventing, Trigger `spec.filter` and `spec.filters`."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.filters.cesql import Expression


@dataclass(frozen=True, slots=True)
class Attributes:
    """The older `filter.attributes`: all must be equal; an empty value asks that the attribute is there and not empty."""

    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Exact:
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Prefix:
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Suffix:
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class All:
    filters: tuple[FilterNode, ...]


@dataclass(frozen=True, slots=True)
class Any:
    filters: tuple[FilterNode, ...]


@dataclass(frozen=True, slots=True)
class Not:
    filter: FilterNode


@dataclass(frozen=True, slots=True)
class CESQL:
    text: str
    expression: Expression


@dataclass(frozen=True, slots=True)
class Never:
    """What a filter that cannot be compiled becomes: nothing passes. A broken filter must not become no filter.

    It stands for a whole element of `spec.filters`, never inside of `not`, where it would let everything pass.
    """

    why: str


FilterNode = Attributes | Exact | Prefix | Suffix | All | Any | Not | CESQL | Never
EntryNode = Exact | Prefix | Suffix


def is_void(node: FilterNode) -> bool:
    """Whether the node says nothing of any event, so that it is skipped wherever it stands (Knative's NoFilter).

    So are dialects without entries, a dialect with an empty name or value as a whole, `all` and `any` without a filter
    that says something, and `not` of such a one. Knative logs and skips these; measured on its filter package.
    """
    match node:
        case Exact(entries) | Prefix(entries) | Suffix(entries):
            return not entries or any(not name or not value for name, value in entries)
        case All(filters) | Any(filters):
            return all(is_void(child) for child in filters)
        case Not(child):
            return is_void(child)
        case Attributes() | CESQL() | Never():
            return False
