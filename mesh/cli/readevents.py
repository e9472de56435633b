"""Events from flags or from text: what `knit send` sends. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from mesh.errors import EventError
from mesh.events.event import Event, encode_block
from mesh.events.jsonformat import BATCH, STRUCTURED, decode, decode_batch, encode
from mesh.events.rules import check_attributes, check_name


def make_event(attributes: Mapping[str, str], data: bytes, *, content_type: str) -> Event:
    """One event from its parts; attributes that are empty are left out. content_type "": JSON where the data is, else text.

    Raises:
        EventError: the attributes make no valid event.
    """
    given = {"specversion": "1.0", **{name: value for name, value in attributes.items() if value}}
    if content_type or data:
        given["datacontenttype"] = content_type or _guess(data)
    for name in given:
        check_name(name)
    check_attributes(given)
    return Event(encode_block(given), data, attributes=given)


def _guess(data: bytes) -> str:
    try:
        json.loads(data)
    except ValueError:
        return "text/plain"
    return "application/json"


def read_events(text: str) -> Iterator[Event]:
    """The events of a file: a JSON array, one JSON object, or one object a line (NDJSON).

    Raises:
        EventError: one is not valid; the text says which. Those before it have been given out already.
    """
    text = text.strip()
    if text.startswith("["):
        yield from decode_batch(text.encode())
        return
    try:
        yield decode(text.encode())
    except EventError:
        if "\n" not in text or _is_json(text):
            raise
    else:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield decode(line.encode())
            except EventError as exc:
                raise EventError(f"line {number}: {exc}") from exc


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def as_request(events: list[Event], mode: str) -> tuple[bytes, bytes]:
    """Header lines and body of a request with the events; all modes but `batch` take exactly one."""
    if mode == "batch":
        return b"content-type: " + BATCH + b"\r\n", b"[" + b",".join(encode(event) for event in events) + b"]"
    (event,) = events
    if mode == "structured":
        return b"content-type: " + STRUCTURED + b"; charset=utf-8\r\n", encode(event)
    return event.block, event.body
