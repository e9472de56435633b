"""Reads `spec.filters` of a Trigger, and says everything that is wrong with it at once. Pure.

Knative eventing, Trigger filters. An element with a problem anywhere inside becomes `Never` as a whole: a broken filter
must not become no filter, nor the other way round inside of `not`. Empty elements and values are no problem: they say
nothing of any event, as in Knative.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from mesh.filters.attributes import Built, FilterProblem, named, quoting, read_entries, sentence
from mesh.filters.cesql import ParseError, compile_expression
from mesh.filters.nodes import CESQL, All, Any, Exact, FilterNode, Never, Not, Prefix, Suffix

MAX_DEPTH = 40
"""Filters nested deeper are refused; Python compiles no more than 100 nested brackets."""

_ENTRIES: dict[str, type[Exact] | type[Prefix] | type[Suffix]] = {"exact": Exact, "prefix": Prefix, "suffix": Suffix}
_LISTS: dict[str, type[All] | type[Any]] = {"all": All, "any": Any}
_YAML_BOOLEANS = frozenset({"yes", "no", "on", "off", "true", "false", "null"})
_DIALECTS = [*_ENTRIES, *_LISTS, "not", "cesql"]
_OTHER_DIALECTS = {"sql": "cesql", "and": "all", "or": "any", "none": "not", "equals": "exact", "attributes": "exact"}


def build_filters(value: object, path: str) -> Built:
    """The filters of a Trigger's `spec.filters`, and all that is wrong with them. `path`: where the value stands."""
    if value is None:
        return (), []
    if not isinstance(value, list):
        problem = FilterProblem(path, f"must be a list of filters, got {named(value)}", _as_list(value, path))
        return (Never(sentence([problem])),), [problem]
    nodes: list[FilterNode] = []
    problems: list[FilterProblem] = []
    for position, element in enumerate(value):
        reader = _Reader()
        node = reader.element(element, f"{path}[{position}]", 1)
        nodes.append(Never(sentence(reader.problems)) if reader.problems else node)
        problems += reader.problems
    return tuple(nodes), problems


class _Reader:
    """Reads one element and collects its problems. What it returns is of use only where there are none."""

    def __init__(self) -> None:
        self.problems: list[FilterProblem] = []

    def element(self, value: object, path: str, depth: int) -> FilterNode:
        if depth > MAX_DEPTH:
            return self._refuse(path, f"filters are nested more than {MAX_DEPTH} levels deep", "")
        if not isinstance(value, Mapping):
            hint = f"- cesql: {value}" if isinstance(value, str) else "- exact: {type: com.example.order}"
            return self._refuse(path, f"must be a mapping of one dialect to its value, got {named(value)}", hint)
        if not value:
            return All(())
        if len(value) > 1:
            hint = f"one dialect an element: {'; '.join(f'- {name}: …' for name in value)}"
            return self._refuse(path, f"more than one dialect in one element: {', '.join(map(str, value))}", hint)
        ((dialect, inner),) = value.items()
        return self._dialect(str(dialect), inner, path, depth)

    def _dialect(self, dialect: str, value: object, path: str, depth: int) -> FilterNode:
        inner_path = f"{path}.{dialect}"
        if dialect in _ENTRIES:
            return _ENTRIES[dialect](self._entries(value, inner_path))
        if dialect in _LISTS:
            return _LISTS[dialect](self._elements(value, inner_path, depth))
        if dialect == "not":
            return self._not(value, inner_path, depth)
        if dialect == "cesql":
            return self._cesql(value, inner_path)
        return self._refuse(inner_path, f'unknown dialect "{dialect}"', _near_dialect(dialect))

    def _entries(self, value: object, path: str) -> tuple[tuple[str, str], ...]:
        entries, problems = read_entries(value, path)
        self.problems += problems
        return entries

    def _elements(self, value: object, path: str, depth: int) -> tuple[FilterNode, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self._refuse(path, f"must be a list of filters, got {named(value)}", _as_list(value, path))
            return ()
        return tuple(self.element(inner, f"{path}[{i}]", depth + 1) for i, inner in enumerate(value))

    def _not(self, value: object, path: str, depth: int) -> FilterNode:
        if value is None:
            return All(())
        if isinstance(value, list):
            hint = "to deny several, write not: {any: […]}"
            return self._refuse(path, "must be a single filter, got a list", hint)
        return Not(self.element(value, path, depth + 1))

    def _cesql(self, value: object, path: str) -> FilterNode:
        if value is None or value == "":
            return All(())
        if not isinstance(value, str):
            return self._refuse(path, f"must be a string, got {named(value)}", quoting(value))
        try:
            expression = compile_expression(value)
        except ParseError as error:
            return self._refuse(path, str(error), "")
        for why, hint in expression.advice():
            self._refuse(path, why, hint)
        return CESQL(value, expression)

    def _refuse(self, path: str, message: str, hint: str) -> FilterNode:
        self.problems.append(FilterProblem(path, message, hint))
        return Never(message)


def _as_list(value: object, path: str) -> str:
    """The same filter as a list of one-dialect elements."""
    name = path.rpartition(".")[2]
    if not isinstance(value, Mapping) or not value:
        return f"{name}: [{{exact: {{type: com.example.order}}}}]"
    elements = ", ".join(f"{{{dialect}: {_flow(inner)}}}" for dialect, inner in value.items())
    return f"as a list: {name}: [{elements}]"


def _flow(value: object) -> str:
    """A value in YAML's flow style."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str() if re.fullmatch(r"[A-Za-z/][\w./-]*", value) and value.lower() not in _YAML_BOOLEANS:
            return value
        case str():
            return "'" + value.replace("'", "''") + "'"
        case _:
            return "" if value is None else str(value).lower()


def _near_dialect(dialect: str) -> str:
    lower = dialect.lower()
    near = [_OTHER_DIALECTS[lower]] if lower in _OTHER_DIALECTS else get_close_matches(lower, _DIALECTS, n=1)
    return f"did you mean {near[0]}" if near else f"the dialects are {', '.join(_DIALECTS)}"
