"""CloudEvents Kafka binding 1.0, byte for byte."""

from __future__ import annotations

import json

import pytest

from mesh.errors import EventError
from mesh.events.event import Event, encode_block
from mesh.events.kafka import read, write

ATTRIBUTES = {
    "specversion": "1.0",
    "id": "A-1",
    "source": "/mycontext",
    "type": "com.example.someevent",
    "time": "2018-04-05T03:56:24Z",
    "subject": 'wörld "%"',
    "datacontenttype": "application/json; charset=utf-8",
    "partitionkey": "k-ü",
}


def made(body: bytes = b'{"a": 1}', **more: str) -> Event:
    return Event(encode_block(ATTRIBUTES | more), body, passed=b"traceparent: 00-1-2-01\r\n", ttl=7)


def test_a_binary_record_byte_for_byte() -> None:
    key, value, headers = write(made())
    assert key == "k-ü".encode()
    assert value == b'{"a": 1}'
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"A-1"),
        ("ce_source", b"/mycontext"),
        ("ce_type", b"com.example.someevent"),
        ("ce_time", b"2018-04-05T03:56:24Z"),
        ("ce_subject", 'wörld "%"'.encode()),
        ("content-type", b"application/json; charset=utf-8"),
        ("ce_partitionkey", "k-ü".encode()),
        ("ce_knativebrokerttl", b"7"),
        ("traceparent", b"00-1-2-01"),
    ]


def test_a_structured_record() -> None:
    key, value, headers = write(made(), structured=True)
    assert key == "k-ü".encode()
    assert headers[0] == ("content-type", b"application/cloudevents+json")
    assert value is not None
    assert json.loads(value) == ATTRIBUTES | {"knativebrokerttl": "7", "data": {"a": 1}}


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("body", [b"", b'{"a": 1}', b"\x00\xff", b"x" * 100_000])
def test_what_is_written_is_read_again(structured: bool, body: bytes) -> None:
    event = made(body, datacontenttype="application/json" if body[:1] == b"{" else "application/octet-stream")
    _, value, headers = write(event, structured=structured)
    again = read(headers, value)
    assert (again.block, again.body, again.passed, again.ttl) == (event.block, body, event.passed, 7)
    assert dict(again.attributes) == dict(event.attributes)


def test_header_names_are_read_without_case_and_strangers_are_left_out() -> None:
    headers = [("CE_Id", b"1"), ("ce_source", b"/s"), ("CE_TYPE", b"t"), ("ce_specversion", b"1.0"), ("other", b"\xff")]
    event = read(headers, None)
    assert dict(event.attributes) == {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}
    assert event.body == b""
    assert event.ttl == -1


@pytest.mark.parametrize(
    ("headers", "value", "why"),
    [
        ([], b"x", "no CloudEvent"),
        ([("content-type", b"application/json")], b"{}", "no CloudEvent"),
        ([("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"t")], b"", "source is missing"),
        ([("ce_specversion", b"1.0"), ("ce_a-b", b"1")], b"", "attribute name"),
        ([("ce_specversion", b"1.0"), ("ce_id", b"\xff")], b"", "no UTF-8"),
        ([("content-type", b"application/cloudevents+json")], b"{", "no valid JSON"),
        ([("ce_specversion", b"1.0"), ("ce_id", b"1\r\nx: y"), ("ce_source", b"/"), ("ce_type", b"t")], b"", "control"),
    ],
)
def test_what_is_no_event(headers: list[tuple[str, bytes]], value: bytes, why: str) -> None:
    with pytest.raises(EventError, match=why):
        read(headers, value)
