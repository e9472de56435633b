r"""The pattern of LIKE: `%` any run, `_` one character, `\%` and `\_` themselves. Pure. CESQL 1.0, 3.4.3.

Matching takes time linear in the text, whatever the pattern: each piece between two `%` is looked for once, from where
the former one ended, and never again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN = re.compile(r"\\[%_]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The pieces between `%`; in a piece None stands for `_`. One piece alone: the pattern has no `%`."""

    pieces: tuple[tuple[str | None, ...], ...]

    @property
    def is_plain(self) -> bool:
        """No `_` anywhere."""
        return all(None not in piece for piece in self.pieces)

    @property
    def whole(self) -> str | None:
        """The text that this pattern means, where it has no wildcards."""
        return _text(self.pieces[0]) if len(self.pieces) == 1 and self.is_plain else None

    @property
    def prefix(self) -> str:
        """What every matching text begins with."""
        first = self.pieces[0]
        return _text(first[: first.index(None)] if None in first else first)

    @property
    def suffix(self) -> str:
        """What every matching text ends with."""
        last = self.pieces[-1][::-1]
        return _text(last[: last.index(None)] if None in last else last)[::-1]

    @property
    def is_prefix(self) -> bool:
        """Of the form `text%`: matches exactly what begins with `prefix`."""
        return len(self.pieces) == 2 and self.is_plain and not self.pieces[1]

    @property
    def is_suffix(self) -> bool:
        """Of the form `%text`: matches exactly what ends with `suffix`."""
        return len(self.pieces) == 2 and self.is_plain and not self.pieces[0]


def pattern_of(text: str) -> Pattern:
    pieces: list[list[str | None]] = [[]]
    for token in _TOKEN.findall(text):
        if token == "%":
            pieces.append([])
        else:
            pieces[-1].append(None if token == "_" else token[-1])
    # `%%` says no more than `%`.
    kept = [piece for i, piece in enumerate(pieces) if piece or i in {0, len(pieces) - 1}]
    return Pattern(tuple(tuple(piece) for piece in kept))


def matcher(pattern: Pattern) -> Callable[[str], bool]:
    """A predicate for texts."""
    whole = pattern.whole
    if whole is not None:
        return lambda text: text == whole
    if pattern.is_plain:
        return _plain_matcher(pattern)
    match = re.compile(_expression(pattern), re.DOTALL).fullmatch
    return lambda text: match(text) is not None


def _plain_matcher(pattern: Pattern) -> Callable[[str], bool]:
    prefix, *middle, suffix = (_text(piece) for piece in pattern.pieces)
    shortest = len(prefix) + len(suffix)

    def matches(text: str) -> bool:
        if len(text) < shortest or not (text.startswith(prefix) and text.endswith(suffix)):
            return False
        at, end = len(prefix), len(text) - len(suffix)
        for piece in middle:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return matches


def _expression(pattern: Pattern) -> str:
    """A regular expression whose atomic groups keep what they found, so that it never backtracks over a piece."""
    first, *rest = ("".join("." if char is None else re.escape(char) for char in piece) for piece in pattern.pieces)
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last


def _text(piece: tuple[str | None, ...]) -> str:
    return "".join(char for char in piece if char is not None)
