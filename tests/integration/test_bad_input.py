"""Everything a sender can get wrong, on purpose or not, sent to a running mesh beside a good sender that must not notice.

RFC 9112 (framing), HTTP Garden's kinds of smuggling, eventing.md 2.1-2.3.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sockets import Wire, answers, dial, event_head
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Seen

HEADER_TIMEOUT_S, BODY_TIMEOUT_S = 1.0, 2.0
SWEEPS_S = 2.0
"""A deadline is seen up to two sweeps of a second late (mesh/http/wire.py)."""
MIB = 1024 * 1024
PERIOD_S = 0.05
HIDDEN = event_head("evil-hidden", "content-length: 2") + b"{}"
"""A whole request, for the body of another one."""
RESOURCES = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: default, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: t, namespace: default}}
spec:
  broker: default
  subscriber: {{uri: "http://127.0.0.1:{port}/t"}}
"""


class Siege:
    """A mesh, its subscriber, and a good sender that never stops: its events are `good-N`."""

    def __init__(self, mesh: Mesh, sink: Recorder) -> None:
        self.mesh = mesh
        self.sink = sink
        self.port = int(mesh.ingress.rpartition(":")[2])
        self.pids = mesh.worker_pids()
        self.statuses: list[int] = []
        self.failures: list[str] = []
        self.known = 0
        """How many requests to the subscriber were judged already."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_on)

    def __enter__(self) -> Siege:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _send_on(self) -> None:
        """One connection, one event every 50 ms."""
        try:
            with dial(self.port) as wire:
                while not self._stop.wait(PERIOD_S):
                    wire.send(event_head(f"good-{len(self.statuses)}", "content-length: 2") + b"{}")
                    answer = wire.answer()
                    self.statuses.append(answer.status if answer is not None else 0)
        except OSError as exc:
            self.failures.append(repr(exc))

    def came(self) -> list[Seen]:
        """Requests to the subscriber since this was asked last, those of the good sender left out."""
        seen = self.sink.at("/t")
        new, self.known = seen[self.known :], len(seen)
        return [each for each in new if not each.id.startswith("good-")]

    def check(self) -> None:
        """All that must hold whatever was sent: nobody died, the good sender is served, nothing came of what was refused."""
        sent = len(self.statuses)
        self.sink.wait_until(lambda seen: sum(each.id.startswith("good-") for each in seen) >= sent)
        assert self.failures == []
        assert set(self.statuses) <= {202}
        assert self.mesh.worker_pids() == self.pids
        assert [each.id for each in self.came()] == []
        assert all("x-injected" not in each.headers for each in self.sink.at("/t"))

    def memory(self) -> int:
        """Bytes of resident memory of all workers."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * 4096


@pytest.fixture(scope="module")
def running() -> Iterator[Siege]:
    env = {"KNIT_HTTP_HEADER_TIMEOUT_S": str(HEADER_TIMEOUT_S), "KNIT_HTTP_BODY_TIMEOUT_S": str(BODY_TIMEOUT_S)}
    with (
        Recorder() as sink,
        Mesh(RESOURCES.format(port=sink.port), workers=2, env=env) as mesh,
        Siege(mesh, sink) as siege,
    ):
        yield siege


@pytest.fixture
def siege(running: Siege) -> Iterator[Siege]:
    yield running
    running.check()


def framed(*lines: str | bytes, body: bytes = HIDDEN) -> bytes:
    return event_head("evil", *lines) + body


FRAMING = {
    "length and chunked": framed("content-length: 4", "transfer-encoding: chunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunked and length": framed("transfer-encoding: chunked", "content-length: 4", body=b"0\r\n\r\n" + HIDDEN),
    "two lengths": framed("content-length: 0", "content-length: 4"),
    "one length twice": framed("content-length: 4", "content-length: 4"),
    "list of lengths": framed("content-length: 4, 4"),
    "length with plus": framed("content-length: +4"),
    "length below zero": framed("content-length: -1"),
    "length in hex": framed("content-length: 0x4"),
    "length with a blank": framed("content-length: 1 0"),
    "length with an exponent": framed("content-length: 1e1"),
    "length with an underscore": framed("content-length: 1_0"),
    "empty length": framed("content-length:"),
    "length past 64 bits": framed("content-length: 18446744073709551617"),
    "length in other digits": framed("content-length: ٤"),
    "chunked twice": framed("transfer-encoding: chunked, chunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunked in two headers": framed(
        "transfer-encoding: chunked", "transfer-encoding: chunked", body=b"0\r\n\r\n" + HIDDEN
    ),
    "unknown coding": framed("transfer-encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN),
    "gzip then chunked": framed("transfer-encoding: gzip, chunked", body=b"0\r\n\r\n" + HIDDEN),
    "chunked then identity": framed("transfer-encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN),
    "identity": framed("transfer-encoding: identity"),
    "coding with a parameter": framed("transfer-encoding: chunked;q=1", body=b"0\r\n\r\n" + HIDDEN),
    "coding with a vertical tab": framed(b"transfer-encoding: \x0bchunked", body=b"0\r\n\r\n" + HIDDEN),
    "coding in quotes": framed('transfer-encoding: "chunked"', body=b"0\r\n\r\n" + HIDDEN),
    "blank before the colon": framed("transfer-encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
    "tab before the colon": framed("content-length\t: 4"),
    "chunk size not hex": framed("transfer-encoding: chunked", body=b"zz\r\n" + HIDDEN),
    "chunk size below zero": framed("transfer-encoding: chunked", body=b"-2\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "chunk size with 0x": framed("transfer-encoding: chunked", body=b"0x2\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "chunk size with a blank before": framed("transfer-encoding: chunked", body=b" 2\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "chunk size past 64 bits": framed(
        "transfer-encoding: chunked", body=b"10000000000000002\r\n{}\r\n0\r\n\r\n" + HIDDEN
    ),
    "chunk line ended by LF": framed("transfer-encoding: chunked", body=b"2\n{}\r\n0\r\n\r\n" + HIDDEN),
    "chunk longer than its size": framed("transfer-encoding: chunked", body=b"2\r\n{}}\r\n0\r\n\r\n" + HIDDEN),
    "chunk without its end": framed("transfer-encoding: chunked", body=b"2\r\n{}0\r\n\r\n" + HIDDEN),
    "no chunk size": framed("transfer-encoding: chunked", body=b"\r\n{}\r\n0\r\n\r\n" + HIDDEN),
    "line ended by LF": framed(b"x-a: 1\nx-b: 2", "content-length: 2"),
    "line ended by CR": framed(b"x-a: 1\rtransfer-encoding: chunked", "content-length: 2"),
    "head ended by LF": b"POST /default/default HTTP/1.1\nhost: mesh\n\n" + HIDDEN,
    "NUL in a value": framed(b"x-a: 1\x002", "content-length: 2"),
    "NUL in a name": framed(b"x\x00a: 1", "content-length: 2"),
    "control character in a name": framed(b"x\x01a: 1", "content-length: 2"),
    "folded line": framed("x-a: 1", " 2", "content-length: 2"),
    "folded coding": framed("transfer-encoding:", " chunked", body=b"0\r\n\r\n" + HIDDEN),
    "first line folded": b"POST /default/default HTTP/1.1\r\n host: mesh\r\n\r\n" + HIDDEN,
    "no colon": framed("content-length 2"),
    "no name": framed(": 2", "content-length: 2"),
    "name in other letters": framed("contént-length: 2"),
    "no host": b"POST /default/default HTTP/1.1\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
    "two hosts": framed("host: other", "content-length: 2"),
    "host with a path": b"POST /default/default HTTP/1.1\r\nhost: a/b\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
    "chunked in HTTP/1.0": b"POST /default/default HTTP/1.0\r\nhost: mesh\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3": b"POST /default/default HTTP/3.0\r\nhost: mesh\r\n\r\n" + HIDDEN,
    "HTTP/0.9": b"POST /default/default\r\n" + HIDDEN,
    "other protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(200),
    "blank in the target": b"POST /default/default HTTP/1.1 HTTP/1.1\r\nhost: mesh\r\n\r\n" + HIDDEN,
    "NUL in the target": b"POST /default/\0default HTTP/1.1\r\nhost: mesh\r\n\r\n" + HIDDEN,
    "target without end": b"POST /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: mesh\r\n\r\n",
    "method in small letters": b"post /default/default HTTP/1.1\r\nhost: mesh\r\ncontent-length: 0\r\n\r\n" + HIDDEN,
    "method without end": b"X" * 100_000,
    "method of zeros": b"\0" * 1000,
    "one header of 200 kB": framed("x-a: " + "a" * 200_000, "content-length: 2"),
    "header name without end": b"POST /default/default HTTP/1.1\r\nhost: mesh\r\n" + b"a" * 200_000,
    "3000 headers": framed(*[f"x-{number}: 1" for number in range(3000)], "content-length: 2"),
    "expectation unknown": framed("expect: wonders", "content-length: 2"),
}


@pytest.mark.parametrize("data", FRAMING.values(), ids=FRAMING.keys())
def test_doubtful_framing_is_refused_once_and_the_connection_ended(siege: Siege, data: bytes) -> None:
    (answer,) = answers(siege.port, data)
    assert answer.status in (400, 408, 414, 417, 431, 501, 505)
    assert answer.body.strip()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "HEAD"])
def test_other_methods_are_405_with_what_is_allowed(siege: Siege, method: str) -> None:
    with dial(siege.port) as wire:
        wire.send(event_head("evil", "content-length: 0", method=method))
        head = wire.socket.recv(65_536).lower()
    assert head.startswith(b"http/1.1 405")
    assert b"allow: post, options" in head


def test_connect_is_no_tunnel(siege: Siege) -> None:
    data = b"CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n" + HIDDEN
    statuses = [answer.status for answer in answers(siege.port, data)]
    assert len(statuses) == 1
    assert statuses[0] >= 400


def test_upgrades_are_ignored(siege: Siege) -> None:
    with dial(siege.port) as wire:
        wire.send(
            event_head("evil-up", "connection: upgrade", "upgrade: h2c", "http2-settings: AA", "content-length: 2")
            + b"{}"
        )
        answer = wire.answer()
    assert answer is not None
    assert answer.status == 202
    assert [seen.id for seen in came(siege, 1)] == ["evil-up"]


def came(siege: Siege, count: int) -> list[Seen]:
    """What came of events that were taken."""
    siege.sink.wait_until(lambda seen: sum(not each.id.startswith("good-") for each in seen[siege.known :]) >= count)
    return siege.came()


# Slow and broken off.


def test_slow_senders_are_told_408(siege: Siege) -> None:
    started = time.monotonic()
    with dial(siege.port) as nothing, dial(siege.port) as half_a_head, dial(siege.port) as half_a_body:
        half_a_head.send(event_head("evil")[:-4])
        half_a_body.send(event_head("evil", "content-length: 10") + b"{")
        for wire, limit_s in ((half_a_head, HEADER_TIMEOUT_S), (half_a_body, BODY_TIMEOUT_S)):
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 408
            assert wire.answer() is None
            assert limit_s <= time.monotonic() - started <= limit_s + SWEEPS_S + 1
        nothing.send(event_head("evil-late", "content-length: 2") + b"{}")
        answer = nothing.answer()
        assert answer is not None
        assert answer.status == 202, "a connection that has said nothing yet is no slow request"
    assert [seen.id for seen in came(siege, 1)] == ["evil-late"]


def test_head_that_trickles_is_no_way_around_the_limit(siege: Siege) -> None:
    with dial(siege.port) as wire:
        started = time.monotonic()
        wire.socket.settimeout(0.1)
        for byte in event_head("evil", "x-long: " + "a" * 1000):
            wire.send(bytes([byte]))
            try:
                if wire.socket.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
        wire.socket.settimeout(10)
        answer = wire.answer()
        assert answer is not None
        assert answer.status == 408
        assert time.monotonic() - started <= HEADER_TIMEOUT_S + SWEEPS_S + 1


def test_half_closed_connection_still_gets_its_answers(siege: Siege) -> None:
    with dial(siege.port) as wire:
        wire.send(
            (event_head("evil-1", "content-length: 2") + b"{}") + (event_head("evil-2", "content-length: 2") + b"{}")
        )
        wire.half_close()
        statuses = [answer.status for answer in iter(wire.answer, None)]
    assert statuses == [202, 202]
    assert sorted(seen.id for seen in came(siege, 2)) == ["evil-1", "evil-2"]


@pytest.mark.parametrize("data", [event_head("evil")[:40], event_head("evil", "content-length: 10") + b"{"])
def test_half_a_request_and_the_end_is_no_event(siege: Siege, data: bytes) -> None:
    with dial(siege.port) as wire:
        wire.send(data)
        wire.half_close()
        answer = wire.answer()
    assert answer is None or answer.status == 400


def test_connections_reset_at_any_moment_harm_nobody(siege: Siege) -> None:
    whole = event_head("evil", "content-length: 20")
    for length in range(0, len(whole) + 10, 9):
        with dial(siege.port) as wire:
            wire.send((whole + b'{"a": "half a body')[:length])
            # Closing with this option is a reset.
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_answers_nobody_reads_stop_the_reading(siege: Siege) -> None:
    """A client that pipelines and never reads is held back, and not buffered for."""
    before = siege.memory()
    with dial(siege.port) as wire:
        wire.socket.settimeout(0.5)
        request = event_head("evil", method="GET") * 500
        with pytest.raises((TimeoutError, ConnectionError)):
            wire.send(request * 1000)
    assert siege.memory() - before < 16 * MIB


# Bodies.


def test_body_of_gigabytes_is_413_before_it_is_sent(siege: Siege) -> None:
    with dial(siege.port) as wire:
        wire.send(event_head("evil", "content-length: 4294967296"))
        answer = wire.answer()
    assert answer is not None
    assert answer.status == 413
    assert b"1048576" in answer.body
    assert b"KNIT_HTTP_MAX_EVENT_BYTES" in answer.body


def test_body_of_gigabytes_is_not_asked_for(siege: Siege) -> None:
    with dial(siege.port) as wire:
        wire.send(event_head("evil", "content-length: 4294967296", "expect: 100-continue"))
        answer = wire.answer()
    assert answer is not None
    assert answer.status == 413


def flood(wire: Wire, piece: bytes) -> int:
    """Send this over and over, until the other side has answered or hangs up. Returns how many bytes went."""
    sent = 0
    wire.socket.settimeout(10)
    try:
        while sent < 256 * MIB:
            wire.send(piece)
            sent += len(piece)
            wire.socket.setblocking(False)
            try:
                if wire.socket.recv(1, socket.MSG_PEEK):
                    break
            except BlockingIOError:
                pass
            finally:
                wire.socket.settimeout(10)
    except ConnectionError:
        pass
    return sent


@pytest.mark.parametrize("framing", ["content-length: 4294967296", "transfer-encoding: chunked"])
def test_floods_are_413_and_memory_stays_flat(siege: Siege, framing: str) -> None:
    piece = bytes(64 * 1024)
    if "chunked" in framing:
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    before = siege.memory()
    for _ in range(5):
        with dial(siege.port) as wire:
            wire.send(event_head("evil", framing))
            assert flood(wire, piece) < 16 * MIB
            answer = wire.answer()
            assert answer is not None
            assert answer.status == 413
            assert b"KNIT_HTTP_MAX_EVENT_BYTES" in answer.body
    assert siege.memory() - before < 16 * MIB


@pytest.mark.parametrize(
    "tail", [b"1;" + b"x" * 200_000, b"0\r\n" + b"x: y\r\n" * 50_000], ids=["chunk extension", "trailers"]
)
def test_what_surrounds_chunks_is_bounded_too(siege: Siege, tail: bytes) -> None:
    found = answers(siege.port, event_head("evil", "transfer-encoding: chunked") + tail * 50)
    assert len(found) == 1
    assert found[0].status in (400, 413, 431)


def test_expect_and_chunks_are_served(siege: Siege) -> None:
    with dial(siege.port) as wire:
        wire.send(event_head("evil-expect", "content-length: 2", "expect: 100-continue"))
        go_on = wire.answer()
        assert go_on is not None
        assert go_on.status == 100
        wire.send(b"{}")
        taken = wire.answer()
        assert taken is not None
        assert taken.status == 202
        wire.send(event_head("evil-chunks", "transfer-encoding: chunked", "expect: 100-continue"))
        assert wire.answer() == go_on
        wire.send(b"1\r\n{\r\n1;name=value\r\n}\r\n0\r\nx-injected: trailer\r\n\r\n")
        again = wire.answer()
        assert again is not None
        assert again.status == 202
    assert {seen.id: seen.body for seen in came(siege, 2)} == {"evil-expect": b"{}", "evil-chunks": b"{}"}


# Events.

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


@pytest.mark.parametrize(
    "path", ["/", "//", "/default", "/default/", "/default/default/x", "/default/other", "/../default/default", "/default/default%00", "*"]
)  # fmt: skip
def test_other_paths_are_refused(siege: Siege, path: str) -> None:
    with dial(siege.port) as wire:
        wire.send(event_head("evil", "content-length: 2", path=path) + b"{}")
        answer = wire.answer()
    assert answer is not None
    assert answer.status in (400, 404)


def test_noise_of_a_thousand_requests_leaves_memory_as_it_was(siege: Siege) -> None:
    """Refused requests cost nothing that stays."""
    requests = [data for data in FRAMING.values() if len(data) < 2000]
    before = siege.memory()
    for data in requests * (1000 // len(requests)):
        with dial(siege.port) as wire:
            wire.send(data)
            wire.half_close()
            while wire.answer() is not None:
                pass
    assert siege.memory() - before < 16 * MIB
