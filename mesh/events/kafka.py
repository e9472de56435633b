"""The Kafka binding, both ways: record headers, key and value ↔ event. Pure. CloudEvents Kafka binding 1.0.

Records are written as Knative's Kafka broker, channel and sink write them (through the CloudEvents Java SDK), so that either
can take over from the other: binary mode, header `ce_NAME` as plain UTF-8, data as the value, `partitionkey` as the key.
Header lines that travel beside an event over HTTP (`traceparent`, …) become record headers of their own names.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.errors import EventError
from mesh.events import jsonformat
from mesh.events.event import CONTENT_TYPE, Event, encode_value
from mesh.events.extensions import PARTITION_KEY, PASSED_HEADERS, PASSED_PREFIXES, TTL
from mesh.events.rules import check_attributes, check_name, check_text

RecordHeaders = Sequence[tuple[str, bytes]]

_STRUCTURED = ("content-type", jsonformat.STRUCTURED)
_PLAIN = bytes(c for c in range(0x21, 0x7F) if chr(c) not in '"%')
"""Bytes that stand in an HTTP header as they are (HTTP binding 3.1.3.2)."""
_MAX_NAMES = 4096
_headers: dict[str, str] = {"datacontenttype": "content-type"}
"""Attribute → record header. Bounded, like the other way round, so that senders cannot fill memory."""
_names: dict[str, tuple[str, bytes]] = {"content-type": ("datacontenttype", b"content-type: ")}
"""Record header → attribute and how its HTTP header line begins; ("", b"") for those that are of no concern."""


def write(event: Event, *, structured: bool = False) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Key, value and headers of the record. An event without data has no value (null): binding 3.2.3."""
    attributes = event.attributes
    key = attributes.get(PARTITION_KEY)
    if structured:
        headers, value = [_STRUCTURED], jsonformat.encode(_with_ttl(event))
    else:
        known = _headers
        headers = [(known.get(name) or _header(name), text.encode()) for name, text in attributes.items()]
        if event.ttl >= 0:
            headers.append(("ce_" + TTL, b"%d" % event.ttl))
        value = event.body
    if event.passed:
        headers += _passed_headers(event.passed)
    return (None if key is None else key.encode()), value, headers


def read(headers: RecordHeaders, value: bytes | None) -> Event:
    """The event in a record, in either mode; names are compared without case.

    Raises:
        EventError: it is no valid event; the text names the attribute and the rule.
    """
    attributes: dict[str, str] = {}
    lines: list[bytes] = []
    passed = b""
    ttl = -1
    for name, raw in headers:
        known = _names.get(name) or _learn(name)
        attribute, begin = known
        if not attribute:
            if begin:
                passed += begin + raw + b"\r\n"
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise EventError(f"header {name} is no UTF-8 text") from None
        if attribute == TTL and text.isdecimal():
            ttl = int(text)
            continue
        attributes[attribute] = text
        lines += (begin, raw if not raw.translate(None, _PLAIN) else _line_value(attribute, text), b"\r\n")
    if "specversion" not in attributes or "cloudevents" in attributes.get("datacontenttype", ""):
        return _read_other(attributes, value, passed, lines=lines, ttl=ttl)
    check_attributes(attributes)
    return Event(b"".join(lines), value or b"", passed=passed, ttl=ttl, attributes=attributes)


def _read_other(
    attributes: dict[str, str], value: bytes | None, passed: bytes, *, lines: list[bytes], ttl: int
) -> Event:
    """Structured mode, and what is no event."""
    media_type = attributes.get("datacontenttype", "").partition(";")[0].strip().lower().encode()
    if media_type == jsonformat.STRUCTURED:
        event = jsonformat.decode(value or b"")
        return _without_ttl(event, passed)
    if "specversion" in attributes:  # binary, with data of a type that only sounds like it
        check_attributes(attributes)
        return Event(b"".join(lines), value or b"", passed=passed, ttl=ttl, attributes=attributes)
    raise EventError("no CloudEvent: neither a ce_specversion header nor content-type application/cloudevents+json")


def _with_ttl(event: Event) -> Event:
    return event.with_attributes({TTL: str(event.ttl)}) if event.ttl >= 0 else event


def _without_ttl(event: Event, passed: bytes) -> Event:
    text = event.attributes.get(TTL, "")
    if not text.isdecimal():
        return Event(event.block, event.body, passed=passed, attributes=dict(event.attributes))
    kept = {name: value for name, value in event.attributes.items() if name != TTL}
    block = b"".join(_names_line(name, value) for name, value in kept.items())
    return Event(block, event.body, passed=passed, ttl=int(text), attributes=kept)


def _names_line(attribute: str, text: str) -> bytes:
    _, begin = _names.get(_header(attribute)) or _learn(_header(attribute))
    return begin + _line_value(attribute, text) + b"\r\n"


def _header(attribute: str) -> str:
    header = _headers.get(attribute) or f"ce_{attribute}"
    if len(_headers) < _MAX_NAMES:
        _headers[attribute] = header
    return header


def _learn(header: str) -> tuple[str, bytes]:
    """What a record header means; raises EventError for an attribute whose name is not allowed."""
    lower = header.lower()
    raw = lower.encode("utf-8", "replace")
    if lower.startswith("ce_"):
        check_name(lower[3:])
        known = lower[3:], b"ce-" + raw[3:] + b": "
    elif raw == CONTENT_TYPE:
        known = _names["content-type"]
    elif raw in PASSED_HEADERS or raw.startswith(PASSED_PREFIXES):
        known = "", raw + b": "
    else:
        known = "", b""
    if len(_names) < _MAX_NAMES and len(header) < 64:
        _names[header] = known
    return known


def _line_value(attribute: str, text: str) -> bytes:
    """A value as it stands in an HTTP header; a media type may hold spaces and quotes there."""
    check_text(attribute, text)
    return text.encode() if attribute == "datacontenttype" else encode_value(text).encode()


def _passed_headers(passed: bytes) -> list[tuple[str, bytes]]:
    lines = [line.partition(b": ") for line in passed.split(b"\r\n") if line]
    return [(name.decode().lower(), value) for name, _, value in lines]
