"""Turns an expression into the source of a Python function that says whether an event passes. Pure.

In a filter every attribute is text and every error means no, so all types are known beforehand, and each error is a
`return False` on the spot. `evaluate.py` is the definition; a property test holds the two together.
"""

from __future__ import annotations

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
)
from mesh.filters.cesql.evaluate import REQUIRED
from mesh.filters.cesql.functions import Failed, function_for
from mesh.filters.cesql.like import matcher, pattern_of
from mesh.filters.cesql.values import Type, arithmetic, cast, in_range, to_boolean, to_integer, to_text
from mesh.filters.source import FunctionWriter, Predicate

# A piece of source that names a value (a variable, a constant or a cheap expression), and the type of that value.
Operand = tuple[str, Type]


def predicate(node: Node) -> Predicate:
    """A function of an event's attributes: True where the result is exactly true and no error arose."""
    out = FunctionWriter()
    name, kind = _emit(out, node)
    out.line(f"return {name}" if kind is bool else "return False")
    return out.function()


def _emit(out: FunctionWriter, node: Node) -> Operand:  # noqa: C901  # a table: one case for each kind of node
    """Write the statements that compute this node; the operand they leave behind is used once."""
    match node:
        case Literal(value):
            return out.constant(value), type(value)
        case Attribute(name):
            found = _assign(out, f"g({out.constant(name)})")
            out.line(f"if {found} is None: return False")
            return found, str
        case Exists(name):
            return ("True" if name in REQUIRED else f"({out.constant(name)} in a)"), bool
        case Not(operand):
            return f"(not {_emit_as(out, operand, bool)})", bool
        case Negate(operand):
            return _checked(out, f"{out.constant(in_range)}(-{_emit_as(out, operand, int)})"), int
        case Like(operand, pattern):
            return _emit_like(out, operand, pattern), bool
        case In():
            return _emit_in(out, node), bool
        case Arithmetic(operator, left, right):
            x, y = _emit_both(out, left, right)
            return _checked(out, f"{out.constant(arithmetic)}({out.constant(operator)}, {x}, {y})"), int
        case Compare():
            return _emit_compare(out, node), bool
        case Logic():
            return _emit_logic(out, node), bool
        case Call():
            return _emit_call(out, node)


def _assign(out: FunctionWriter, expression: str) -> str:
    name = out.variable()
    out.line(f"{name} = {expression}")
    return name


def _checked(out: FunctionWriter, expression: str) -> str:
    """A variable for a result that is None where there is none."""
    name = _assign(out, expression)
    out.line(f"if {name} is None: return False")
    return name


def _cast(out: FunctionWriter, operand: Operand, target: Type) -> str:
    name, kind = operand
    if kind is target:
        return name
    if target is str:
        return f"{out.constant(to_text)}({name})"
    if kind is str:
        return _checked(out, f"{out.constant(to_integer if target is int else to_boolean)}({name})")
    return f"int({name})" if target is int else f"({name} != 0)"


def _emit_as(out: FunctionWriter, node: Node, target: Type) -> str:
    return _cast(out, _emit(out, node), target)


def _emit_both(out: FunctionWriter, left: Node, right: Node) -> tuple[str, str]:
    return _emit_as(out, left, int), _emit_as(out, right, int)


def _emit_compare(out: FunctionWriter, node: Compare) -> str:
    if node.operator not in {"=", "!="}:
        x, y = _emit_both(out, node.left, node.right)
        return f"({x} {node.operator} {y})"
    left = _emit(out, node.left)
    right, kind = _emit(out, node.right)
    return f"({_cast(out, left, kind)} {'==' if node.operator == '=' else '!='} {right})"


def _emit_like(out: FunctionWriter, operand: Node, text: str) -> str:
    value, pattern = _emit_as(out, operand, str), pattern_of(text)
    if pattern.is_prefix:
        return f"{value}.startswith({out.constant(pattern.prefix)})"
    if pattern.is_suffix:
        return f"{value}.endswith({out.constant(pattern.suffix)})"
    if pattern.whole is not None:
        return f"({value} == {out.constant(pattern.whole)})"
    return f"{out.constant(matcher(pattern))}({value})"


def _emit_in(out: FunctionWriter, node: In) -> str:
    left, kind = _emit(out, node.operand)
    if kind is str and all(isinstance(element, Literal) for element in node.elements):
        # Every literal can be cast to text, so no element can fail: one look into a set.
        texts = frozenset(cast(element.value, str)[0] for element in node.elements if isinstance(element, Literal))
        return f"({left} in {out.constant(texts)})"
    left = _assign(out, left)
    hit = _assign(out, "False")
    for element in node.elements:
        with out.block(f"if not {hit}:"):
            out.line(f"{hit} = {left} == {_emit_as(out, element, kind)}")
    return hit


def _emit_logic(out: FunctionWriter, node: Logic) -> str:
    """One variable, one `if` for each further operand: a chain of a thousand is no deeper than a chain of two."""
    value = _assign(out, _emit_as(out, node.first, bool))
    for operator, operand in node.rest:
        if operator == "XOR":
            out.line(f"{value} = {value} != {_emit_as(out, operand, bool)}")
            continue
        with out.block(f"if {value}:" if operator == "AND" else f"if not {value}:"):
            out.line(f"{value} = {_emit_as(out, operand, bool)}")
    return value


def _emit_call(out: FunctionWriter, node: Call) -> Operand:
    function = function_for(node.name, len(node.arguments))
    if function is None:
        out.line("return False")
        return "False", bool
    arguments: list[str] = []
    for position, argument in enumerate(node.arguments):
        wanted = function.parameter(position)
        operand = _emit(out, argument)
        arguments.append(operand[0] if wanted is None else _cast(out, operand, wanted))
    made = f"{out.constant(function.run)}({', '.join(arguments)})"
    if function.can_fail:
        made = _assign(out, made)
        out.line(f"if {made}.__class__ is {out.constant(Failed)}: return False")
    return made, function.returns
