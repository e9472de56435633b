"""Why an event did not pass, in words. Pure. The words reach the condition, the log and `knit story EVENT_ID`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh.filters.cesql.values import quoted
from mesh.filters.lookup import value_of
from mesh.filters.nodes import (
    CESQL,
    All,
    Any,
    Attributes,
    EntryNode,
    Exact,
    FilterNode,
    Never,
    Not,
    Prefix,
    Suffix,
    is_void,
)

_WORDS = {Exact: "exact", Prefix: "prefix", Suffix: "suffix"}
_MOST = 3


def explain_all(filters: Sequence[FilterNode], attributes: Mapping[str, str]) -> str:
    """The first filter of a Trigger that fails, and why; empty when none does."""
    for position, node in enumerate(filters):
        why = explain(node, attributes)
        if why and isinstance(node, Never):
            return why
        if why:
            return why if isinstance(node, Attributes) else f"filters[{position}].{why}"
    return ""


def explain(node: FilterNode, attributes: Mapping[str, str]) -> str:
    """The path of the part that fails, a colon, and why; empty when nothing fails."""
    if is_void(node):
        return ""
    match node:
        case Attributes(entries):
            return _first("filter.attributes", [_attribute(*entry, attributes) for entry in entries])
        case Exact(entries) | Prefix(entries) | Suffix(entries):
            return _first(_WORDS[type(node)], [_entry(node, *entry, attributes) for entry in entries])
        case All(filters):
            reasons = ((position, explain(child, attributes)) for position, child in enumerate(filters))
            return next((f"all[{position}].{why}" for position, why in reasons if why), "")
        case Any(filters):
            return _any([(i, explain(child, attributes)) for i, child in enumerate(filters) if not is_void(child)])
        case Not(child):
            return "" if explain(child, attributes) else f"not: {describe(child)} holds, and must not"
        case CESQL(_, expression):
            why = expression.explain(attributes)
            return f"cesql: {why}" if why else ""
        case Never(why):
            return why


def describe(node: FilterNode) -> str:
    """A filter on one line, as one would write it in YAML."""
    match node:
        case Attributes(entries):
            return f"attributes {_mapping(entries)}"
        case Exact(entries) | Prefix(entries) | Suffix(entries):
            return f"{_WORDS[type(node)]} {_mapping(entries)}"
        case All(filters):
            return f"all [{', '.join(map(describe, filters))}]"
        case Any(filters):
            return f"any [{', '.join(map(describe, filters))}]"
        case Not(child):
            return f"not {{{describe(child)}}}"
        case CESQL(text, _):
            return f"cesql {quoted(text)}"
        case Never():
            return "a filter that cannot be compiled"


def _first(path: str, reasons: list[str]) -> str:
    return next((f"{path}: {why}" for why in reasons if why), "")


def _mapping(entries: tuple[tuple[str, str], ...]) -> str:
    return "{" + ", ".join(f"{name}: {quoted(value)}" for name, value in entries) + "}"


def _found(name: str, value: str | None) -> str:
    return f"{name} is missing" if value is None else f"{name} is {quoted(value)}"


def _attribute(name: str, wanted: str, attributes: Mapping[str, str]) -> str:
    value = value_of(name, attributes)
    if wanted:
        return "" if value == wanted else f"{_found(name, value)}, wanted {quoted(wanted)}"
    return "" if value else f"{_found(name, value)}, wanted any value that is not empty"


def _entry(node: EntryNode, name: str, wanted: str, attributes: Mapping[str, str]) -> str:
    value = value_of(name, attributes)
    match node:
        case Exact():
            return "" if value == wanted else f"{_found(name, value)}, wanted {quoted(wanted)}"
        case Prefix():
            return (
                ""
                if (value or "").startswith(wanted)
                else f"{_found(name, value)}, wanted one that begins with {quoted(wanted)}"
            )
        case Suffix():
            return (
                ""
                if (value or "").endswith(wanted)
                else f"{_found(name, value)}, wanted one that ends with {quoted(wanted)}"
            )


def _any(reasons: list[tuple[int, str]]) -> str:
    if not all(why for _, why in reasons):
        return ""
    shown = "; ".join(f"[{position}].{why}" for position, why in reasons[:_MOST])
    more = f"; and {len(reasons) - _MOST} more" if len(reasons) > _MOST else ""
    return f"any: none of {len(reasons)} passes: {shown}{more}"
