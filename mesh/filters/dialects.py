"""Trigger filters as values, and what they say of an event. Pure."""

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
    """What a filter that cannot be compiled becomes: nothing passes. A broken filter must not become no filter."""

    why: str


FilterNode = Attributes | Exact | Prefix | Suffix | All | Any | Not | CESQL | Never
