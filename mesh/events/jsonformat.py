"""The JSON event format and the batch format, both ways. Pure; the one owner of orjson. CloudEvents JSON format 1.0.

An event's JSON data is passed on byte for byte: numbers beyond 64 bits, key order and white space stay as they came.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in CPython since 2.6, missing in typeshed

import orjson

from mesh.errors import EventError
from mesh.events.event import Event, encode_block
from mesh.events.rules import check_attributes, check_name, check_text, shown

STRUCTURED = b"application/cloudevents+json"
BATCH = b"application/cloudevents-batch+json"
_STRINGS = frozenset(("id", "source", "type", "specversion", "subject", "time", "dataschema", "datacontenttype"))
"""Attributes of a type that JSON writes as a string (JSON format 2.2): a number there is a mistake of the sender's."""
_SPACE = " \t\n\r"
_raw_decode = json.JSONDecoder().raw_decode


def is_json(media_type: str) -> bool:
    """Whether data of this content type is JSON (JSON format 3.1.1): subtype `json` or ending in `+json`; none means JSON."""
    subtype = media_type.partition(";")[0].strip().lower().rpartition("/")[2]
    return not media_type or subtype == "json" or subtype.endswith("+json")


def loads(body: bytes) -> object:
    """Decode JSON. Raises EventError with what is wrong, never anything else."""
    try:
        return orjson.loads(body)
    except ValueError as exc:
        raise EventError(f"the body is no valid JSON: {exc}") from exc


def dumps(value: object) -> bytes:
    return orjson.dumps(value)


def decode(body: bytes) -> Event:
    """One event in structured mode. Raises EventError that says what is wrong and where."""
    if not isinstance(loads(body), dict):
        raise EventError("a structured event is a JSON object")
    return _event(body.decode())


def decode_batch(body: bytes) -> list[Event]:
    """A batch; an empty one is fine. Raises EventError with the index of the first bad event."""
    if not isinstance(loads(body), list):
        raise EventError("a batch is a JSON array of events")
    events = []
    for index, text in enumerate(_items(body.decode())):
        try:
            if not text.startswith("{"):
                raise EventError("an event is a JSON object")  # noqa: TRY301  # gets its index below
            events.append(_event(text))
        except EventError as exc:
            raise EventError(f"event {index} of the batch: {exc}") from exc
    return events


def encode(event: Event) -> bytes:
    """The event in structured mode. Attributes are strings: over HTTP binary, the form events are held in, all are."""
    members = orjson.dumps({name: value for name, value in event.attributes.items() if name != "data"})
    if not event.body:
        return members
    return members[:-1] + b"," + _data_member(event) + b"}"


def _data_member(event: Event) -> bytes:
    content_type = event.attributes.get("datacontenttype", "")
    if is_json(content_type):
        try:
            orjson.loads(event.body)
        except ValueError:
            pass
        else:
            return b'"data":' + event.body
    elif content_type.lower().startswith("text/") or "xml" in content_type.lower():
        try:
            return b'"data":' + orjson.dumps(event.body.decode())
        except UnicodeDecodeError:
            pass
    return b'"data_base64":' + orjson.dumps(base64.b64encode(event.body).decode())


def _event(text: str) -> Event:
    """`text` is known to be a valid JSON object."""
    attributes: dict[str, str] = {}
    data: str | None = None
    encoded: object = None
    seen: set[str] = set()
    for name, raw in _members(text):
        if name in seen:
            raise EventError(f'"{shown(name)}" is given twice')
        seen.add(name)
        if name == "data":
            data = raw
        elif name == "data_base64":
            encoded = orjson.loads(raw)
        elif raw != "null":  # JSON format 2.2: null means unset
            attributes[name] = _attribute(name, orjson.loads(raw))
    check_attributes(attributes)
    body = _body(attributes, data, encoded)
    return Event(encode_block(attributes), body, attributes=attributes)


def _attribute(name: str, value: object) -> str:
    check_name(name)
    match value:
        case str():
            check_text(name, value)
            return value
        case bool() | int() if name in _STRINGS:
            raise EventError(f"attribute {name}: a string is wanted, not {str(value).lower()}")
        case bool():
            return "true" if value else "false"
        case int() if -(2**31) <= value < 2**31:
            return str(value)
        case _:
            raise EventError(f"attribute {name}: a string, a boolean or a 32-bit integer is wanted")


def _body(attributes: dict[str, str], data: str | None, encoded: object) -> bytes:
    if encoded is not None:
        if data is not None and data != "null":
            raise EventError("data and data_base64 exclude each other")
        return _from_base64(encoded, "data_base64")
    if data is None or data == "null":
        return b""
    if attributes["specversion"] == "0.3" and attributes.get("datacontentencoding", "").lower() == "base64":
        del attributes["datacontentencoding"]  # the bytes travel as they are from here on
        return _from_base64(orjson.loads(data), "data")
    if data.startswith('"') and not is_json(attributes.get("datacontenttype", "")):
        text: str = orjson.loads(data)
        return text.encode("utf-8", "surrogatepass")
    return data.encode()


def _from_base64(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise EventError(f"{name} must be a string of base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise EventError(f"{name} is no valid base64: {exc}") from exc


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Name and raw value of each member of a valid JSON object, duplicates included."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] == '"':
        name, at = scanstring(text, at + 1)
        start = _skip(text, _skip(text, at) + 1)
        end = _value_end(text, start)
        yield name, text[start:end]
        at = _skip(text, end)
        if text[at] == "}":
            return
        at = _skip(text, at + 1)


def _items(text: str) -> Iterator[str]:
    """Each raw item of a valid JSON array."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        end = _value_end(text, at)
        yield text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _value_end(text: str, start: int) -> int:
    try:
        return int(_raw_decode(text, start)[1])
    except RecursionError as exc:
        raise EventError("the JSON is nested too deep") from exc
