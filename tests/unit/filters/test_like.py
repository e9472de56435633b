"""LIKE: what matches, what an index can use of a pattern, and that no text makes it slow."""

from __future__ import annotations

import pytest

from mesh.filters.cesql.like import matcher, pattern_of


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "ABC", "abc\n"]),
        ("ab%", ["ab", "abc", "ab\nc"], ["a", "xab"]),
        ("%ab", ["ab", "xab"], ["abx", "b"]),
        ("%ab%", ["ab", "xabx"], ["a", "ba"]),
        ("%", ["", "a"], []),
        ("ab%ba", ["abba", "abxba"], ["aba", "ab"]),
        ("a%b%c", ["abc", "axxbxxc", "abbcc"], ["acb", "ac", "ab"]),
        ("a%%b", ["ab", "axb"], ["a"]),
        ("%aa%aa%", ["aaaa", "xaaxaax"], ["aaa"]),
        ("_", ["a", "%", "\n"], ["", "ab"]),
        ("a_%", ["ab", "abc"], ["a"]),
        ("%_b", ["ab", "xxb"], ["b", "bb_"]),
        ("%a_c%e", ["abce", "xaace", "aacxaxce"], ["acce_", "ace"]),
        (r"100\%", ["100%"], ["100x", r"100\%"]),
        (r"a\_b", ["a_b"], ["axb"]),
        (r"ab\c", [r"ab\c"], ["abc"]),
        ("a.b*", ["a.b*"], ["axbb"]),
        ("ß_", ["ßé"], ["ß"]),
    ],
)
def test_matching(pattern: str, yes: list[str], no: list[str]) -> None:
    matches = matcher(pattern_of(pattern))
    assert [text for text in [*yes, *no] if matches(text)] == yes


@pytest.mark.parametrize(
    ("pattern", "whole", "prefix", "suffix", "is_prefix", "is_suffix"),
    [
        ("abc", "abc", "abc", "abc", False, False),
        (r"a\%", "a%", "a%", "a%", False, False),
        ("ab%", None, "ab", "", True, False),
        ("%ab", None, "", "ab", False, True),
        ("a%b", None, "a", "b", False, False),
        ("a_c%", None, "a", "", False, False),
        ("%a_c", None, "", "c", False, False),
        ("a_", None, "a", "", False, False),
        ("%", None, "", "", True, True),
    ],
)
def test_what_an_index_can_use(
    pattern: str, whole: str | None, prefix: str, suffix: str, is_prefix: bool, is_suffix: bool
) -> None:
    read = pattern_of(pattern)
    assert (read.whole, read.prefix, read.suffix) == (whole, prefix, suffix)
    assert (read.is_prefix, read.is_suffix) == (is_prefix, is_suffix)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("pattern", ["%a" * 40 + "b", "%a_" * 40 + "%b", "a%" * 40 + "_b", "%" * 1_000 + "b"])
def test_no_text_makes_it_slow(pattern: str) -> None:
    # A backtracking matcher would need longer than the sun has left.
    assert not matcher(pattern_of(pattern))("a" * 50_000 + "c")
