"""What is wrong with a resource, in words for its author. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend.

    path: the field, such as `spec.delivery.retry`. hint: what would work. line: counted from 1, 0 where unknown.
    resource: as people name it, `Trigger default/one`.
    """

    severity: Severity
    message: str
    path: str = ""
    hint: str = ""
    file: str = ""
    line: int = 0
    resource: str = ""

    @property
    def sentence(self) -> str:
        """Path, message and hint in one line: what a condition says."""
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text} ({self.hint})" if self.hint else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean X?` where one of the known words is close, else ""."""
    by_fold = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_fold, n=1, cutoff=0.6)
    return f"did you mean {by_fold[close[0]]}?" if close else ""


def shown(value: object) -> str:
    """A value as a message quotes it: texts in double quotes and cut, collections by their kind."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return str(value)
