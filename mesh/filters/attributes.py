"""Reads `spec.filter.attributes` of a Trigger, the older filter, and all other mappings of attributes to texts. Pure.

Knative eventing, Trigger `spec.filter`: all entries must be equal, case counts, a missing attribute is no match. An empty
value asks, as in Knative's multi-tenant broker, that the attribute is there and not empty (its Kafka broker skips such an
entry, its specification lets an empty attribute pass). An attribute that an event does not have is never there; the
multi-tenant broker, by accident, takes a missing `time` for one that is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mesh.filters.nodes import Attributes, FilterNode, Never

_NAME = re.compile(r"[a-z][a-z0-9]*")
_YAML_WORDS = {True: "yes, on and true", False: "no, off and false"}


class FilterProblem(NamedTuple):
    """path: the field, such as `spec.filters[0].exact.type`; hint: what to write instead, or empty."""

    path: str
    message: str
    hint: str


Built = tuple[tuple[FilterNode, ...], list[FilterProblem]]


def build_attributes(value: object, path: str) -> Built:
    """The one filter of a Trigger's `spec.filter.attributes`, or none where it is empty, and all that is wrong with it."""
    if value is None or value == {}:
        return (), []
    entries, problems = read_entries(value, path)
    node: FilterNode = Never(sentence(problems)) if problems else Attributes(entries)
    return (node,), problems


def read_entries(value: object, path: str) -> tuple[tuple[tuple[str, str], ...], list[FilterProblem]]:
    """A mapping of attribute names to texts as pairs, and all that is wrong with it."""
    if value is None:
        return (), []
    if not isinstance(value, Mapping):
        message = f"must be a mapping of attribute names to strings, got {named(value)}"
        return (), [FilterProblem(path, message, "such as {type: com.example.order}")]
    problems: list[FilterProblem] = []
    for name, wanted in value.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            problems.append(_bad_name(name, path))
        if not isinstance(wanted, str):
            problems.append(FilterProblem(f"{path}.{name}", f"must be a string, got {named(wanted)}", quoting(wanted)))
    return tuple((str(name), str(wanted)) for name, wanted in value.items()), problems


def _bad_name(name: object, path: str) -> FilterProblem:
    text = str(name).lower() if isinstance(name, bool) else str(name)
    plain = re.sub("[^a-z0-9]", "", text.lower().removeprefix("ce-"))
    if isinstance(name, bool):
        hint = f"quote the name (YAML reads {_YAML_WORDS[name]} as a boolean)"
    elif text == "data" or text.startswith("data."):
        hint = "the data of an event is not visible to filters"
    else:
        hint = f"did you mean {plain}" if _NAME.fullmatch(plain) else ""
    message = f'"{text}" is no attribute name: a letter, then letters and digits, all in lower case'
    return FilterProblem(f"{path}.{text}", message, hint)


def sentence(problems: Sequence[FilterProblem]) -> str:
    """Paths and messages on one line: what a condition and an explanation say."""
    return "; ".join(f"{problem.path}: {problem.message}" for problem in problems)


def named(value: object) -> str:
    """A value for a message, by the name that YAML has for it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return "a string"
        case list():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return f"the {type(value).__name__} {value}"


def quoting(value: object) -> str:
    """How the value is written so that YAML reads a string."""
    match value:
        case None:
            return 'quote it: "" (YAML reads an empty value and null as nothing)'
        case bool():
            return f'quote it, such as "{str(value).lower()}" (YAML reads {_YAML_WORDS[value]} as a boolean)'
        case int() | float():
            return f'quote it: "{value}" (YAML reads {value} as a number)'
        case list() | Mapping():
            return ""
        case _:
            return "quote it (YAML reads it as a date)"
