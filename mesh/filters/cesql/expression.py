"""A CloudEvents SQL expression that is ready to be asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.filters.cesql.ast import Node, calls
from mesh.filters.cesql.evaluate import Attributes, evaluate
from mesh.filters.cesql.functions import advice, function_for, missing
from mesh.filters.cesql.generate import predicate
from mesh.filters.cesql.parse import parse
from mesh.filters.cesql.values import Result, to_text
from mesh.filters.source import Predicate


class Expression:
    """An expression: text and tree. Equal texts are equal expressions. Travels between processes as its tree."""

    __slots__ = ("_passes", "text", "tree")

    def __init__(self, text: str, tree: Node) -> None:
        self.text = text
        self.tree = tree
        self._passes: Predicate | None = None

    def evaluate(self, attributes: Attributes) -> Result:
        """The value and the first problem, or None. Attributes are text, integers or booleans by lower-case name."""
        return evaluate(self.tree, attributes)

    def as_filter(self) -> Predicate:
        """A function of an event's attributes (all text) that is True where the result is exactly true, without error."""
        if self._passes is None:
            self._passes = predicate(self.tree)
        return self._passes

    def passes(self, attributes: Mapping[str, str]) -> bool:
        return self.as_filter()(attributes)

    def explain(self, attributes: Mapping[str, str]) -> str:
        """Why an event does not pass, such as `attribute subject is missing`; empty when it does."""
        value, problem = evaluate(self.tree, attributes)
        if problem is not None:
            return problem.why
        if value is True:
            return ""
        return "the result is false" if value is False else f"the result is {to_text(value)}, not a boolean"

    def unknown_functions(self) -> list[str]:
        """Calls that nothing answers, as NAME/ARITY, such as `HASPREFIX/2`: where one is reached, nothing ever passes."""
        return [
            f"{call.name}/{len(call.arguments)}" for call in calls(self.tree) if _is_unknown(call.name, call.arguments)
        ]

    def advice(self) -> list[tuple[str, str]]:
        """For each unknown function a sentence and what to write instead, in the order of `unknown_functions`."""
        unknown = [call for call in calls(self.tree) if _is_unknown(call.name, call.arguments)]
        return [(missing(call.name, len(call.arguments)), advice(call)) for call in unknown]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> tuple[type[Expression], tuple[str, Node]]:
        return Expression, (self.text, self.tree)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def _is_unknown(name: str, arguments: tuple[Node, ...]) -> bool:
    return function_for(name, len(arguments)) is None


def compile_expression(text: str) -> Expression:
    """Read an expression.

    Raises:
        ParseError: a FilterError with `.kind` "parse", `.position` (offset from 0) and a text that says what to change.
    """
    return Expression(text, parse(text))
