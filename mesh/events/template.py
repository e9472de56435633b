"""The usual head of an event request, recognised in one step. Pure. Why: the hot path (design: one regex instead of a parser, ten
callbacks and ten checks; measured 2 µs instead of 9 for a request of ten headers).

A sender names the same headers in the same order with every request. Once the strict parser has accepted such a head a few
times, its names become a Template: one regular expression that matches only a complete, valid, binary-mode CloudEvents
request with exactly these headers. It holds every rule of `rules.py` for the common case, and nothing beyond: what it does not
match (a percent sign, a 31st of a month, another version, anything odd) goes the ordinary way, which decides and explains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import itemgetter

from mesh.events.extensions import ARRIVAL_TIME, PASSED_HEADERS, PASSED_PREFIXES, TTL

# Printable ASCII without the percent sign, which would have to be decoded. A space at the end of a value is looked for apart:
# in the expression it would make each value be gone through twice.
_TEXT = r"[!-$&-~][ -$&-~]*"
_ANY = rf"(?:{_TEXT})?"
_OTHER = r"(?:[!-~][ -~]*)?"
_PATTERNS = {
    "specversion": r"1\.0",
    "source": r"[!-$&-9;-~][!-$&-~]*",
    "time": (
        r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?"
        r"(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
    ),
    "dataschema": r"[A-Za-z][A-Za-z0-9+.-]*:[!-$&-~]+",
    "id": _TEXT,
    "type": _TEXT,
}
_CONTENT_TYPE = rf"(?![^\r]*(?i:cloudevents)){_TEXT}"
_ATTRIBUTE = re.compile(r"ce-([a-z0-9]+)")
_REFUSED = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer", "content-encoding"})
_REQUIRED = frozenset({"specversion", "id", "source", "type"})
MAX_HEADERS = 32
LEARNT_AFTER = 4
"""Making a template costs about as much as 100 requests save."""
MAX_TEMPLATES = 256
MAX_SHAPES = 1024


Recognised = tuple[str, dict[str, str], bytes, bytes, int, str]
"""What a head says: target, attributes, block and passed as in Event, where the body begins, and the head. A plain tuple: it is made for
every event."""


class Template:
    """Made from the header names of a head that the parser accepted, in order and as they were spelt."""

    __slots__ = ("_attributes", "_length", "_match", "_passed", "_runs", "_values")

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ValueError where heads with these names cannot be recognised this way."""
        lower = [name.lower() for name in names]
        if len(set(lower)) != len(lower) or not {"host", "content-length"} <= set(lower) or len(names) > MAX_HEADERS:
            raise ValueError("not the names of a plain request")
        parts = [rf"{re.escape(name)}: {_pattern(low)}\r\n" for name, low in zip(names, lower, strict=True)]
        self._match = re.compile(rf"POST (/[!-\"$-~]*) HTTP/1\.1\r\n{''.join(parts)}\r\n", re.ASCII).match
        attributes = [(index, _attribute(low)) for index, low in enumerate(lower, start=2) if _attribute(low)]
        self._attributes = tuple(name for _, name in attributes)
        found = set(self._attributes)
        if not found >= _REQUIRED or {TTL, ARRIVAL_TIME} & found or len(found) != len(attributes):
            raise ValueError("not the names of a plain event")
        # The groups that are attributes, and the lines to keep: from behind one header's value to behind another's.
        self._values = itemgetter(*[index - 1 for index, _ in attributes])
        self._runs = tuple(_runs([index for index, _ in attributes]))
        self._length = lower.index("content-length") + 1
        self._passed = tuple((low, index) for index, low in enumerate(lower, start=1) if _is_passed(low.encode()))

    def recognise(self, data: bytes) -> Recognised | None:
        """The request, where `data` is exactly one with such a head and its whole body; else None."""
        end = data.find(b"\r\n\r\n") + 4
        try:
            head = data[:end].decode("ascii")
        except UnicodeDecodeError:
            return None
        match = self._match(head)
        if match is None or " \r\n" in head:
            return None
        groups = match.groups()
        if end + int(groups[self._length]) != len(data):
            return None
        end_of = match.end
        runs = [
            data[(end_of(before) if before > 1 else data.find(b"\r\n")) + 2 : end_of(last) + 2]
            for before, last in self._runs
        ]
        passed = b""
        for name, index in self._passed:
            passed += f"{name}: {groups[index]}\r\n".encode()
        attributes = dict(zip(self._attributes, self._values(groups)))  # noqa: B905 - as many by construction
        return groups[0], attributes, runs[0] if len(runs) == 1 else b"".join(runs), passed, end, head


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Groups that stand together, as (the group before the first, the last)."""
    first = last = indices[0]
    for index in indices[1:]:
        if index != last + 1:
            yield first - 1, last
            first = index
        last = index
    yield first - 1, last


class Learner:
    """Gives the template for a head, once heads with these names have been seen a few times. Bounded in number."""

    def __init__(self) -> None:
        self._seen: dict[tuple[bytes, ...], int] = {}
        self._templates: dict[tuple[bytes, ...], Template | None] = {}

    def template(self, lines: Sequence[tuple[bytes, bytes]]) -> Template | None:
        """lines: name and value of each header as they came, from a POST request that the parser accepted."""
        names = tuple([name for name, _ in lines])
        if names in self._templates:
            return self._templates[names]
        if len(self._templates) >= MAX_TEMPLATES:
            return None
        if len(self._seen) >= MAX_SHAPES:
            self._seen.clear()
        self._seen[names] = count = self._seen.get(names, 0) + 1
        if count < LEARNT_AFTER:
            return None
        del self._seen[names]
        self._templates[names] = template = _template(names)
        return template


def _template(names: Sequence[bytes]) -> Template | None:
    try:
        return Template([name.decode("ascii") for name in names])
    except ValueError:
        return None


def _attribute(name: str) -> str:
    if name == "content-type":
        return "datacontenttype"
    match = _ATTRIBUTE.fullmatch(name)
    return match[1] if match else ""


def _pattern(name: str) -> str:
    """What may stand as this header's value, as a group."""
    if name == "content-length":
        return r"(0|[1-9]\d{0,8})"
    if name == "connection":
        return "(keep-alive)"
    if name in _REFUSED or (name.startswith("ce-") and not _attribute(name)):
        raise ValueError(f"a request with {name} goes the ordinary way")
    if name == "host":
        return r"([!-~]+)"
    if name == "content-type":
        return f"({_CONTENT_TYPE})"
    attribute = _attribute(name)
    return f"({_PATTERNS.get(attribute, _ANY)})" if attribute else f"({_OTHER})"


def _is_passed(name: bytes) -> bool:
    return name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)
