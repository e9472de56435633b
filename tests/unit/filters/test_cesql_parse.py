"""Reading CloudEvents SQL: what binds tighter, and what is said of a text that does not parse."""

from __future__ import annotations

import pytest

from mesh.errors import FilterError
from mesh.filters.cesql import ParseError, compile_expression
from mesh.filters.cesql.ast import Call, Literal
from mesh.filters.cesql.parse import MAX_CHARACTERS, MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a + b * c = d", "(a + (b * c)) = d"),
        ("a - b - c", "(a - b) - c"),
        ("a AND b OR c XOR d", "((a AND b) OR c) XOR d"),
        ("NOT a = b", "(NOT a) = b"),
        ("NOT a LIKE 'x'", "(NOT a) LIKE 'x'"),
        ("-a * b", "(-a) * b"),
        ("a NOT LIKE 'x' AND b", "(NOT (a LIKE 'x')) AND b"),
        ("a NOT IN ('x')", "NOT (a IN ('x'))"),
        ("EXISTS a AND EXISTS b", "(EXISTS a) AND (EXISTS b)"),
        ("a = b LIKE 'x'", "a = (b LIKE 'x')"),
        ("hop-1", "hop - 1"),
        ("hop +1", "hop + (+1)"),
        ("a <> b", "a != b"),
        ("TYPE = 'x'", "type = 'x'"),
        ("int(a) aNd tRuE", "INT(a) AND TRUE"),
        ("\ta\r\n=\n'x' ", "a = 'x'"),
    ],
)
def test_a_text_reads_like_the_one_with_all_brackets(text: str, same: str) -> None:
    # A chain in brackets is a tree of chains; both must say the same of every mixture of truth values.
    one, other = compile_expression(text), compile_expression(same)
    for bits in range(16):
        event = {name: str(bool(bits >> i & 1)).lower() for i, name in enumerate("abcd")} | {"hop": "7", "type": "x"}
        assert one.evaluate(event) == other.evaluate(event)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it\\'s'", "it's"),
        ("'it''s'", "it's"),
        ('"say \\"x\\""', 'say "x"'),
        ('"it\'s"', "it's"),
        (r"'a\b'", r"a\b"),
        (r"'a\\'", r"a\\"),
        ("'(('", "(("),
        ("'Straße\n1'", "Straße\n1"),
        ("''", ""),
        ("007", 7),
        ("+7", 7),
        ("2147483647", 2147483647),
        ("-2147483648", -2147483648),
        ("tRuE", True),
    ],
)
def test_literals(text: str, value: object) -> None:
    tree = compile_expression(text).tree
    assert isinstance(tree, Literal)
    assert tree.value == value
    assert type(tree.value) is type(value)


def test_names_of_functions_do_not_depend_on_case() -> None:
    assert compile_expression("concat_ws()").tree == Call("CONCAT_WS", ())


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("type == 'x'", "column 7", "unexpected second =, did you mean a single one"),
        ("a = 'x' AND\nb == 2", "line 2, column 4", "unexpected second =, did you mean a single one"),
        ("a && b", "column 3", "unexpected &, did you mean AND"),
        ("a || b", "column 3", "unexpected ||, did you mean OR or CONCAT(x, y)"),
        ("!a", "column 1", "unexpected !, did you mean NOT"),
        ("data.x = 1", "column 5", "unexpected ., attributes are named without a prefix"),
        ("a IS NULL", "column 3", "unexpected IS, did you mean EXISTS"),
        ("a BETWEEN 1 AND 2", "column 3", "unexpected BETWEEN, did you mean x >= low"),
        ("a = 'x", "column 5", "the string that begins here is not closed"),
        ("a = 'x' 'y'", "column 9", "unexpected 'y'"),
        ("a IN ()", "column 7", "the set of IN must not be empty"),
        ("a LIKE b", "column 8", "the pattern of LIKE must be a string literal"),
        ("a LIKE 5", "column 8", "the pattern of LIKE must be a string literal"),
        ("ABS(", "column 5", "unexpected end, a value is missing"),
        ("(a", "column 3", "unexpected end, a closing bracket is missing"),
        ("a AND", "column 6", "unexpected end, a value is missing"),
        ("a NOT", "column 6", "unexpected end, a value is missing"),
        ("AND a", "column 1", "unexpected AND, a value was expected before it"),
        ("a)", "column 2", "unexpected )"),
        ("a # b", "column 3", "unexpected #"),
        ("a é", "column 3", "unexpected é"),
        ("", "column 1", "the expression is empty"),
        ("my_ext = 1", "column 1", '"my_ext" is no attribute'),
        ("f1(a)", "column 1", '"f1" is no function'),
        ("2147483648", "column 1", '"2147483648" has more than 32 bits'),
        ("a = 1 + 2147483648", "column 9", '"2147483648" has more than 32 bits'),
        ("a = 99999999999", "column 5", '"99999999999" has more than 32 bits'),
    ],
)
def test_an_error_says_where_and_what_was_meant(text: str, place: str, why: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_expression(text)
    assert str(caught.value).startswith(f"{place}: {why}")
    assert isinstance(caught.value, ParseError)
    assert caught.value.kind == "parse"


def test_the_position_is_an_offset() -> None:
    with pytest.raises(ParseError) as caught:
        compile_expression("type == 'x'")
    assert caught.value.position == 6


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "a" + ")" * 10_000,
        "NOT " * 10_000 + "a",
        "-" * 10_000 + "a",
        "a" + "+a" * 10_000,
        "ABS(" * 10_000 + "a" + ")" * 10_000,
        "a" * 1_000_000,
        "a = '" + "x" * MAX_CHARACTERS + "'",
    ],
    ids=["brackets", "NOT", "minus", "sum", "calls", "name", "string"],
)
def test_an_absurd_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(ParseError, match=r"levels deep|characters"):
        compile_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        " OR ".join(f"type = 't{i}'" for i in range(2_000)),
        "(" * MAX_DEPTH + "type = 't7'" + ")" * MAX_DEPTH,
        "NOT " * (MAX_DEPTH - 2) + "(type = 't7')",
        "(EXISTS type AND " * (MAX_DEPTH // 2) + "type = 't7'" + ")" * (MAX_DEPTH // 2),
        "type IN (" + ", ".join(f"'t{i}'" for i in range(4_000)) + ")",
    ],
    ids=["long chain", "brackets", "NOT", "chains in chains", "long set"],
)
def test_what_is_accepted_can_be_evaluated(text: str) -> None:
    expression = compile_expression(text)
    assert expression.evaluate({"type": "t7"}) == (True, None)
    assert expression.passes({"type": "t7"})
    assert not expression.passes({"type": "x"})
