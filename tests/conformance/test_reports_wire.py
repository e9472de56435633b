"""What hurt users elsewhere, on the wire: the areas `wire` and `delivery` of `data/reports.yaml` against a running mesh.

The others of these areas: null attributes in tests/unit/test_events.py, plain JSON in tests/integration/test_bad_events.py, flows in
test_flow_reports.py.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from mesh.events.event import decode_value
from tests.support.mesh import Mesh, binary, knit
from tests.support.recorder import Recorder, Seen, event_reply

REPORTS = {case["id"]: case for case in yaml.safe_load((Path(__file__).parent / "data" / "reports.yaml").read_text())}
STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def setup(report: str, namespace: str, sink: Recorder) -> str:
    """The report's own documents, in a namespace of their own, sending to the recorder below `/NAMESPACE`."""
    text = REPORTS[report]["setup"].replace("namespace: default", f"namespace: {namespace}")
    return str(re.sub(r"http://127\.0\.0\.1:SINK", sink.url(f"/{namespace}"), text))


CASES = {
    "letters": "extension-name-of-22-letters",
    "dash": "extension-name-with-a-dash",
    "text": "structured-text-into-headers",
    "json": "charset-and-plus-json",
    "time": "time-with-a-zone-name",
    "waits": "producer-waits-for-the-answer",
    "reply": "reply-of-twelve-kilobytes",
}


@pytest.fixture(scope="module")
def mesh(sink: Recorder) -> Iterator[Mesh]:
    documents = [setup(report, namespace, sink) for namespace, report in CASES.items()]
    with Mesh("\n---\n".join(documents)) as running:
        yield running


def received(sink: Recorder, path: str, event_id: str) -> Seen:
    sink.wait_until(lambda seen: any(s.path == path and s.id == event_id for s in seen))
    return next(s for s in sink.at(path) if s.id == event_id)


def test_extension_name_of_22_letters(mesh: Mesh, sink: Recorder) -> None:
    headers = binary(ce_kafkaheadercontenttype="application/json")
    assert mesh.post("/letters/default", headers, b"{}")[0] == 202
    assert received(sink, "/letters/t", "1").headers["ce-kafkaheadercontenttype"] == "application/json"


def test_extension_name_with_a_dash(mesh: Mesh) -> None:
    body = b'{"specversion":"1.0","id":"1","source":"/lab","type":"sample.made","order-ref":"x1","data":{"n":1}}'
    for headers, data in ((STRUCTURED, body), (binary() | {"ce-order-ref": "x1"}, b"{}")):
        status, _, answer = mesh.post("/dash/default", headers, data)
        assert status == 400
        assert b"order-ref" in answer
        assert b"a-z" in answer


def test_structured_text_into_headers(mesh: Mesh, sink: Recorder) -> None:
    body = '{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"Zürich 😀 100%","data":{}}'
    assert mesh.post("/text/default", STRUCTURED, body.encode())[0] == 202
    subject = received(sink, "/text/t", "1").headers["ce-subject"]
    assert subject == "Z%C3%BCrich%20%F0%9F%98%80%20100%25"
    assert decode_value(subject.encode()) == "Zürich 😀 100%"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.shop+json"])
def test_charset_and_plus_json(content_type: str, mesh: Mesh, sink: Recorder) -> None:
    event_id = content_type[-4:]
    body = (
        f'{{"specversion":"1.0","id":"{event_id}","source":"/shop","type":"t","datacontenttype":"{content_type}",'
        f'"data":{{"item":"pen"}}}}'
    )
    assert mesh.post("/json/default", STRUCTURED, body.encode())[0] == 202
    plain = received(sink, "/json/bin", event_id)
    assert (plain.body, plain.headers["content-type"]) == (b'{"item":"pen"}', content_type)
    sink.wait_until(lambda seen: any(s.path == "/json/json" and event_id.encode() in s.body for s in seen))
    whole = next(s for s in sink.at("/json/json") if event_id.encode() in s.body)
    assert whole.headers["content-type"].startswith("application/cloudevents+json")
    assert b'"data":{"item":"pen"}' in whole.body
    assert b"data_base64" not in whole.body


@pytest.mark.parametrize(
    "time", ["2024-05-06T07:08:09.123456Europe/Vienna", "2024-05-06T07:08:09.5GMT", "2024-05-06T07:08Z"]
)
def test_time_with_a_zone_name(time: str, mesh: Mesh) -> None:
    status, _, answer = mesh.post("/time/default", binary(ce_time=time), b"{}")
    assert status == 400
    assert b"time" in answer
    assert time.encode() in answer


@pytest.mark.parametrize(
    "time", ["2024-05-06T07:08:09.123456+02:00", "1999-12-31T23:59:59.9Z", "2024-05-06T07:08:09.123456789Z"]
)
def test_good_time_stays_the_same_instant(time: str, mesh: Mesh, sink: Recorder) -> None:
    assert mesh.post("/time/default", binary(event_id=time, ce_time=time), b"{}")[0] == 202
    got = received(sink, "/time/t", time).headers["ce-time"]
    assert instant(got) == instant(time)


def instant(time: str) -> tuple[datetime, str]:
    """To the nanosecond: the second in UTC, and the digits behind it."""
    match = re.fullmatch(r"(.{19})(\.\d+)?(.+)", time)
    assert match is not None
    second = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).astimezone(UTC)
    return second, (match[2] or "").rstrip("0")


def test_producer_waits_for_the_answer(mesh: Mesh, sink: Recorder) -> None:
    sink.behaviours["/waits/f"] = lambda _s, _n: event_reply("answer", body=b"42")
    status, _, answer = mesh.post("/waits/default", binary("ask", prefer="reply"), b"{}")
    assert (status, answer) == (202, b"")
    assert received(sink, "/waits/answers", "reply").body == b"42"
    assert "RequestReply" in knit("send", "--help").stdout


@pytest.mark.parametrize("size", [12_288, 1_048_576])
def test_reply_of_twelve_kilobytes(size: int, mesh: Mesh, sink: Recorder) -> None:
    def echo(seen: Seen, _number: int) -> object:
        return event_reply("answer", body=seen.body, event_id=seen.id, **{"content-type": "application/octet-stream"})

    sink.behaviours["/reply/echo"] = echo  # type: ignore[assignment]
    data = os.urandom(size)
    headers = binary("ask", event_id=f"r{size}") | {"content-type": "application/octet-stream"}
    assert mesh.post("/reply/default", headers, data)[0] == 202
    back = received(sink, "/reply/back", f"r{size}")
    assert hashlib.sha256(back.body).digest() == hashlib.sha256(data).digest()
