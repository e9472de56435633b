"""Events from flags and from files, and the requests they become."""

from __future__ import annotations

import json

import pytest

from mesh.cli.readevents import as_request, make_event, read_events
from mesh.errors import EventError
from mesh.events.http import read

ONE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
TWO = {**ONE, "id": "2"}
PARTS = {"id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps([ONE, TWO]), id="array"),
        pytest.param(json.dumps(ONE) + "\n" + json.dumps(TWO) + "\n", id="ndjson"),
        pytest.param(f"\n{json.dumps(ONE)}\n\n{json.dumps(TWO)}", id="blank lines"),
        pytest.param(json.dumps([ONE, TWO], indent=2), id="pretty array"),
    ],
)
def test_files_hold_several_events(text: str) -> None:
    assert [event.id for event in read_events(text)] == ["1", "2"]


def test_one_event_may_go_over_several_lines() -> None:
    assert [event.id for event in read_events(json.dumps(ONE, indent=2))] == ["1"]


def test_the_line_of_a_bad_event_is_told_after_those_before_it() -> None:
    events = read_events(json.dumps(ONE) + '\n{"id": "2"}\n')
    assert next(events).id == "1"
    with pytest.raises(EventError, match=r"line 2: .*specversion"):
        next(events)


@pytest.mark.parametrize("text", ["", "hello", '{"id": 1}', json.dumps({"id": "1"}, indent=1), "[1]"])
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(EventError):
        list(read_events(text))


@pytest.mark.parametrize(
    ("data", "given", "content_type"),
    [
        (b'{"a":1}', "", "application/json"),
        (b"hello", "", "text/plain"),
        (b"<a/>", "application/xml", "application/xml"),
    ],
)
def test_the_content_type_is_guessed_where_none_is_given(data: bytes, given: str, content_type: str) -> None:
    assert make_event(PARTS, data, content_type=given).attributes["datacontenttype"] == content_type


def test_without_data_there_is_no_content_type_and_empty_attributes_are_left_out() -> None:
    assert make_event({**PARTS, "subject": ""}, b"", content_type="").attributes == {"specversion": "1.0", **PARTS}


@pytest.mark.parametrize(
    "attributes", [{"id": "1", "source": "/s"}, {**PARTS, "Bad-Name": "x"}, {**PARTS, "time": "noon"}]
)
def test_attributes_that_make_no_event_are_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(EventError):
        make_event(attributes, b"", content_type="")


@pytest.mark.parametrize(("mode", "count"), [("binary", 1), ("structured", 1), ("batch", 3)])
def test_a_request_carries_the_events_it_was_made_of(mode: str, count: int) -> None:
    events = [make_event({**PARTS, "id": str(n), "x": "ä €"}, b'{"a": 1}', content_type="") for n in range(count)]
    lines, body = as_request(events, mode)
    headers = [tuple(line.split(b": ", 1)) for line in lines.split(b"\r\n") if line]
    arrived = read([(name, value) for name, value in headers], body)
    assert [event.attributes for event in arrived] == [event.attributes for event in events]
    assert [json.loads(event.body) for event in arrived] == [{"a": 1}] * count
