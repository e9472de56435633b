"""ISO 8601 durations as Knative's parser takes them. Pure. Eventing, delivery spec: backoffDelay, timeout, retryAfterMax."""

from __future__ import annotations

import re

HINT = "ISO 8601, for example PT5S"

_NUMBER = r"(\d+(?:[.,]\d+)?)"
_ISO = re.compile(
    rf"([+-]?)P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(T(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.ASCII,
)
_GO = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_DAY_S = 86_400.0
_YEAR_S = 365.2425 * _DAY_S
"""The mean year of the Gregorian calendar; a month is a twelfth of it, 30.4369 days."""
_UNITS_S = (_YEAR_S, _YEAR_S / 12, 7 * _DAY_S, _DAY_S, 3600.0, 60.0, 1.0)


def parse_duration(text: str) -> float:
    """Return the seconds; negative with a leading minus. Years and months are means.

    Raises:
        ValueError: no ISO 8601 duration. The text says what was given; `hint_for` says what would work.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f'invalid value "{text[:60]}": no ISO 8601 duration')
    sign, *parts = match.groups()
    time_part = parts.pop(4)
    numbers = [float(part.replace(",", ".")) if part else None for part in parts]
    if all(number is None for number in numbers) or time_part == "T":
        raise ValueError(f'invalid value "{text[:60]}": no ISO 8601 duration')
    seconds = sum(number * unit for number, unit in zip(numbers, _UNITS_S, strict=True) if number is not None)
    if seconds == float("inf"):
        raise ValueError(f'invalid value "{text[:60]}": longer than any time')
    return -seconds if sign == "-" else seconds


def hint_for(text: str) -> str:
    """What the author meant: `5s` is `PT5S` there."""
    match = _GO.fullmatch(text.strip())
    if match is None:
        return HINT
    number, unit = match.groups()
    if unit == "ms":
        return f"ISO 8601: PT{float(number) / 1000:g}S"
    return f"ISO 8601: PT{number}{unit.upper()}"
