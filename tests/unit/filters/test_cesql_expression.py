"""Expressions as values: equal by text, sent to workers without the parser, unknown functions known beforehand."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from mesh.filters.cesql import compile_expression

TEXT = "type = 't' AND LEFT(subject, 1) IN ('o', 'p') OR NOT (ext LIKE 'a%_b' AND -1 < INT(n) + 2)"


def test_a_process_that_is_sent_an_expression_does_not_need_the_parser() -> None:
    program = """
import pickle, sys
import mesh.filters.cesql
expression = pickle.loads(sys.stdin.buffer.read())
assert expression.passes({"type": "t", "subject": "order"})
assert not expression.passes({"type": "t", "subject": "x"})
assert expression.evaluate({"type": "t", "subject": "order"}) == (True, None)
print("lark" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(compile_expression(TEXT)),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == [b"False"]


def test_a_used_expression_can_still_be_sent() -> None:
    expression = compile_expression(TEXT)
    assert expression.passes({"type": "t", "subject": "order"})
    copy = pickle.loads(pickle.dumps(expression))
    assert copy == expression
    assert copy.tree == expression.tree
    assert copy.passes({"type": "t", "subject": "order"})


def test_equal_texts_are_equal_expressions() -> None:
    one, other = compile_expression("a = 'x'"), compile_expression("a = 'x'")
    assert one == other
    assert hash(one) == hash(other)
    assert one != compile_expression("a = 'y'")
    assert one != "a = 'x'"
    assert repr(one) == "Expression(\"a = 'x'\")"


def test_unknown_functions_are_known_before_an_event_comes() -> None:
    expression = compile_expression("type = 't' OR HasPrefix(Nope(type), 'a') AND LENGTH(type) > 1")
    assert expression.unknown_functions() == ["HASPREFIX/2", "NOPE/1"]
    assert compile_expression(TEXT).unknown_functions() == []


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("HasPrefix(type, 'dev.x')", "use LIKE 'dev.x%' or the prefix dialect"),
        ("starts_with(type, 'a_b%')", r"use LIKE 'a\_b\%%' or the prefix dialect"),
        ('ENDSWITH(type, "it\'s")', r"use LIKE '%it\'s' or the suffix dialect"),
        ("CONTAINS(type, sub)", "use LIKE '%text%'"),
        ("STARTSWITH()", "use LIKE 'text%' or the prefix dialect"),
        ("LEFT(type)", "LEFT takes 2 arguments"),
        ("SUBSTRING(type)", "SUBSTRING takes 2 or 3 arguments"),
        ("ABS(1, 2)", "ABS takes 1 argument"),
        ("CONCAT_WS()", "CONCAT_WS takes at least 1 argument"),
        ("LEN(type)", "did you mean LENGTH"),
        ("UPER(type)", "did you mean UPPER"),
        ("XYZ(type)", "the functions are ABS, BOOL"),
    ],
)
def test_an_unknown_function_comes_with_advice(text: str, advice: str) -> None:
    ((why, hint),) = compile_expression(text).advice()
    assert "is unknown" in why
    assert hint.startswith(advice)
