"""Subscribers that answer slowly, wrongly, without end or not at all: each next to a healthy one that must not notice, and
limits on how much is sent to one at a time. eventing.md 2.6-2.8, 3.5.
"""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.kill import is_idle, metric
from tests.integration.rude import Behaviour, Leave, Rude, answers, endless, header, never, slam
from tests.integration.sockets import dial
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Seen

MIB = 1024 * 1024
EMPTY = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
REPLY = b"ce-specversion: 1.0\r\nce-id: reply\r\nce-source: /reply\r\nce-type: replied\r\ncontent-type: text/plain\r\n"
RETRY = 1


@dataclass(frozen=True)
class Shape:
    """How a subscriber behaves, and what must come of one event. attempts: requests it gets. code: of the dead letter, 0 where
    there is none. text: in the dead letter's error data. replies: whether its answer becomes an event."""

    behaviour: Behaviour
    attempts: int = 1
    code: int = 0
    text: bytes = b""
    replies: bool = False


def status(line: str, body: bytes = b"", *headers: str) -> bytes:
    lines = "".join(f"{each}\r\n" for each in headers)
    return f"HTTP/1.1 {line}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


SHAPES = {
    "slow": Shape(answers(EMPTY, pause_s=0.3)),
    "byte-by-byte": Shape(answers(*[bytes([byte]) for byte in EMPTY], pause_s=0.004)),
    "no-reason": Shape(answers(b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n")),
    "no-content": Shape(answers(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "no-length": Shape(answers(b"HTTP/1.1 200 OK\r\n\r\n", leave=True)),
    "continue-first": Shape(answers(b"HTTP/1.1 100 Continue\r\n\r\n", EMPTY)),
    "hints-first": Shape(answers(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 20, EMPTY)),
    "closes-after": Shape(answers(b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", leave=True)),
    "two-answers": Shape(answers(EMPTY + EMPTY)),
    "reply": Shape(answers(b"HTTP/1.1 200 OK\r\n" + REPLY + b"content-length: 5\r\n\r\nhello"), replies=True),
    "reply-chunked": Shape(
        answers(
            b"HTTP/1.1 200 OK\r\n" + REPLY + b"transfer-encoding: chunked\r\n\r\n2\r\n", b"he\r\n3\r\nllo\r\n", b"0\r\n\r\n"
        ),
        replies=True,
    ),
    "reply-to-the-end": Shape(
        answers(b"HTTP/1.1 200 OK\r\n" + REPLY + b"connection: close\r\n\r\nhe", b"llo", leave=True), replies=True
    ),
    "reply-that-injects": Shape(
        answers(b"HTTP/1.1 200 OK\r\nce-subject: a%0d%0ax-injected:%20yes\r\nx-injected: yes\r\n" + REPLY + b"content-length: 5\r\n\r\nhello"),
        replies=True,
    ),
    "never": Shape(never, attempts=2, code=500),
    "half-and-never": Shape(
        endless(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhe", b"", pause_s=0.1), attempts=2, code=500
    ),
    "trickle": Shape(endless(b"HTTP/1.1 200 OK\r\nx-long: ", b"a", pause_s=0.05), attempts=2, code=500),
    "garbage": Shape(answers(b"\x00\xff\xfe nothing of HTTP\r\n\r\n"), attempts=2, code=500),
    "other-protocol": Shape(answers(b"SSH-2.0-OpenSSH_9.6\r\n"), attempts=2, code=500),
    "slam": Shape(slam, attempts=2, code=500),
    "half-a-head": Shape(answers(b"HTTP/1.1 200 OK\r\ncontent-le", leave=True), attempts=2, code=500),
    "half-a-body": Shape(
        answers(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello", leave=True), attempts=2, code=502
    ),
    "half-a-chunk": Shape(
        answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nhel", leave=True), attempts=2, code=502
    ),
    "head-without-end": Shape(endless(b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"a" * 4000 + b"\r\n"), attempts=2, code=500),
    "redirect": Shape(answers(status("302 Found", b"", "location: http://127.0.0.1:1/elsewhere")), code=302),
    "redirect-of-a-post": Shape(answers(status("307 Temporary Redirect", b"", "location: /elsewhere")), code=307),
    "refuses": Shape(answers(status("400 Bad Request", b"not like this")), code=400, text=b"not like this"),
    "fails": Shape(answers(status("503 Service Unavailable", b"e" * 5000)), attempts=2, code=503, text=b"e" * 700),
    "status-of-its-own": Shape(answers(status("799 Odd")), attempts=2, code=799),
    "body-without-end": Shape(
        endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65_536) + b"\r\n"), attempts=2, code=502
    ),
    "reply-without-end": Shape(
        endless(b"HTTP/1.1 200 OK\r\n" + REPLY + b"content-length: 99999999999\r\n\r\n", bytes(65_536)), attempts=2, code=502
    ),
    "page": Shape(answers(status("200 OK", b"<html>hello</html>", "content-type: text/html")), attempts=2, code=502),
}  # fmt: skip

BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: default}
"""


def trigger(
    name: str,
    url: str,
    *,
    wants: str = "",
    dead: str = "",
    annotations: str = "",
    timeout: str = "PT0.5S",
    retry: int = RETRY,
) -> str:
    wanted = f"filter: {{attributes: {{type: {wants}}}}}" if wants else ""
    sink = f', deadLetterSink: {{uri: "{dead}"}}' if dead else ""
    return f"""---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: {name}, namespace: default, annotations: {{{annotations}}}}}
spec:
  broker: default
  {wanted}
  delivery: {{retry: {retry}, backoffPolicy: linear, backoffDelay: PT0.05S, timeout: {timeout}{sink}}}
  subscriber: {{uri: "{url}"}}
"""


@dataclass
class Street:
    """A mesh with a trigger for each shape, and a healthy one for all events."""

    mesh: Mesh
    sink: Recorder
    rude: dict[str, Rude]
    pids: list[int]


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    rude = {name: Rude(shape.behaviour) for name, shape in SHAPES.items()}
    for each in rude.values():
        each.__enter__()
    try:
        with Recorder() as sink:
            triggers = [
                trigger(name, f"http://127.0.0.1:{rude[name].port}/{name}", wants=name, dead=sink.url(f"/dead/{name}"))
                for name in SHAPES
            ]
            triggers += [trigger("healthy", sink.url("/healthy")), trigger("r", sink.url("/replies"), wants="replied")]
            with Mesh(BROKER + "".join(triggers), workers=2) as mesh:
                yield Street(mesh, sink, rude, mesh.worker_pids())
    finally:
        for each in rude.values():
            each.__exit__()


@pytest.mark.parametrize("name", SHAPES)
def test_bad_subscriber_harms_itself_alone(street: Street, name: str) -> None:
    shape, rude, sink = SHAPES[name], street.rude[name], street.sink
    sent = time.monotonic()
    before = len(sink.at("/replies"))
    assert street.mesh.send(name, event_id=name) == 202
    sink.wait_until(lambda seen: any(each.path == "/healthy" and each.id == name for each in seen))
    assert time.monotonic() - sent < 1.0
    if shape.code:
        _check_dead_letter(name, shape, rude, sink.wait(f"/dead/{name}")[0])
    else:
        rude.wait(shape.attempts)
        street.mesh.wait_for(lambda: backlog(street.mesh, name) == 0)
        assert sink.at(f"/dead/{name}") == []
    if shape.replies:
        reply = sink.wait("/replies", before + 1)[-1]
        assert (reply.id, reply.body) == ("reply", b"hello")
        assert "x-injected" not in reply.headers
    assert len(rude.requests) == shape.attempts
    assert street.mesh.worker_pids() == street.pids


def _check_dead_letter(name: str, shape: Shape, rude: Rude, dead: Seen) -> None:
    """The event as it was sent, with what went wrong beside it (eventing.md 2.5)."""
    assert dead.id == name
    assert dead.headers["ce-type"] == name
    assert dead.body == b'{"a":1}'
    assert dead.headers["ce-knativeerrordest"] == f"http://127.0.0.1:{rude.port}/{name}"
    assert dead.headers["ce-knativeerrorcode"] == str(shape.code)
    data = dead.headers.get("ce-knativeerrordata", "")
    assert len(data) <= 1024
    assert shape.text in base64.b64decode(data)


def backlog(mesh: Mesh, name: str) -> float:
    lines = [
        line
        for line in mesh.text("/metrics").splitlines()
        if line.startswith("knit_backlog_events{") and f'"trigger/default/{name}"' in line
    ]
    return metric("\n".join(lines), "knit_backlog_events")


@pytest.mark.parametrize("size", [12_288, MIB])
@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
def test_reply_comes_back_whole(framing: str, size: int) -> None:
    """knative/eventing#6749: echoed payloads came back cut at about 1 KiB."""

    def echo(connection: socket.socket, request: bytes) -> None:
        head, body = b"HTTP/1.1 200 OK\r\n" + REPLY, request.partition(b"\r\n\r\n")[2]
        if framing == "length":
            connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        elif framing == "chunks":
            pieces = [body[at : at + 700] for at in range(0, len(body), 700)]
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        else:
            connection.sendall(head + b"connection: close\r\n\r\n" + body)
            raise Leave

    body = random.Random(size).randbytes(size)
    with Recorder() as sink, Rude(echo) as echoing:
        resources = BROKER + trigger("echo", f"http://127.0.0.1:{echoing.port}/", wants="ask", timeout="PT60S")
        with Mesh(resources + trigger("back", sink.url("/back"), wants="replied")) as mesh:
            assert mesh.post("/default/default", binary("ask"), body)[0] == 202
            (back,) = sink.wait("/back")
    assert hashlib.sha256(back.body).digest() == hashlib.sha256(body).digest()


# How much at a time.


@pytest.mark.parametrize("workers", [1, 2])
def test_parallelism_is_a_ceiling(workers: int) -> None:
    with Rude(answers(EMPTY, pause_s=0.02)) as busy:
        resources = BROKER + trigger(
            "busy", f"http://127.0.0.1:{busy.port}/", annotations='delivery.knit.dev/parallelism: "3"', timeout="PT60S"
        )
        with Mesh(resources, workers=workers) as mesh:
            # Many connections, so that each worker gets some of them.
            statuses = Counter(mesh.send(event_id=str(number)) for number in range(60))
            assert statuses == {202: 60}
            busy.wait(60)
            mesh.wait_for(lambda: is_idle(mesh))
    assert busy.most == 3
    assert Counter(header(each, "ce-id") for each in busy.requests) == dict.fromkeys(map(str, range(60)), 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_parallelism_of_one_keeps_the_order_through_retries(workers: int) -> None:
    failed: set[str] = set()
    delivered: list[str] = []

    def behave(connection: socket.socket, request: bytes) -> None:
        event_id = header(request, "ce-id")
        if int(event_id) % 4 == 0 and event_id not in failed:
            failed.add(event_id)
            connection.sendall(status("503 Busy"))
        else:
            delivered.append(event_id)
            connection.sendall(EMPTY)

    with Rude(behave) as strict:
        resources = BROKER + trigger(
            "strict", f"http://127.0.0.1:{strict.port}/", annotations='delivery.knit.dev/parallelism: "1"'
        )
        with Mesh(resources, workers=workers) as mesh:
            for number in range(40):  # a connection each, so with two workers some come by the other one
                assert mesh.send(event_id=str(number)) == 202
            strict.wait(50)
            mesh.wait_for(lambda: is_idle(mesh))
    assert delivered == [str(number) for number in range(40)]
    assert len(failed) == 10
    assert strict.most == 1


def anonymous_memory(mesh: Mesh) -> int:
    """Bytes that all workers hold for themselves; what they map of their files is not counted."""
    total = 0
    for pid in mesh.worker_pids():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024
    return total


@pytest.mark.slow
def test_backlog_of_a_stuck_subscriber_waits_on_disk_while_others_go_on() -> None:
    count, body = 2500, b'"' + b"x" * 20_000 + b'"'
    released = threading.Event()

    def stuck(connection: socket.socket, _request: bytes) -> None:
        assert released.wait(60)
        connection.sendall(EMPTY)

    with Recorder() as sink, Rude(stuck) as slow:
        resources = BROKER + trigger(
            "slow", f"http://127.0.0.1:{slow.port}/", timeout="PT60S", annotations='delivery.knit.dev/parallelism: "10"'
        )
        with Mesh(resources + trigger("healthy", sink.url("/healthy"), wants="small"), workers=2) as mesh:
            before = anonymous_memory(mesh)
            port = int(mesh.ingress.rpartition(":")[2])
            lines = "".join(f"{name}: {value}\r\n" for name, value in binary("big").items() if name != "ce-id")
            for half in range(2):
                with dial(port) as wire:
                    for number in range(half, count, 2):
                        wire.send(
                            f"POST /default/default HTTP/1.1\r\nhost: m\r\n{lines}ce-id: {number}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                            + body
                        )
                        answer = wire.answer()
                        assert answer is not None
                        assert answer.status == 202
            assert backlog(mesh, "slow") == count
            assert mesh.send("small", event_id="quick") == 202
            assert sink.wait("/healthy", limit_s=2.0)[0].id == "quick"
            # 50 MB wait. What is in flight, and what the allocator keeps, is far less.
            assert anonymous_memory(mesh) - before < 20 * MIB
            released.set()
            mesh.wait_for(lambda: is_idle(mesh), limit_s=60.0)
    assert Counter(header(each, "ce-id") for each in slow.requests) == Counter([*map(str, range(count)), "quick"])
