"""The three types of CESQL, their casts, what can go wrong with them, and 32-bit arithmetic. Pure. CESQL 1.0, 3.1, 3.3, 3.4, 3.7."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mesh.filters.cesql.ast import Value

Type = type[str] | type[int] | type[bool]

_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,10})", re.ASCII)
_NAMES: dict[Type, str] = {str: "a string", int: "an integer", bool: "a boolean"}
INT_MIN, INT_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong while an expression was evaluated.

    kind: math, cast, missingFunction, functionEvaluation, missingAttribute or generic. why: a phrase for people.
    """

    kind: str
    why: str


Result = tuple[Value, Problem | None]


def to_integer(text: str) -> int | None:
    """The number a text stands for: a sign, decimal digits, 32 bits; None for all else."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    number = int(match[2])
    return in_range(-number if match[1] == "-" else number)


def to_boolean(text: str) -> bool | None:
    """`true` or `false` in any case; None for all else."""
    lower = text.lower()
    return True if lower == "true" else False if lower == "false" else None


def to_text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def cast(value: Value, target: Type) -> Result:
    """The value as `target`; the zero value and a problem of kind `cast` where the text says something else."""
    if type(value) is target:
        return value, None
    if target is str:
        return to_text(value), None
    if not isinstance(value, str):
        return target(value), None
    made = to_integer(value) if target is int else to_boolean(value)
    if made is None:
        return target(), Problem("cast", f"{quoted(value)} is not {_NAMES[target]}")
    return made, None


def in_range(number: int) -> int | None:
    return number if INT_MIN <= number <= INT_MAX else None


def quotient(left: int, right: int) -> int | None:
    """`left / right` rounded towards zero; None for a division by zero or a result beyond 32 bits."""
    if right == 0:
        return None
    whole = abs(left) // abs(right)
    return in_range(whole if (left < 0) == (right < 0) else -whole)


def remainder(left: int, right: int) -> int | None:
    """What `left / right` leaves, with the sign of `left`; None for a division by zero."""
    if right == 0:
        return None
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


def arithmetic(operator: str, left: int, right: int) -> int | None:
    """None where the result does not exist or has more than 32 bits.

    The specification is silent about overflow, and the Go SDK wraps around; a wrapped number would pass filters that
    no one meant, so it is an error here, as the specification has it for ABS.
    """
    match operator:
        case "+":
            return in_range(left + right)
        case "-":
            return in_range(left - right)
        case "*":
            return in_range(left * right)
        case "/":
            return quotient(left, right)
        case _:
            return remainder(left, right)


def quoted(text: str) -> str:
    """The text for a message: in double quotes, and cut when it is long."""
    return f'"{text}"' if len(text) <= 80 else f'"{text[:77]}..."'
