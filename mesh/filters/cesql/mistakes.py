"""What to say of a text that is no CloudEvents SQL: what the author most likely meant. Pure."""

from __future__ import annotations

import re

_KEYWORDS = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "IN", "EXISTS", "TRUE", "FALSE"})
# What other languages write, found at the place that does not fit: (pattern, how far it begins before, what to say).
_OTHER_LANGUAGES: tuple[tuple[str, int, str], ...] = (
    (r"==", 1, "unexpected second =, did you mean a single one"),
    (r"&&?", 0, "unexpected &, did you mean AND"),
    (r"\|\|", 0, "unexpected ||, did you mean OR or CONCAT(x, y)"),
    (r"!", 0, "unexpected !, did you mean NOT"),
    (r"['\"]", 0, "the string that begins here is not closed"),
    (r"\.", 0, "unexpected ., attributes are named without a prefix and the data of an event is not visible"),
    (r"(?i)IS\b", 0, "unexpected IS, did you mean EXISTS attribute or NOT EXISTS attribute"),
    (r"(?i)BETWEEN\b", 0, "unexpected BETWEEN, did you mean x >= low AND x <= high"),
)
_AFTER_LIKE = re.compile(r"(?i)\bLIKE\s*$")
_WANTS_VALUE = re.compile(r"(?i)([-+*/%=<>(,]|\b(AND|OR|XOR|NOT|LIKE|IN|EXISTS))\s*$")
_EMPTY_SET = re.compile(r"(?i)\bIN\s*\(\s*$")


def reason(text: str, position: int) -> str:
    """The sentence for the first character that does not fit, at `position`."""
    before, rest = text[:position], text[position:]
    for pattern, back, why in _OTHER_LANGUAGES:
        begin = position - back
        if begin >= 0 and re.match(pattern, text[begin:]) and not _is_string(rest):
            return why
    if _AFTER_LIKE.search(before):
        return "the pattern of LIKE must be a string literal, such as 'com.example.%'"
    if rest.startswith(")") and _EMPTY_SET.search(before):
        return "the set of IN must not be empty"
    if not rest.strip():
        wanted = "a value" if _WANTS_VALUE.search(before) or not _is_open(before) else "a closing bracket"
        return f"unexpected end, {wanted} is missing"
    word = re.match(r"\w+|'.*?'|\".*?\"|.", rest, re.DOTALL)
    found = word[0] if word is not None else rest[:1]
    if found.upper() in _KEYWORDS:
        return f"unexpected {found.upper()}, a value was expected before it"
    return f"unexpected {found}"


def _is_string(text: str) -> bool:
    """Whether a complete string literal stands here."""
    return re.match(r"'(?:\\.|''|[^'\\])*'|\"(?:\\.|\"\"|[^\"\\])*\"", text, re.DOTALL) is not None


def _is_open(text: str) -> bool:
    return text.count("(") > text.count(")")
