"""What expressions mean. Every row is asked twice: the tree, and the source that is generated for filters."""

from __future__ import annotations

import pytest

from mesh.filters.cesql import compile_expression

EVENT = {
    "specversion": "1.0",
    "id": "id",
    "source": "/s",
    "type": "t",
    "i": "5",
    "b": "true",
    "str": "x",
    "empty": "",
    "big": "2147483647",
    "small": "-2147483648",
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("i = 5", True),
        ("5 = i", True),
        ("i = 05", True),
        ("b = TRUE", True),
        ("TRUE = b", True),
        ("TRUE = 1", True),
        ("1 = TRUE", True),
        ("0 = FALSE", True),
        ("type = 't'", True),
        ("type != 't'", False),
        ("'1' < 2", True),
        ("i >= 5 AND i <= 5", True),
        ("i > 5", False),
        ("empty = ''", True),
        ("EXISTS empty", True),
        ("EXISTS nosuch", False),
        ("EXISTS id", True),
        ("NOT 10", False),
        ("NOT 0", True),
        ("NOT b", False),
        ("-i", -5),
        ("-TRUE", -1),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / -2", -3),
        ("-7 % 2", -1),
        ("7 % -2", 1),
        ("TRUE + TRUE", 2),
        ("type = 't' OR nosuch = 'x'", True),
        ("type = 'x' AND nosuch = 'x'", False),
        ("TRUE XOR TRUE", False),
        ("TRUE OR FALSE AND FALSE", False),
        ("FALSE AND FALSE OR TRUE", True),
        ("b AND 'true'", True),
        ("FALSE OR 1", True),
        ("i IN (4, 5)", True),
        ("i IN (4, 6)", False),
        ("INT(i) IN ('5')", True),
        ("TRUE IN (nosuch)", None),
        ("TRUE IN (TRUE, nosuch)", True),
        ("i LIKE '_'", True),
        ("5 LIKE '5%'", True),
        ("FALSE LIKE 'f%'", True),
        ("LENGTH('é')", 1),
        ("LENGTH(TRUE)", 4),
        ("CONCAT('a', 1, TRUE)", "a1true"),
        ("CONCAT_WS('-', 'a', 1)", "a-1"),
        ("UPPER(type)", "T"),
        ("TRIM('\u2003 a \x1f\t')", "a \x1f"),
        ("LEFT('abc', 9)", "abc"),
        ("RIGHT('abc', 0)", ""),
        ("RIGHT('abc', 2)", "bc"),
        ("SUBSTRING('abc', 2, 9)", "bc"),
        ("SUBSTRING('abc', -2, 1)", "b"),
        ("SUBSTRING('abc', 2, 0)", ""),
        ("ABS(small + 1)", 2147483647),
        ("STRING(5)", "5"),
        ("INT('+5')", 5),
        ("INT('-0000000000005')", -5),
        ("BOOL('TRUE')", True),
        ("IS_INT(i) AND NOT IS_INT(str) AND IS_INT(TRUE)", True),
        ("IS_BOOL(b) AND NOT IS_BOOL(str) AND IS_BOOL(5)", True),
        ("IS_INT('2147483648')", False),
    ],
)
def test_values(text: str, value: object) -> None:
    expression = compile_expression(text)
    made, problem = expression.evaluate(EVENT)
    if value is None:
        assert problem is not None
    else:
        assert (made, problem, type(made)) == (value, None, type(value))
    assert expression.passes(EVENT) is (value is True)


@pytest.mark.parametrize(
    ("text", "value", "kind", "why"),
    [
        ("nosuch", False, "missingAttribute", "attribute nosuch is missing"),
        ("nosuch = 'x' OR type = 't'", False, "missingAttribute", "attribute nosuch is missing"),
        ("subject = ''", False, "missingAttribute", "attribute subject is missing"),
        ("NOT nosuch", False, "missingAttribute", "attribute nosuch is missing"),
        ("-nosuch", 0, "missingAttribute", "attribute nosuch is missing"),
        ("str < nosuch", False, "missingAttribute", "attribute nosuch is missing"),
        ("1 / nosuch", 0, "missingAttribute", "attribute nosuch is missing"),
        ("UPPER(nosuch)", "", "missingAttribute", "attribute nosuch is missing"),
        ("LENGTH(nosuch)", 0, "missingAttribute", "attribute nosuch is missing"),
        ("IS_INT(nosuch)", False, "missingAttribute", "attribute nosuch is missing"),
        ("nosuch IN ('x')", False, "missingAttribute", "attribute nosuch is missing"),
        ("type = 't' AND nosuch", False, "missingAttribute", "attribute nosuch is missing"),
        ("type = nosuch", False, "missingAttribute", "attribute nosuch is missing"),
        ("nosuch LIKE '%'", False, "missingAttribute", "attribute nosuch is missing"),
        ("str = 5", False, "cast", '"x" is not an integer'),
        ("str = TRUE", False, "cast", '"x" is not a boolean'),
        ("str AND TRUE", False, "cast", '"x" is not a boolean'),
        ("TRUE AND str", False, "cast", '"x" is not a boolean'),
        ("TRUE XOR str", False, "cast", '"x" is not a boolean'),
        ("'a' < 'b'", False, "cast", '"a" is not an integer'),
        ("1 < 'b'", False, "cast", '"b" is not an integer'),
        ("-'x'", 0, "cast", '"x" is not an integer'),
        ("INT('2147483648')", 0, "cast", '"2147483648" is not an integer'),
        ("INT('1_000')", 0, "cast", '"1_000" is not an integer'),
        ("INT('٣')", 0, "cast", '"٣" is not an integer'),
        ("BOOL('yes')", False, "cast", '"yes" is not a boolean'),
        ("ABS(str)", 0, "cast", '"x" is not an integer'),
        ("1 IN (str)", False, "cast", '"x" is not an integer'),
        ("i / 0", 0, "math", "5 / 0 is a division by zero"),
        ("i % 0", 0, "math", "5 % 0 is a division by zero"),
        ("big + 1", 0, "math", "2147483647 + 1 has more than 32 bits"),
        ("small - 1", 0, "math", "-2147483648 - 1 has more than 32 bits"),
        ("big * 2", 0, "math", "2147483647 * 2 has more than 32 bits"),
        ("small / -1", 0, "math", "-2147483648 / -1 has more than 32 bits"),
        ("-small", 0, "math", "0 - -2147483648 has more than 32 bits"),
        ("1 / 0 = 0", False, "math", "1 / 0 is a division by zero"),
        ("ABS(small)", 2147483647, "math", "ABS(-2147483648) has more than 32 bits"),
        ("LEFT('abc', -1)", "abc", "functionEvaluation", "LEFT: -1 is less than 0"),
        ("RIGHT('abc', -1)", "abc", "functionEvaluation", "RIGHT: -1 is less than 0"),
        ("SUBSTRING('abc', 4)", "", "functionEvaluation", 'SUBSTRING: position 4 is outside of "abc"'),
        ("SUBSTRING('abc', 1, -1)", "", "functionEvaluation", "SUBSTRING: length -1 is less than 0"),
        ("LENGTH(SUBSTRING('abc', 4)) = 0", False, "functionEvaluation", 'SUBSTRING: position 4 is outside of "abc"'),
        ("HasPrefix(type, 't')", False, "missingFunction", "function HASPREFIX with 2 arguments is unknown"),
        ("ABS() = 0", False, "missingFunction", "function ABS with 0 arguments is unknown"),
        ("NOPE(1)", False, "missingFunction", "function NOPE with 1 argument is unknown"),
    ],
)
def test_problems(text: str, value: object, kind: str, why: str) -> None:
    expression = compile_expression(text)
    made, problem = expression.evaluate(EVENT)
    assert problem is not None
    assert (made, type(made)) == (value, type(value))
    assert (problem.kind, problem.why) == (kind, why)
    assert expression.passes(EVENT) is False
    assert expression.explain(EVENT) == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("type = 'x'", "the result is false"),
        ("5", "the result is 5, not a boolean"),
        ("'true'", "the result is true, not a boolean"),
        ("type", "the result is t, not a boolean"),
        ("b", "the result is true, not a boolean"),
        ("type = 't'", ""),
    ],
)
def test_only_exactly_true_passes(text: str, why: str) -> None:
    expression = compile_expression(text)
    assert expression.explain(EVENT) == why
    assert expression.passes(EVENT) is (why == "")


def test_attributes_may_be_typed_when_a_value_is_asked_for() -> None:
    expression = compile_expression("flag AND count + 1 = 43")
    assert expression.evaluate({"flag": True, "count": 42}) == (True, None)
    assert compile_expression("count").evaluate({"count": 42}) == (42, None)
