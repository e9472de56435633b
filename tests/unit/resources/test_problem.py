"""Words for the authors of resources."""

from __future__ import annotations

import pytest

from mesh.resources.problem import Problem, did_you_mean, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ("three", '"three"'),
        ("x" * 61, '"' + "x" * 57 + '..."'),
        ({}, "a mapping"),
        ([], "a list"),
        (1.5, "1.5"),
    ],
)
def test_values_are_quoted_as_people_write_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_guess_keeps_the_right_spelling() -> None:
    assert did_you_mean("triger", ["Broker", "Trigger"]) == "did you mean Trigger?"
    assert did_you_mean("zzz", ["Broker"]) == ""


def test_sentence_has_path_message_and_hint() -> None:
    assert Problem("error", "m", "spec.a", "h").sentence == "spec.a: m (h)"
    assert Problem("error", "m").sentence == "m"
