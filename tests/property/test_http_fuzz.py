"""Both ends of the hot path against arbitrary bytes, cut anywhere, over a transport in memory.

What was found once lies in `corpus/`, a file a case, and runs first.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mesh.delivery.outcome import Answer, Outcome
from mesh.http.inbound import Connection as Inbound
from mesh.http.outbound import BARE, OnOutcome
from mesh.http.outbound import Connection as Outbound
from mesh.http.request import Intake, Request
from mesh.http.turns import Calls, Outbox
from mesh.settings import HttpSettings

CORPUS = Path(__file__).parent / "corpus"
SETTINGS = HttpSettings(max_event_bytes=50, max_header_bytes=2_000, max_headers=12, max_reply_bytes=60)
ANSWER = re.compile(
    rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)*"
    rb"HTTP/1\.1 [2-5]\d\d [A-Za-z -]+\r\n(?:[a-z-]+: [^\r\n]+\r\n)*?content-length: (\d+)\r\n(?:connection: close\r\n)?\r\n"
)


class StillClock:
    def monotonic(self) -> float:
        return 0.0

    def now_ns(self) -> int:
        return 0


class MemoryTransport:
    """The part of a transport that the protocols use."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False
        self.ended = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.closing, "a write to a closed transport"
        assert not self.ended, "a write after the end"
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


def as_transport(transport: MemoryTransport) -> asyncio.Transport:
    return cast("asyncio.Transport", transport)


def fail(exc: object, *_: object) -> None:
    raise AssertionError(exc)


Seen = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]


class ServerRun:
    """Feeds bytes to the listener's protocol. `late`: requests are answered only when nothing else moves."""

    def __init__(self, pieces: list[bytes], *, late: bool) -> None:
        self.seen: list[Seen] = []
        self.held: list[Request] = []
        self.late = late
        self.refused: list[int] = []
        self.transport = MemoryTransport()
        intake = Intake(
            self.handle,
            SETTINGS,
            StillClock(),
            # Of a head that is both too large and malformed, the cut decides which is seen first.
            on_refused=lambda _, status: self.refused.append(400 if status == 431 else status),
            on_error=fail,
        )
        self.connection = Inbound(intake)
        self.connection.connection_made(as_transport(self.transport))
        for piece in pieces:
            while self.transport.paused and self.held:
                self.held.pop().accepted()
            if self.transport.closing:
                break
            self.connection.data_received(piece)
        while self.held:
            assert len(self.held) == 1, "one request in the handler at a time"
            self.held.pop().accepted()
        assert not self.transport.paused or self.transport.closing

    def handle(self, request: Request) -> None:
        self.seen.append((request.method, request.target, tuple(request.headers), request.body))
        if self.late:
            self.held.append(request)
        else:
            request.accepted()

    def check(self) -> None:
        """Every request is answered, every answer is HTTP, no value could end a header line."""
        written, answers = self.transport.written, 0
        written = re.sub(rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)+$", b"", written)
        while written:
            match = ANSWER.match(written)
            assert match, written
            end = match.end() + int(match[1])
            assert len(written) >= end
            written = written[end:]
            answers += 1
        assert answers == len(self.seen) + len(self.refused)
        for _, target, headers, body in self.seen:
            assert target.startswith(b"/") or target == b"*"
            assert len(body) <= SETTINGS.max_event_bytes
            assert not any(re.search(rb"[\r\n\0]", name + value) for name, value in headers)
            names = [name for name, _ in headers]
            assert all(names.count(name) <= 1 for name in (b"host", b"content-length", b"transfer-encoding"))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


FRAGMENTS = [
    b"POST / HTTP/1.1\r\n", b"POST /ns/b?x=1 HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.0\r\n", b"OPTIONS * HTTP/1.1\r\n", b"Host: a\r\n",
    b"HEAD http://a:1/ HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 51\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n", b"ce-id: 1\r\n", b"\r\n", b"\r\n\r\n",
    b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nce-id: 2\r\n\r\n", b"1;a=b\r\nx\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\xff", b"x" * 40,
    b"a: b\r\n" * 13, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 S\r\n", b"HTTP/1.0 404 N\r\n",
    b"HTTP/1.1 202 A\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=14).map(b"".join)
PLACES = st.lists(st.integers(0, 2_000), max_size=8)


def corpus(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob(f"{kind}-*.bin"))]


def check_server(data: bytes, places: list[int], *, late: bool) -> None:
    whole = ServerRun([data], late=False)
    whole.check()
    for pieces in ([data[i : i + 1] for i in range(len(data))], cut(data, places)):
        run = ServerRun(pieces, late=late)
        run.check()
        assert (run.seen, run.refused) == (whole.seen, whole.refused)
        assert run.transport.ended == whole.transport.ended


@pytest.mark.parametrize("data", corpus("request"))
def test_listener_on_what_was_found(data: bytes) -> None:
    check_server(data, [], late=False)
    check_server(data, [3, 50], late=True)


@settings(max_examples=300, deadline=None, database=None)
@given(STREAMS, PLACES, st.booleans())
@example(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n" * 700, [5_000], True)
def test_listener_answers_every_request_and_splitting_changes_nothing(
    data: bytes, places: list[int], late: bool
) -> None:
    check_server(data, places, late=late)


class MemoryHome:
    """The pool of one connection in memory."""

    where = "http://peer"
    max_reply_bytes = SETTINGS.max_reply_bytes

    def __init__(self) -> None:
        self.now = 0.0
        self.idle_until = 1.0
        self.idle: dict[Outbound, None] = {}
        self.outbox = Outbox(lambda flush: flush())
        self.calls = Calls(lambda run: run(), fail)
        self.familiar = b""
        self.familiar_answer = BARE[204]

    def learn(self, data: bytes, outcome: Outcome) -> None:
        if isinstance(outcome, Answer) and outcome is BARE.get(outcome.status):
            self.familiar, self.familiar_answer = data, outcome

    def resend(self, data: bytes, on_outcome: OnOutcome, deadline: float) -> None:
        raise AssertionError("the connection was never used before")

    def lost(self, connection: Outbound) -> None:
        pass

    def deliver(self, on_outcome: OnOutcome, outcome: Outcome) -> None:
        on_outcome(outcome)


def run_client(pieces: list[bytes]) -> tuple[Any, ...]:
    """What comes of an answer: outcomes, and whether the connection is used again."""
    home = MemoryHome()
    outcomes: list[Outcome] = []
    connection = Outbound(home, b"POST", outcomes.append, deadline=9.0)
    transport = MemoryTransport()
    connection.connection_made(as_transport(transport))
    for piece in pieces:
        if transport.closing:
            break
        connection.data_received(piece)
    if not transport.closing and not connection.eof_received():
        transport.close()
    connection.connection_lost(None)
    assert len(outcomes) == 1, "exactly one outcome"
    outcome = outcomes[0]
    if isinstance(outcome, Answer):
        assert len(outcome.body) <= home.max_reply_bytes
        assert 200 <= outcome.status <= 999
    return (outcome if isinstance(outcome, Answer) else outcome.kind,)


def check_client(data: bytes, places: list[int]) -> None:
    whole = run_client([data] if data else [])
    assert run_client([data[i : i + 1] for i in range(len(data))]) == whole
    assert run_client(cut(data, places)) == whole


@pytest.mark.parametrize("data", corpus("answer"))
def test_sender_on_what_was_found(data: bytes) -> None:
    check_client(data, [20])


@settings(max_examples=300, deadline=None, database=None)
@given(st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 500 E\r\n", b""]), STREAMS, PLACES)
def test_sender_gets_one_outcome_and_splitting_changes_nothing(start: bytes, data: bytes, places: list[int]) -> None:
    check_client(start + data, places)
