"""What makes a context attribute valid. Pure. CloudEvents 1.0 sections 3 and 3.1; RFC 3339 for timestamps."""

from __future__ import annotations

import re

from mesh.errors import EventError

SPEC_VERSIONS = ("1.0", "0.3")
REQUIRED = ("id", "source", "type")

_NAME = re.compile(r"[a-z0-9]+")
_TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.+", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LAST_DAY = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def check_name(name: str) -> None:
    """Raises EventError unless the name is made of a-z and 0-9 only. Any length is taken: 20 letters are a SHOULD."""
    if not _NAME.fullmatch(name):
        raise EventError(f'attribute name "{shown(name)}": only the letters a-z and the digits 0-9 are allowed')


def check_time(value: str) -> None:
    """Raises EventError unless the value is an RFC 3339 timestamp with a day that exists."""
    match = _TIME.fullmatch(value)
    if match is None or (value[8:10] > "28" and not _day_exists(value)):
        raise EventError(f'attribute time: "{shown(value)}" is no RFC 3339 timestamp, such as 2024-05-06T07:08:09Z')


def _day_exists(value: str) -> bool:
    year, month, day = int(value[:4]), int(value[5:7]), int(value[8:10])
    if month == 2 and day == 29:
        return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= _LAST_DAY[month - 1]


def check_source(value: str) -> None:
    """Raises EventError unless the value could be a URI reference (RFC 3986), as Go's parser reads it."""
    if value[0] == ":" or ("%" in value and _BAD_ESCAPE.search(value)):
        raise EventError(f'attribute source: "{shown(value)}" is no URI reference')


def check_schema(value: str) -> None:
    """Raises EventError unless the value is an absolute URI."""
    if not _SCHEME.fullmatch(value):
        raise EventError(
            f'attribute dataschema: "{shown(value)}" is no absolute URI, such as https://example.com/schema'
        )


def check_text(name: str, value: str) -> None:
    """Raises EventError when the value holds a control character (CloudEvents type system, String)."""
    if _CONTROL.search(value):
        raise EventError(f"attribute {name}: control characters are not allowed")


def check_attributes(attributes: dict[str, str]) -> None:
    """Check what every event must have and what is well-formed. Raises EventError that names the attribute."""
    version = attributes.get("specversion")
    if version not in SPEC_VERSIONS:
        if not version:
            raise EventError("attribute specversion is missing or empty")
        raise EventError(f'attribute specversion: "{shown(version)}" is not served; 1.0 and 0.3 are')
    source = attributes.get("source")
    if not (source and attributes.get("id") and attributes.get("type")):
        missing = next(name for name in REQUIRED if not attributes.get(name))
        raise EventError(f"attribute {missing} is missing or empty")
    if source[0] == ":" or "%" in source:
        check_source(source)
    if "time" in attributes:
        check_time(attributes["time"])
    if "dataschema" in attributes and version == "1.0":
        check_schema(attributes["dataschema"])


def shown(value: str) -> str:
    """A value as it may stand in an answer or a log line: short, printable."""
    text = value if len(value) <= 80 else value[:77] + "..."
    return "".join(c if c.isprintable() else "?" for c in text)
