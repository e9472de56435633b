"""CloudEvents in and out: what is taken, what is refused and with which words, what goes on unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import EventError
from mesh.events import jsonformat
from mesh.events.event import Event, decode_value, encode_block, encode_value
from mesh.events.http import at_broker, read, read_reply

GOOD = [(b"ce-specversion", b"1.0"), (b"ce-id", b"1"), (b"ce-source", b"/s"), (b"ce-type", b"t")]
JSON = '{"specversion":"1.0","id":"1","source":"/s","type":"t"%s}'


def one(headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Event:
    (event,) = read(headers, body)
    return event


def structured(extra: str = "") -> Event:
    return one([(b"content-type", b"application/cloudevents+json")], (JSON % extra).encode())


def test_binary_event_keeps_its_lines_and_its_body() -> None:
    event = one([(b"host", b"h"), *GOOD, (b"content-type", b"text/plain"), (b"x-custom", b"no")], b"hi")
    assert (
        event.block == b"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\ncontent-type: text/plain\r\n"
    )
    assert event.body == b"hi"
    assert event.attributes["datacontenttype"] == "text/plain"


def test_only_allowed_headers_travel_with_an_event() -> None:
    headers = [
        (b"x-request-id", b"r"), (b"knative-foo", b"k"), (b"x-b3-traceid", b"b"), (b"retry-after", b"3"),
        (b"traceparent", b"p"), (b"authorization", b"secret"), (b"cookie", b"c"), (b"x-custom", b"x"),
    ]  # fmt: skip
    assert one([*GOOD, *headers]).passed == (
        b"x-request-id: r\r\nknative-foo: k\r\nx-b3-traceid: b\r\nretry-after: 3\r\ntraceparent: p\r\n"
    )


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type"])
@pytest.mark.parametrize("empty", [False, True])
def test_required_attributes_must_be_there_and_not_empty(missing: str, *, empty: bool) -> None:
    name = b"ce-" + missing.encode()
    headers = [(n, b"" if n == name else v) for n, v in GOOD if empty or n != name]
    with pytest.raises(EventError, match=missing):
        read(headers, b"")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (b"ce-time", b"yesterday", "time"),
        (b"ce-time", b"2024-05-06T07:08:09.123456Europe/Vienna", "Europe/Vienna"),
        (b"ce-time", b"2024-05-06T07:08:09.5GMT", "time"),
        (b"ce-time", b"2024-05-06T07:08Z", "time"),
        (b"ce-time", b"2023-02-29T00:00:00Z", "time"),
        (b"ce-dataschema", b"/relative", "dataschema"),
        (b"ce-order-ref", b"x1", "order-ref"),
        (b"ce-order_ref", b"x1", "order_ref"),
        (b"ce-id", b"2", "twice"),
    ],
)
def test_a_bad_attribute_is_refused_by_name(name: bytes, value: bytes, says: str) -> None:
    with pytest.raises(EventError, match=says):
        read([*GOOD, (name, value)], b"")


@pytest.mark.parametrize(
    "time", ["2024-05-06T07:08:09.123456+02:00", "1999-12-31T23:59:59.9Z", "2024-02-29T07:08:09.123456789Z"]
)
def test_good_times_pass_unchanged(time: str) -> None:
    assert one([*GOOD, (b"ce-time", time.encode())]).attributes["time"] == time


@pytest.mark.parametrize("version", [b"2.0", b"0.2", b"1", b"1.0.0"])
def test_other_spec_versions_are_refused(version: bytes) -> None:
    with pytest.raises(EventError, match="specversion"):
        read([(b"ce-specversion", version), *GOOD[1:]], b"")


def test_spec_version_0_3_stays_0_3() -> None:
    event = one([(b"ce-specversion", b"0.3"), *GOOD[1:], (b"ce-schemaurl", b"x")])
    assert b"ce-specversion: 0.3\r\n" in event.block


def test_structured_0_3_base64_becomes_bytes() -> None:
    body = b'{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":"aGk="}'
    assert one([(b"content-type", b"application/cloudevents+json")], body).body == b"hi"


def test_plain_json_that_looks_structured_is_explained() -> None:
    with pytest.raises(EventError, match=r"application/cloudevents\+json"):
        read([(b"content-type", b"application/json")], (JSON % "").encode())


def test_text_is_percent_encoded_on_the_wire_and_decoded_for_filters() -> None:
    event = structured(',"subject":"Zürich 😀 100%"')
    assert b"ce-subject: Z%C3%BCrich%20%F0%9F%98%80%20100%25\r\n" in event.block
    assert Event(event.block, b"").attributes["subject"] == "Zürich 😀 100%"


def test_raw_utf8_in_a_header_is_understood() -> None:
    assert one([*GOOD, (b"ce-subject", "Straße 1".encode())]).attributes["subject"] == "Straße 1"


def test_data_is_passed_on_byte_for_byte() -> None:
    assert structured(',"data": {"b" : 123456789012345678901234567890, "a":1e2}').body == (
        b'{"b" : 123456789012345678901234567890, "a":1e2}'
    )


def test_null_attributes_are_unset() -> None:
    event = structured(',"subject":null,"time":null,"tenant":null,"data":{"x":null}')
    assert set(event.attributes) == {"specversion", "id", "source", "type"}
    assert event.body == b'{"x":null}'


def test_typed_extensions_become_text() -> None:
    event = structured(',"n":5,"b":true,"f":false,"m":-2147483648')
    assert [event.attributes[name] for name in ("n", "b", "f", "m")] == ["5", "true", "false", "-2147483648"]


@pytest.mark.parametrize(
    "extra",
    [',"e":1.5', ',"e":[1]', ',"e":{}', ',"e":2147483648', ',"id":"2"', ',"data_base64":"@@"', ',"data":1,"data_base64":"aGk="',
     ',"E":"x"', ',"subject":"a\\nb"', ',"data_base64":5'],
)  # fmt: skip
def test_bad_structured_events_are_refused(extra: str) -> None:
    with pytest.raises(EventError):
        structured(extra)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'"x"', b"\xff\xfe", b'{"a":' * 100_000, b"null"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(EventError):
        read([(b"content-type", b"application/cloudevents+json")], body)


@pytest.mark.parametrize(
    ("content_type", "data", "body"),
    [
        ("text/plain", '"hällo"', "hällo".encode()),
        ("application/json", '"hello"', b'"hello"'),
        ("application/vnd.shop+json", '{"item":"pen"}', b'{"item":"pen"}'),
        ("application/json; charset=utf-8", '{"item":"pen"}', b'{"item":"pen"}'),
        ("application/xml", '"<a/>"', b"<a/>"),
    ],
)
def test_data_by_content_type_there_and_back(content_type: str, data: str, body: bytes) -> None:
    event = structured(f',"datacontenttype":"{content_type}","data":{data}')
    assert event.body == body
    assert f'"data":{data}'.encode() in jsonformat.encode(event)


def test_batch_names_the_bad_event() -> None:
    headers = [(b"content-type", b"application/cloudevents-batch+json")]
    good, bad = JSON % "", '{"specversion":"1.0"}'
    assert len(read(headers, f"[{good},{good}]".encode())) == 2
    assert read(headers, b" [ ] ") == []
    with pytest.raises(EventError, match="event 1 of the batch"):
        read(headers, f"[{good},{bad}]".encode())
    with pytest.raises(EventError, match="event 0 of the batch"):
        read(headers, b"[5]")


@pytest.mark.parametrize(("came", "left"), [(None, 255), (b"abc", 255), (b"3", 2), (b"1", 0), (b"0", 0), (b"-5", 0)])
def test_a_broker_counts_the_hops_down(came: bytes | None, left: int) -> None:
    headers = GOOD if came is None else [*GOOD, (b"ce-knativebrokerttl", came)]
    (event,) = read(headers, b"", arrival="2024-01-01T00:00:00Z")
    assert event.ttl == left
    assert "knativebrokerttl" not in event.attributes
    assert b"ce-knativearrivaltime: 2024-01-01T00:00:00Z\r\n" in event.block


def test_a_broker_overwrites_the_arrival_time() -> None:
    (event,) = read([*GOOD, (b"ce-knativearrivaltime", b"x")], b"", arrival="now")
    assert event.attributes["knativearrivaltime"] == "now"
    assert event.block.count(b"knativearrivaltime") == 1
    assert at_broker(event, "later").ttl == 254


def test_replies() -> None:
    assert read_reply([], b"") is None
    assert read_reply([(b"content-type", b"text/html")], b"") is None
    reply = read_reply(GOOD, b"x")
    assert reply is not None
    assert reply.type == "t"
    for headers, body in (
        ([(b"content-type", b"application/json")], b"{}"),
        ([(b"ce-specversion", b"1.0")], b""),
        ([(b"content-type", b"application/cloudevents-batch+json")], b"[]"),
        ([(b"content-type", b"application/cloudevents+json")], b"{"),
    ):
        with pytest.raises(EventError):
            read_reply(headers, body)


NAMES = st.from_regex(r"[a-z0-9]{1,25}", fullmatch=True).filter(
    lambda n: n not in {"data", "time", "dataschema", "specversion", "datacontenttype", "knativebrokerttl"}
)
TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@given(TEXT)
def test_values_survive_the_header(text: str) -> None:
    encoded = encode_value(text)
    assert encoded.isascii()
    assert not set(encoded) & set(' "\r\n\x00')
    assert decode_value(encoded.encode()) == text


@given(st.dictionaries(NAMES, TEXT, max_size=8), st.binary(max_size=200))
def test_binary_and_structured_forms_carry_the_same_event(extra: dict[str, str], body: bytes) -> None:
    attributes = {
        **extra,
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "datacontenttype": "application/x",
    }
    event = Event(encode_block(attributes), body)
    assert dict(event.attributes) == attributes
    again = jsonformat.decode(jsonformat.encode(event))
    assert dict(again.attributes) == attributes
    assert again.body == body


@given(
    st.lists(st.tuples(st.binary(max_size=12).map(bytes.lower), st.binary(max_size=30)), max_size=12),
    st.binary(max_size=100),
)
def test_reading_never_fails_in_another_way(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    try:
        read(headers, body)
    except EventError as error:
        assert str(error)


@given(st.binary(max_size=300))
def test_json_reading_never_fails_in_another_way(body: bytes) -> None:
    for decode in (jsonformat.decode, jsonformat.decode_batch):
        try:
            decode(body)
        except EventError as error:
            assert str(error)
