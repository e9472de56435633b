"""What an expression says of an event: the definition, one case for each kind of node. Pure. CESQL 1.0, section 3.

Fail-fast, as the specification wants it for filters: the first problem ends the evaluation, and each operator above it
gives the zero value of its own type. `generate.py` says the same faster; a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesh.filters.cesql.ast import (
    Arithmetic,
    Attribute,
    Call,
    Compare,
    Exists,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Node,
    Not,
    Value,
)
from mesh.filters.cesql.functions import Failed, function_for, missing
from mesh.filters.cesql.like import matcher, pattern_of
from mesh.filters.cesql.values import Problem, Result, Type, arithmetic, cast, in_range

Attributes = Mapping[str, Value]

# Every event has these (CloudEvents 1.0, required attributes).
REQUIRED = frozenset({"specversion", "id", "source", "type"})
_ORDER: dict[str, Callable[[int, int], bool]] = {
    "<": int.__lt__,
    "<=": int.__le__,
    ">": int.__gt__,
    ">=": int.__ge__,
}


def evaluate(node: Node, attributes: Attributes) -> Result:  # noqa: C901  # a table: one case for each kind of node
    """The value, and the first problem that arose."""
    match node:
        case Literal(value):
            return value, None
        case Attribute(name):
            found = attributes.get(name)
            return (
                (False, Problem("missingAttribute", f"attribute {name} is missing")) if found is None else (found, None)
            )
        case Exists(name):
            return name in REQUIRED or name in attributes, None
        case Not(operand):
            value, problem = _as(bool, operand, attributes)
            return problem is None and not value, problem
        case Negate(operand):
            value, problem = _as(int, operand, attributes)
            return (0, problem) if problem is not None else _number(in_range(-int(value)), "-", 0, int(value))
        case Like(operand, pattern):
            value, problem = _as(str, operand, attributes)
            return problem is None and matcher(pattern_of(pattern))(str(value)), problem
        case In():
            return _in(node, attributes)
        case Arithmetic():
            return _arithmetic(node, attributes)
        case Compare(operator, _, _):
            return _equal(node, attributes) if operator in {"=", "!="} else _order(node, attributes)
        case Logic():
            return _logic(node, attributes)
        case Call():
            return _call(node, attributes)


def _as(target: Type, node: Node, attributes: Attributes) -> Result:
    value, problem = evaluate(node, attributes)
    return (target(), problem) if problem is not None else cast(value, target)


def _number(number: int | None, operator: str, left: int, right: int) -> Result:
    if number is not None:
        return number, None
    why = "is a division by zero" if operator in {"/", "%"} and right == 0 else "has more than 32 bits"
    return 0, Problem("math", f"{left} {operator} {right} {why}")


def _arithmetic(node: Arithmetic, attributes: Attributes) -> Result:
    left, right, problem = _integers(node.left, node.right, attributes)
    if problem is not None:
        return 0, problem
    return _number(arithmetic(node.operator, left, right), node.operator, left, right)


def _integers(left: Node, right: Node, attributes: Attributes) -> tuple[int, int, Problem | None]:
    """Both operands as integers. Both are evaluated before the first cast: a missing attribute wins over a bad number."""
    x, problem = evaluate(left, attributes)
    if problem is None:
        y, problem = evaluate(right, attributes)
        if problem is None:
            x, problem = cast(x, int)
            if problem is None:
                y, problem = cast(y, int)
                return int(x), int(y), problem
    return 0, 0, problem


def _equal(node: Compare, attributes: Attributes) -> Result:
    """Ambiguous operators take the type of their RIGHT operand (CESQL 3.7)."""
    left, problem = evaluate(node.left, attributes)
    if problem is not None:
        return False, problem
    right, problem = evaluate(node.right, attributes)
    if problem is not None:
        return False, problem
    left, problem = cast(left, type(right))
    return problem is None and (left == right) == (node.operator == "="), problem


def _order(node: Compare, attributes: Attributes) -> Result:
    left, right, problem = _integers(node.left, node.right, attributes)
    return problem is None and _ORDER[node.operator](left, right), problem


def _in(node: In, attributes: Attributes) -> Result:
    """The elements take the type of the LEFT operand (CESQL 3.4.5); what follows a hit is not evaluated."""
    left, problem = evaluate(node.operand, attributes)
    if problem is not None:
        return False, problem
    for element in node.elements:
        right, problem = _as(type(left), element, attributes)
        if problem is not None:
            return False, problem
        if left == right:
            return True, None
    return False, None


def _logic(node: Logic, attributes: Attributes) -> Result:
    value, problem = _as(bool, node.first, attributes)
    for operator, operand in node.rest:
        if problem is not None:
            return False, problem
        if (operator == "AND" and not value) or (operator == "OR" and value):
            continue
        right, problem = _as(bool, operand, attributes)
        value = value != right if operator == "XOR" else right
    return problem is None and value, problem


def _call(node: Call, attributes: Attributes) -> Result:
    function = function_for(node.name, len(node.arguments))
    if function is None:
        return False, Problem("missingFunction", missing(node.name, len(node.arguments)))
    arguments: list[Value] = []
    for position, argument in enumerate(node.arguments):
        wanted = function.parameter(position)
        value, problem = evaluate(argument, attributes) if wanted is None else _as(wanted, argument, attributes)
        if problem is not None:
            return function.returns(), problem
        arguments.append(value)
    made = function.run(*arguments)
    return (made.value, made.problem) if isinstance(made, Failed) else (made, None)
