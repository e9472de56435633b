"""A CloudEvents SQL expression as a tree of values. Pure, picklable. CESQL 1.0, section 2."""

from __future__ import annotations

from dataclasses import dataclass

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Literal:
    value: Value


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str


@dataclass(frozen=True, slots=True)
class Exists:
    name: str


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class Negate:
    operand: Node


@dataclass(frozen=True, slots=True)
class Like:
    """`pattern` is the text between the quotes; `%` and `_` may stand behind a backslash in it."""

    operand: Node
    pattern: str


@dataclass(frozen=True, slots=True)
class In:
    operand: Node
    elements: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """operator: one of `* / % + -`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Compare:
    """operator: one of `= != < <= > >=`; `<>` is written as `!=`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic:
    """A chain of AND, OR, XOR, evaluated from left to right; a chain and not a tree, so that a long one is not deep.

    rest: (AND | OR | XOR, operand) pairs, at least one.
    """

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """name: in upper case."""

    name: str
    arguments: tuple[Node, ...]


Node = Literal | Attribute | Exists | Not | Negate | Like | In | Arithmetic | Compare | Logic | Call


def children(node: Node) -> tuple[Node, ...]:
    """The operands right below this node."""
    match node:
        case Literal() | Attribute() | Exists():
            return ()
        case Not(operand) | Negate(operand) | Like(operand, _):
            return (operand,)
        case In(operand, elements):
            return (operand, *elements)
        case Arithmetic(_, left, right) | Compare(_, left, right):
            return (left, right)
        case Logic(first, rest):
            return (first, *(operand for _, operand in rest))
        case Call(_, arguments):
            return arguments


def depth(node: Node) -> int:
    """How many nodes stand above each other at the deepest place. Not recursive, so any tree can be measured."""
    level: tuple[Node, ...] = (node,)
    deep = 0
    while level:
        deep += 1
        level = tuple(child for parent in level for child in children(parent))
    return deep


def calls(node: Node) -> list[Call]:
    """All function calls of the tree, the outer ones first."""
    below = [call for child in children(node) for call in calls(child)]
    return [node, *below] if isinstance(node, Call) else below
