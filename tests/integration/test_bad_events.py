"""Events that are none, and events that try to get more into a subscriber's request than they may. eventing.md 2.1."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.siege import Siege, besieged, came
from tests.support.mesh import binary


@pytest.fixture(scope="module")
def running() -> Iterator[Siege]:
    with besieged() as siege:
        yield siege


@pytest.fixture
def siege(running: Siege) -> Iterator[Siege]:
    yield running
    running.check()


REQUIRED = ("ce-specversion", "ce-id", "ce-source", "ce-type")


def without(name: str, **instead: str) -> dict[str, str]:
    return {key: value for key, value in binary(event_id="evil").items() if key != name} | instead


@pytest.mark.parametrize(
    ("headers", "names"),
    [
        *[pytest.param(without(name), name.removeprefix("ce-"), id=f"no {name}") for name in REQUIRED],
        *[pytest.param(without("") | {name: ""}, name.removeprefix("ce-"), id=f"empty {name}") for name in REQUIRED],
        *[
            pytest.param(without("") | {"ce-specversion": version}, "specversion", id=f"specversion {version}")
            for version in ("2.0", "1", "0.2", "one")
        ],
        *[
            pytest.param(without("") | {"ce-time": text}, "time", id=f"time {text}")
            for text in ("yesterday", "2024-05-06T07:08Z", "2024-13-01T00:00:00Z", "2024-05-06 07:08:09")
        ],
        pytest.param(without("") | {"ce-dataschema": "not/absolute"}, "dataschema", id="dataschema"),
        pytest.param(without("") | {"ce-order-ref": "x"}, "order-ref", id="name with a dash"),
        pytest.param(without("") | {"ce-order_ref": "x"}, "order_ref", id="name with an underscore"),
        pytest.param(without("") | {"ce-": "x"}, "", id="no name"),
        pytest.param(without("") | {"ce-knativebrokerttl": "0"}, "knativebrokerttl", id="ttl used up"),
    ],
)  # fmt: skip
def test_binary_event_that_is_none_is_400_and_says_why(siege: Siege, headers: dict[str, str], names: str) -> None:
    status, _, text = siege.mesh.post("/default/default", headers, b"{}")
    assert status == 400
    assert names in text.decode()


STRUCTURED = {"content-type": "application/cloudevents+json"}
GOOD: dict[str, object] = {"specversion": "1.0", "id": "evil", "source": "/s", "type": "t"}


def changed(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half"),
        pytest.param(b"not json", id="no JSON"),
        pytest.param(changed() + b"{}", id="two values"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"1", id="a number"),
        pytest.param(b"[" * 100_000, id="deep and open"),
        pytest.param(changed()[:-1] + b', "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep data"),
        pytest.param(changed()[:-1] + b', "data": NaN}', id="NaN"),
        pytest.param(changed()[:-1] + b', "subject": "\xff\xfe"}', id="no UTF-8"),
        pytest.param(changed()[:-1] + b', "subject": "\\ud800"}', id="half a surrogate"),
        pytest.param(changed().decode().encode("utf-16"), id="UTF-16"),
        *[
            pytest.param(json.dumps({k: v for k, v in GOOD.items() if k != name}).encode(), id=f"no {name}")
            for name in GOOD
        ],
        *[pytest.param(changed(**{name: ""}), id=f"empty {name}") for name in GOOD],
        *[pytest.param(changed(**{name: None}), id=f"null {name}") for name in GOOD],
        *[pytest.param(changed(**{name: 5}), id=f"number as {name}") for name in GOOD],
        pytest.param(changed(subject=["x"]), id="list as subject"),
        pytest.param(changed(ext={"a": 1}), id="object as extension"),
        pytest.param(changed(time="yesterday"), id="time"),
        pytest.param(changed(dataschema="not/absolute"), id="dataschema"),
        pytest.param(changed(data_base64="?"), id="no base64"),
        pytest.param(changed(data_base64="QQ"), id="base64 without its end"),
        pytest.param(changed(data_base64=5), id="number as base64"),
        pytest.param(changed(data={}, data_base64="QQ=="), id="two datas"),
        pytest.param(changed(**{"order-ref": "x"}), id="name with a dash"),
        pytest.param(changed(Upper="x"), id="name in capitals"),
        pytest.param(changed(**{"": "x"}), id="no name"),
        pytest.param(changed(**{"a\r\nx-injected: yes\r\nb": "x"}), id="name with a line end"),
        pytest.param(changed(subject="a\r\nx-injected: yes"), id="subject with a line end"),
        pytest.param(changed(subject="a\x00b"), id="NUL in the subject"),
        pytest.param(changed(id="a\nb"), id="line end in the id"),
        pytest.param(changed(datacontenttype="text/plain\r\nx-injected: yes", data="x"), id="content type with a line end"),
    ],
)  # fmt: skip
def test_structured_event_that_is_none_is_400(siege: Siege, body: bytes) -> None:
    status, _, text = siege.mesh.post("/default/default", STRUCTURED, body)
    assert status == 400
    assert text.strip()


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/cloudevents+xml", b"<event/>"),
        ("application/cloudevents", changed()),
        ("application/cloudevents+", changed()),
        ("application/json", changed()),
        ("", changed()),
        ("text/plain", b"hello"),
        ("application/cloudevents-batch+json", changed()),
        ("application/cloudevents-batch+json", b"[1]"),
        ("application/cloudevents-batch+json", b"[" + changed() + b", {}]"),
        ("application/cloudevents-batch+json", b"[" + changed() + b"," + changed(type="") + b"]"),
        ("application/cloudevents+json; charset=utf-16", changed().decode().encode("utf-16")),
    ],
)
def test_what_is_no_event_by_its_media_type_is_400(siege: Siege, media_type: str, body: bytes) -> None:
    status, _, text = siege.mesh.post("/default/default", {"content-type": media_type}, body)
    assert status in (400, 415)
    assert text.strip()


def test_whole_event_posted_as_plain_json_is_told_its_media_type(siege: Siege) -> None:
    """dapr/dapr#574: the most common first mistake."""
    status, _, text = siege.mesh.post(
        "/default/default", {"content-type": "application/json"}, changed(data={"sum": 5})
    )
    assert status == 400
    assert b"application/cloudevents+json" in text


@pytest.mark.parametrize(
    "time", ["2024-05-06T07:08:09.123456Europe/Vienna", "2024-05-06T07:08:09.5GMT", "2024-05-06T07:08Z"]
)
def test_time_that_only_looks_like_one_is_told_with_its_value(siege: Siege, time: str) -> None:
    """cloudevents/sdk-java#200."""
    status, _, text = siege.mesh.post("/default/default", binary(event_id="evil", ce_time=time), b"{}")
    assert status == 400
    assert b"time" in text
    assert time.encode() in text


def test_text_of_a_structured_event_travels_as_ascii(siege: Siege) -> None:
    """cloudevents/sdk-java#748: raw UTF-8 in headers breaks strict servers."""
    body = changed(id="evil-text", subject="Z\u00fcrich \U0001f600 100%", extra=None, flag=True, data={"x": None})
    assert siege.mesh.post("/default/default", STRUCTURED, body)[0] == 202
    (seen,) = came(siege, 1)
    assert seen.headers["ce-subject"] == "Z%C3%BCrich%20%F0%9F%98%80%20100%25"
    assert seen.headers["ce-flag"] == "true"
    assert "ce-extra" not in seen.headers
    assert json.loads(seen.body) == {"x": None}


@pytest.mark.parametrize("text", ["a%0d%0ax-injected:%20yes", "a%0D%0Ax-injected: yes", "%00", "%0a", "%zz", "%"])
def test_percent_codes_in_a_header_stay_what_they_are(siege: Siege, text: str) -> None:
    status = siege.mesh.send(event_id="evil-percent", ce_subject=text, ce_ext=text)
    assert status in (202, 400)
    if status == 202:
        (seen,) = came(siege, 1)
        assert seen.headers["ce-subject"] == seen.headers["ce-ext"] == text


def test_headers_of_the_sender_do_not_travel(siege: Siege) -> None:
    extra = {
        "x-injected": "yes",
        "authorization": "Bearer x",
        "cookie": "a=b",
        "x-forwarded-for": "1.2.3.4",
        "te": "trailers",
    }
    assert siege.mesh.post("/default/default", binary(event_id="evil-headers") | extra, b"{}")[0] == 202
    (seen,) = came(siege, 1)
    assert not extra.keys() & seen.headers.keys()
