"""The event at the dead-letter sink: the original and three attributes."""

from __future__ import annotations

from base64 import b64decode

import pytest

from mesh.delivery.deadletter import dead_letter_event, failure_of
from mesh.delivery.outcome import Answer, Unreachable
from mesh.events.event import Event, encode_block

ATTRIBUTES = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "order",
    "time": "2026-01-01T00:00:00Z",
    "subject": 'a "b" ä',
    "datacontenttype": "text/plain",
}
EVENT = Event(encode_block(ATTRIBUTES), b"data \x00\xff", passed=b"x-request-id: 7\r\n", ttl=41)
URL = "http://sub.default.svc.cluster.local/in?x=1"
ERRORS = {"knativeerrordest", "knativeerrorcode", "knativeerrordata"}


def test_code_body_and_destination_are_told() -> None:
    dead = dead_letter_event(EVENT, destination=URL, code=422, body=b"bad")
    assert dead.attributes["knativeerrorcode"] == "422"
    assert dead.attributes["knativeerrordata"] == "YmFk"
    assert dead.attributes["knativeerrordest"] == URL


def test_the_event_itself_is_unchanged() -> None:
    dead = dead_letter_event(EVENT, destination=URL, code=422, body=b"bad")
    assert {name: value for name, value in dead.attributes.items() if name not in ERRORS} == ATTRIBUTES
    assert (dead.body, dead.passed, dead.ttl) == (EVENT.body, EVENT.passed, EVENT.ttl)
    assert not ERRORS & set(EVENT.attributes)


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (700, 700), (768, 768), (769, 768), (5000, 768)])
def test_a_long_error_body_is_cut_before_it_is_encoded(size: int, kept: int) -> None:
    body = bytes(index % 251 for index in range(size))
    text = dead_letter_event(EVENT, destination=URL, code=500, body=body).attributes["knativeerrordata"]
    assert len(text) <= 1024
    assert b64decode(text, validate=True) == body[:kept]


def test_an_empty_error_body_gives_no_attribute() -> None:
    assert "knativeerrordata" not in dead_letter_event(EVENT, destination=URL, code=503, body=b"").attributes


def test_no_answer_is_code_500() -> None:
    assert dead_letter_event(EVENT, destination=URL, code=0, body=b"").attributes["knativeerrorcode"] == "500"


def test_a_second_dead_letter_tells_of_the_second_failure_only() -> None:
    first = dead_letter_event(EVENT, destination="http://a/", code=400, body=b"first")
    second = dead_letter_event(first, destination="http://b/", code=503, body=b"")
    found = {name: value for name, value in second.attributes.items() if name in ERRORS}
    assert found == {"knativeerrordest": "http://b/", "knativeerrorcode": "503"}
    assert (second.body, second.passed, second.ttl) == (EVENT.body, EVENT.passed, EVENT.ttl)


def test_the_attributes_survive_the_wire_form() -> None:
    dead = dead_letter_event(EVENT, destination=URL, code=500, body=b"\xff\xfe?>")
    assert Event(dead.block, b"").attributes == dead.attributes


def test_credentials_of_the_subscriber_stay_here() -> None:
    dead = dead_letter_event(EVENT, destination="https://user:pass@sub/in?mail=a@b", code=500, body=b"")
    assert dead.attributes["knativeerrordest"] == "https://sub/in?mail=a@b"


def test_failures_are_told_in_knatives_words() -> None:
    assert failure_of(Answer(418, body=b"teapot")) == (418, b"teapot")
    assert failure_of(Unreachable("refused", "connection refused")) == (500, b"dispatch error: connection refused")
    assert failure_of(Unreachable("tls", "")) == (500, b"dispatch error: tls")
