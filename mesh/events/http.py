"""The HTTP binding, both ways: headers and bytes ↔ events. Pure. CloudEvents HTTP binding 1.0.

`read` is on the hot path: one pass over the headers, one join for the block that is shared by all deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.errors import EventError
from mesh.events import jsonformat
from mesh.events.event import Event, decode_value, encode_block
from mesh.events.extensions import ARRIVAL_TIME, DEFAULT_TTL, PASSED_HEADERS, PASSED_PREFIXES, TTL
from mesh.events.rules import check_attributes, check_name

Headers = Sequence[tuple[bytes, bytes]]

_MAX_NAMES = 4096
_names: dict[bytes, str] = {b"content-type": "datacontenttype"}
"""Header name → attribute name, for names seen before, "" for those that are of no concern: bounded, so that senders cannot
fill memory."""


def read(  # noqa: C901, PLR0912 - the hot path in one piece
    headers: Headers, body: bytes, *, arrival: str = ""
) -> list[Event]:
    """The events in an HTTP message: one, or as many as a batch holds. The hot path: each header is looked up once.

    headers: names in lower case. arrival: not "" where a broker takes the event: its time of arrival (RFC 3339), which
    becomes `knativearrivaltime`; the `knativebrokerttl` that came is taken off, counted down, and becomes `Event.ttl`.

    Raises:
        EventError: it is no valid event; the text names the attribute and the rule.
    """
    attributes: dict[str, str] = {}
    lines: list[bytes] = []
    passed = b""
    known = _names
    for name, value in headers:
        attribute = known.get(name)
        if not attribute:
            if attribute is None:
                if name[:3] == b"ce-":
                    attribute = _learn(name)
                elif name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES):
                    passed += name + b": " + value + b"\r\n"
                    continue
                else:
                    _ignore(name)
                    continue
            else:
                continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = decode_value(value)
        if "%" in text:
            text = decode_value(value)
        if attribute in attributes:
            raise EventError(f"{name.decode()} is given twice")
        attributes[attribute] = text
        lines += (name, b": ", value, b"\r\n")
    if "specversion" not in attributes or "cloudevents" in attributes.get("datacontenttype", "").lower():
        return _read_other(headers, body, arrival, attributes)
    check_attributes(attributes)
    if not arrival:
        return [Event(b"".join(lines), body, passed=passed, attributes=attributes)]
    if TTL in attributes or ARRIVAL_TIME in attributes:
        return [at_broker(Event(b"".join(lines), body, passed=passed, attributes=attributes), arrival)]
    attributes[ARRIVAL_TIME] = arrival
    lines += (b"ce-knativearrivaltime: ", arrival.encode(), b"\r\n")
    return [Event(b"".join(lines), body, passed=passed, ttl=DEFAULT_TTL, attributes=attributes)]


def _read_other(headers: Headers, body: bytes, arrival: str, attributes: dict[str, str]) -> list[Event]:
    """Structured mode and batches, and what is no event. A cloudevents media type wins even where ce- headers exist."""
    media_type = _media_type(headers)
    if media_type == jsonformat.STRUCTURED:
        events = [jsonformat.decode(body)]
    elif media_type == jsonformat.BATCH:
        events = jsonformat.decode_batch(body)
    elif "specversion" in attributes:  # binary, with data of a type that only sounds like it
        check_attributes(attributes)
        events = [Event(encode_block(attributes), body, attributes=attributes)]
    else:
        raise EventError(_no_event(attributes.get("datacontenttype", ""), body))
    events = [_with_passed(event, headers) for event in events]
    return [at_broker(event, arrival) for event in events] if arrival else events


def at_broker(event: Event, arrival: str) -> Event:
    """The event as a broker takes it: arrival time set anew, hops counted down into `ttl` (0: exhausted, to be refused).

    An event without `knativebrokerttl`, or with one that is no integer, begins with 255 (eventing data plane, TTL).
    """
    kept = {name: value for name, value in event.attributes.items() if name != TTL}
    kept[ARRIVAL_TIME] = arrival
    ttl = event.ttl - 1 if event.ttl >= 0 else _count_down(event.attributes.get(TTL, ""))
    return Event(encode_block(kept), event.body, passed=event.passed, ttl=max(0, ttl), attributes=kept)


def _count_down(text: str) -> int:
    try:
        return int(text) - 1 if text.lstrip("+-").isdecimal() else DEFAULT_TTL
    except ValueError:
        return DEFAULT_TTL


def _media_type(headers: Headers) -> bytes:
    content_type = next((value for name, value in headers if name == b"content-type"), b"")
    return content_type.partition(b";")[0].strip().lower()


def write_structured(event: Event) -> tuple[bytes, bytes]:
    """Header lines and body of the event in structured mode."""
    return b"content-type: application/cloudevents+json; charset=utf-8\r\n", jsonformat.encode(event)


def read_reply(headers: Headers, body: bytes) -> Event | None:
    """The event in an answer; None where the answer is empty or carries no event at all.

    Raises:
        EventError: the answer is meant as an event, or has a body, and is no valid event.
    """
    media_type = _media_type(headers)
    if media_type == jsonformat.BATCH:
        raise EventError("a batch is no reply: one event is wanted")
    if media_type == jsonformat.STRUCTURED or any(name == b"ce-specversion" for name, _ in headers):
        return read(headers, body)[0]
    if body:
        raise EventError(
            "the answer has a body that is no CloudEvent (no ce-specversion header, no application/cloudevents+json)"
        )
    return None


def _with_passed(event: Event, headers: Headers) -> Event:
    passed = b"".join(
        name + b": " + value + b"\r\n"
        for name, value in headers
        if name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)
    )
    return Event(event.block, event.body, passed=passed, attributes=dict(event.attributes)) if passed else event


def _learn(header: bytes) -> str:
    name = header[3:].decode("utf-8", "replace")
    check_name(name)
    if len(_names) < _MAX_NAMES:
        _names[header] = name
    return name


def _ignore(header: bytes) -> None:
    if len(_names) < _MAX_NAMES and len(header) < 64:
        _names[header] = ""


def _no_event(content_type: str, body: bytes) -> str:
    """Why it is no CloudEvent, with what to do about it: the most common first mistake with curl."""
    if "json" in content_type.lower() and b'"specversion"' in body[:65536]:
        return (
            "no CloudEvent: there is no ce-specversion header. The body looks like a structured event, "
            "which needs content-type application/cloudevents+json"
        )
    return (
        "no CloudEvent: neither a ce-specversion header (binary mode) "
        "nor content-type application/cloudevents+json (structured mode)"
    )
