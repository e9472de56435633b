"""What filters say of an event: one compiled function for a Trigger, with a reason for each no. Pure.

Knative eventing, Trigger filter dialects. A filter passes, fails, or says nothing (None, Knative's NoFilter: an empty
element or value); only a fail keeps an event back, and what says nothing is skipped inside of `all`, `any` and `not`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh.filters.build import build_filters
from mesh.filters.explain import explain_all
from mesh.filters.lookup import DERIVED, value_of
from mesh.filters.nodes import CESQL, All, Any, Attributes, Exact, FilterNode, Never, Not, Prefix, Suffix, is_void
from mesh.filters.source import FunctionWriter, Predicate

__all__ = [
    "CESQL",
    "All",
    "Any",
    "Attributes",
    "CompiledFilter",
    "Exact",
    "FilterNode",
    "Never",
    "Not",
    "Prefix",
    "Suffix",
    "build_filters",
    "compile_filters",
    "passes",
]


def passes(node: FilterNode, attributes: Mapping[str, str]) -> bool | None:  # noqa: C901  # a table: one case each
    """True: the event passes; False: it does not; None: the filter says nothing. The definition; `compile_filters` is fast."""
    match node:
        case _ if is_void(node):
            return None
        case Attributes(entries):
            return all(
                (value_of(name, attributes) or "") == wanted if wanted else bool(value_of(name, attributes))
                for name, wanted in entries
            )
        case Exact(entries):
            return all(value_of(name, attributes) == wanted for name, wanted in entries)
        case Prefix(entries):
            return all((value_of(name, attributes) or "").startswith(wanted) for name, wanted in entries)
        case Suffix(entries):
            return all((value_of(name, attributes) or "").endswith(wanted) for name, wanted in entries)
        case All(filters):
            return all(passes(child, attributes) is not False for child in filters)
        case Any(filters):
            return any(passes(child, attributes) for child in filters)
        case Not(child):
            return not passes(child, attributes)
        case CESQL(_, expression):
            return expression.passes(attributes)
        case Never():
            return False


class CompiledFilter:
    """The filters of one Trigger, all of which must pass. `passes` compiles itself when it is called first."""

    __slots__ = ("filters", "passes")

    def __init__(self, filters: tuple[FilterNode, ...]) -> None:
        self.filters = filters
        self.passes: Predicate = self._compile_and_pass
        """A function of an event's attributes, by lower-case name: does the event go to this Trigger?"""

    def _compile_and_pass(self, attributes: Mapping[str, str]) -> bool:
        self.passes = _predicate(self.filters)
        return self.passes(attributes)

    def explain(self, attributes: Mapping[str, str]) -> str:
        """Which filter said no, and why, such as `filters[0].exact: type is "a", wanted "b"`; empty when the event passes."""
        return explain_all(self.filters, attributes)


def compile_filters(nodes: Sequence[FilterNode]) -> CompiledFilter:
    """Make ready to ask. Cheap: source is generated at the first question."""
    return CompiledFilter(tuple(nodes))


def _predicate(nodes: tuple[FilterNode, ...]) -> Predicate:
    out = FunctionWriter()
    out.line(f"return {_conjunction(out, nodes)}")
    return out.function()


def _conjunction(out: FunctionWriter, nodes: Sequence[FilterNode]) -> str:
    return _joined(" and ", [_emit(out, node) for node in nodes if not is_void(node)])


def _joined(operator: str, terms: list[str]) -> str:
    return f"({operator.join(terms)})" if terms else "True"


def _emit(out: FunctionWriter, node: FilterNode) -> str:
    """The source of a boolean expression. The node is not void."""
    match node:
        case Attributes(entries):
            return _joined(" and ", [_emit_attribute(out, name, wanted) for name, wanted in entries])
        case Exact(entries):
            return _joined(" and ", [f"{_value(out, name)} == {out.constant(wanted)}" for name, wanted in entries])
        case Prefix(entries):
            return _joined(
                " and ", [f"({_value(out, name)} or '').startswith({out.constant(wanted)})" for name, wanted in entries]
            )
        case Suffix(entries):
            return _joined(
                " and ", [f"({_value(out, name)} or '').endswith({out.constant(wanted)})" for name, wanted in entries]
            )
        case All(filters):
            return _conjunction(out, filters)
        case Any(filters):
            return _joined(" or ", [_emit(out, child) for child in filters if not is_void(child)])
        case Not(child):
            return f"(not {_emit(out, child)})"
        case CESQL(_, expression):
            return f"{out.constant(expression.as_filter())}(a)"
        case Never():
            return "False"


def _value(out: FunctionWriter, name: str) -> str:
    constant = out.constant(name)
    return f"{out.constant(value_of)}({constant}, a)" if name in DERIVED else f"g({constant})"


def _emit_attribute(out: FunctionWriter, name: str, wanted: str) -> str:
    value = _value(out, name)
    return f"{value} == {out.constant(wanted)}" if wanted else f"bool({value})"
