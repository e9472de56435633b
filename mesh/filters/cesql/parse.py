"""Reads the text of a CloudEvents SQL expression into a tree. Pure; the one owner of lark. CESQL 1.0, section 2.

lark is imported when the first text is parsed, not with this module: workers get parsed expressions and never need it.
Where we differ from the specification's ANTLR grammar, on purpose: AND, OR and XOR chains go from left to right, as
section 3.6 has it (the ANTLR file says right to left); `hop-1` is a subtraction, not two operands side by side.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, cast

from mesh.errors import FilterError
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
    children,
    depth,
)
from mesh.filters.cesql.mistakes import reason
from mesh.filters.cesql.values import INT_MAX, quoted

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.exceptions import UnexpectedInput

MAX_CHARACTERS = 65_536
"""A longer text is refused: nobody wrote it by hand."""
MAX_DEPTH = 80
"""Deeper trees are refused. Python compiles no more than 100 levels of indentation, and the evaluation recurses."""

_STRING = r"""'(?:\\.|''|[^'\\])*'|"(?:\\.|\"\"|[^"\\])*\""""
_BRACKET = re.compile(rf"{_STRING}|[()]", re.DOTALL)
_TOO_LARGE = str(INT_MAX + 1)

GRAMMAR = r"""
?start: logic
?logic: comparison (LOGIC comparison)*
?comparison: sum | comparison COMPARE sum
?sum: product | sum (PLUS | MINUS) product -> arithmetic
?product: postfix | product (STAR | SLASH | PERCENT) postfix -> arithmetic
?postfix: unary
    | postfix LIKE STRING -> like
    | postfix NOT LIKE STRING -> not_like
    | postfix IN set -> contained
    | postfix NOT IN set -> not_contained
?unary: primary
    | NOT unary -> negation
    | MINUS unary -> minus
?primary: "(" logic ")"
    | NAME "(" [logic ("," logic)*] ")" -> call
    | EXISTS NAME -> exists
    | NAME -> attribute
    | PLUS? INTEGER -> integer
    | STRING -> string
    | TRUE -> true
    | FALSE -> false
set: "(" logic ("," logic)* ")"

LOGIC.2: /(AND|OR|XOR)(?![A-Za-z0-9_])/i
NOT.2: /NOT(?![A-Za-z0-9_])/i
LIKE.2: /LIKE(?![A-Za-z0-9_])/i
IN.2: /IN(?![A-Za-z0-9_])/i
EXISTS.2: /EXISTS(?![A-Za-z0-9_])/i
TRUE.2: /TRUE(?![A-Za-z0-9_])/i
FALSE.2: /FALSE(?![A-Za-z0-9_])/i
INTEGER.1: /[0-9]+(?![A-Za-z0-9_])/
NAME: /[A-Za-z0-9_]+/
COMPARE: /!=|<>|<=|>=|=|<|>/
STRING: /'(?:\\.|''|[^'\\])*'|"(?:\\.|""|[^"\\])*"/s
PLUS: "+"
MINUS: "-"
STAR: "*"
SLASH: "/"
PERCENT: "%"
%ignore /[ \t\r\n]+/
"""


class ParseError(FilterError):
    """The text is no CloudEvents SQL. position: offset of the first character that does not fit, from 0."""

    kind = "parse"

    def __init__(self, text: str, position: int, why: str) -> None:
        super().__init__(f"{_place(text, position)}: {why}")
        self.position = position
        self.why = why


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        ParseError: the text is no expression, or longer than MAX_CHARACTERS, or nested deeper than MAX_DEPTH.
    """
    if len(text) > MAX_CHARACTERS:
        raise ParseError(
            text, MAX_CHARACTERS, f"the expression has {len(text)} characters, {MAX_CHARACTERS} is the most"
        )
    if not text.strip():
        raise ParseError(text, 0, "the expression is empty")
    _check_brackets(text)
    tree = _parse(text)
    if _holds_too_large(tree):
        raise ParseError(text, text.index(_TOO_LARGE), f'"{_TOO_LARGE}" has more than 32 bits')
    deep = depth(tree)
    if deep > MAX_DEPTH:
        raise ParseError(text, 0, f"the expression is nested {deep} levels deep, {MAX_DEPTH} is the most")
    return tree


def _parse(text: str) -> Node:
    from lark.exceptions import UnexpectedInput  # noqa: PLC0415  # see the docstring of this module

    try:
        return cast("Node", _parser().parse(text))
    except UnexpectedInput as error:
        raise _unexpected(text, error) from None
    except _MeaningError as error:
        raise ParseError(text, error.position, error.why) from None


@cache
def _parser() -> Lark:
    from lark import Lark, Transformer  # noqa: PLC0415  # see the docstring of this module

    builder = type("Builder", (_Builder, Transformer), {})
    return Lark(GRAMMAR, parser="lalr", lexer="basic", transformer=builder(), maybe_placeholders=False)


class _MeaningError(Exception):
    """A token is well formed and means nothing."""

    def __init__(self, token: Token, why: str) -> None:
        super().__init__(why)
        self.position = token.start_pos or 0
        self.why = why


class _Builder:
    """Makes nodes bottom-up while the parser runs, so nothing recurses over the text. One method for each rule's name."""

    def logic(self, items: list[Node | Token]) -> Node:
        first, *rest = items
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return Logic(cast("Node", first), tuple((str(op).upper(), cast("Node", operand)) for op, operand in pairs))

    def comparison(self, items: list[Node | Token]) -> Node:
        left, operator, right = items
        return Compare("!=" if operator == "<>" else str(operator), cast("Node", left), cast("Node", right))

    def arithmetic(self, items: list[Node | Token]) -> Node:
        left, operator, right = items
        return Arithmetic(str(operator), cast("Node", left), cast("Node", right))

    def like(self, items: list[Node | Token]) -> Node:
        return Like(cast("Node", items[0]), _unquoted(str(items[-1])))

    def not_like(self, items: list[Node | Token]) -> Node:
        return Not(self.like(items))

    def contained(self, items: list[Node | tuple[Node, ...]]) -> Node:
        return In(cast("Node", items[0]), cast("tuple[Node, ...]", items[-1]))

    def not_contained(self, items: list[Node | tuple[Node, ...]]) -> Node:
        return Not(self.contained(items))

    def set(self, items: list[Node]) -> tuple[Node, ...]:
        return tuple(items)

    def negation(self, items: list[Node | Token]) -> Node:
        return Not(cast("Node", items[1]))

    def minus(self, items: list[Node | Token]) -> Node:
        operand = cast("Node", items[1])
        # The sign belongs to the literal, so that -2147483648 can be written.
        if isinstance(operand, Literal) and type(operand.value) is int and operand.value > 0:
            return Literal(-operand.value)
        return Negate(operand)

    def call(self, items: list[Node | Token]) -> Node:
        name, *arguments = items
        return Call(_function_name(cast("Token", name)), tuple(cast("list[Node]", arguments)))

    def exists(self, items: list[Token]) -> Node:
        return Exists(_attribute_name(items[1]))

    def attribute(self, items: list[Token]) -> Node:
        return Attribute(_attribute_name(items[0]))

    def integer(self, items: list[Token]) -> Node:
        token = items[-1]
        digits = token.lstrip("0") or "0"
        # One more than the largest is let through here for the sake of its negative; `parse` has the last word.
        if len(digits) > 10 or int(digits) > INT_MAX + 1:
            raise _MeaningError(token, f"{quoted(str(token))} has more than 32 bits")
        return Literal(int(digits))

    def string(self, items: list[Token]) -> Node:
        return Literal(_unquoted(str(items[0])))

    def true(self, _items: list[Token]) -> Node:
        return Literal(value=True)

    def false(self, _items: list[Token]) -> Node:
        return Literal(value=False)


def _check_brackets(text: str) -> None:
    """Brackets leave no trace in the tree; a limit of their own keeps an absurd text from being taken."""
    nested = 0
    for match in _BRACKET.finditer(text):
        nested += {"(": 1, ")": -1}.get(match[0], 0)
        if nested > MAX_DEPTH:
            raise ParseError(text, match.start(), f"brackets are nested more than {MAX_DEPTH} levels deep")


def _holds_too_large(tree: Node) -> bool:
    level: list[Node] = [tree]
    while level:
        if any(isinstance(node, Literal) and node.value == INT_MAX + 1 for node in level):
            return True
        level = [child for node in level for child in children(node)]
    return False


def _attribute_name(token: Token) -> str:
    if "_" in token:
        raise _MeaningError(token, f"{quoted(str(token))} is no attribute: their names have letters and digits only")
    return token.lower()


def _function_name(token: Token) -> str:
    if not re.fullmatch("[A-Za-z][A-Za-z_]*", token):
        raise _MeaningError(token, f"{quoted(str(token))} is no function: their names have letters and _ only")
    return token.upper()


def _unquoted(token: str) -> str:
    """The text between the quotes. A backslash or a doubled quote stands for the quote; other backslashes stay."""
    quote = token[0]
    return re.sub(
        r"\\.|" + quote * 2, lambda pair: quote if pair[0].endswith(quote) else pair[0], token[1:-1], flags=re.DOTALL
    )


def _place(text: str, position: int) -> str:
    """Where a character stands, counted from 1 as editors do."""
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    return f"column {column}" if "\n" not in text else f"line {line}, column {column}"


def _unexpected(text: str, error: UnexpectedInput) -> ParseError:
    """The parse error for a place that lark did not understand, in words that help."""
    token = getattr(error, "token", None)
    at_end = token is not None and token.type == "$END"
    position = len(text) if at_end else int(getattr(error, "pos_in_stream", None) or 0)
    return ParseError(text, position, reason(text, position))
