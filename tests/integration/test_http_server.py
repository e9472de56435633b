"""The listener over real sockets: what is answered, what is refused, and in which order. RFC 9112; HTTP Garden's cases."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from mesh.http.identity import server_context
from mesh.http.server import HttpServer, Request
from mesh.settings import HttpSettings

HEAD = b"POST /ns/b HTTP/1.1\r\nHost: mesh\r\n"
SMALL = HttpSettings(max_event_bytes=1_000, max_header_bytes=4_096, max_headers=20)
LIMIT_S = 10.0


class HandClock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def monotonic(self) -> float:
        return self.at_s

    def now_ns(self) -> int:
        return 0


class Mesh:
    """A server whose handler echoes, or keeps requests where `held` is set."""

    def __init__(self, settings: HttpSettings = SMALL) -> None:
        self.clock = HandClock()
        self.requests: list[Request] = []
        self.wires: list[Wire] = []
        self.refused: list[tuple[str, int]] = []
        self.held = False
        self.arrived = asyncio.Event()
        self.server = HttpServer(
            self.handle, settings, self.clock, on_refused=lambda why, status: self.refused.append((why, status))
        )
        self.port = 0

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        self.arrived.set()
        if not self.held:
            request.respond(200, request.method + b" " + request.target + b" " + request.body)

    async def dial(self) -> Wire:
        return self.wire(*await asyncio.open_connection("127.0.0.1", self.port))

    def wire(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Wire:
        self.wires.append(Wire(reader, writer))
        return self.wires[-1]

    async def aclose(self) -> None:
        await self.server.aclose()
        for wire in self.wires:
            wire.writer.transport.abort()
            await asyncio.gather(wire.writer.wait_closed(), return_exceptions=True)

    async def arrival(self, count: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(self.requests) < count:
                self.arrived.clear()
                await self.arrived.wait()

    def pass_time(self, seconds: float) -> None:
        self.clock.at_s += seconds
        self.server.sweep()


class Wire:
    """A client that sends and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, header lines and body of the next answer."""
        async with asyncio.timeout(LIMIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length: "):
                    length = int(line[16:])
            return int(head[9:12]), head, await self.reader.readexactly(length)

    def reset(self) -> None:
        """Leave without a word."""
        no_linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.writer.transport.abort()

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(LIMIT_S):
            data = await self.reader.read()
        self.writer.close()
        return data


@asynccontextmanager
async def running(mesh: Mesh | None = None) -> AsyncIterator[Mesh]:
    mesh = mesh or Mesh()
    mesh.port = await mesh.server.listen("127.0.0.1", 0)
    try:
        yield mesh
    finally:
        await mesh.aclose()


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    async with running() as mesh:
        yield mesh


async def test_request_reaches_the_handler_as_it_was_sent(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(HEAD + b"CE-Id:  a b \r\nX-Empty:\r\ncontent-length: 5\r\n\r\nhello")
    status, head, body = await wire.answer()
    assert (status, body) == (200, b"POST /ns/b hello")
    assert b"connection: close" not in head
    assert mesh.requests[0].headers == [
        (b"host", b"mesh"),
        (b"ce-id", b"a b"),
        (b"x-empty", b""),
        (b"content-length", b"5"),
    ]
    assert mesh.requests[0].peer.startswith("127.0.0.1:")


async def test_accepted_is_an_empty_202_that_names_the_methods(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\n")
    await mesh.arrival(1)
    mesh.requests[0].accepted()
    mesh.requests[0].accepted()
    status, head, body = await wire.answer()
    assert (status, body) == (202, b"")
    assert b"allow: POST, OPTIONS\r\n" in head


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % n for n in range(2_000)))
    for number in range(2_000):
        await mesh.arrival(number + 1)
        assert len(mesh.requests) == number + 1
        mesh.requests[number].respond(200, b"%d" % number)
    assert [(await wire.answer())[2] for _ in range(2_000)] == [b"%d" % number for number in range(2_000)]


@pytest.mark.parametrize("whole", [True, False], ids=["in one piece", "byte by byte"])
async def test_chunked_body_is_put_together_and_trailers_are_dropped(mesh: Mesh, *, whole: bool) -> None:
    wire = await mesh.dial()
    data = HEAD + b"Transfer-Encoding: Chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nce-id: evil\r\n\r\n"
    for piece in [data] if whole else [data[i : i + 1] for i in range(len(data))]:
        wire.send(piece)
        await wire.writer.drain()
    assert (await wire.answer())[2] == b"POST /ns/b hello"
    assert b"ce-id" not in dict(mesh.requests[0].headers)


async def test_continue_is_sent_only_for_a_body_that_will_be_taken(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert (await wire.answer())[0] == 100
    wire.send(b"hello")
    assert (await wire.answer())[2] == b"POST /ns/b hello"
    wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
    assert (await wire.answer())[0] == 413


async def test_continue_waits_for_the_answers_before_it(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    await mesh.arrival(1)
    mesh.requests[0].accepted()
    assert [(await wire.answer())[0] for _ in range(2)] == [202, 100]


async def test_large_body_is_refused_before_it_is_sent_and_the_limit_is_named(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(HEAD + b"Content-Length: 1001\r\n\r\n")
    status, _, body = await wire.answer()
    assert status == 413
    assert b"1000 bytes (KNIT_HTTP_MAX_EVENT_BYTES)" in body
    assert mesh.refused == [("body_too_large", 413)]


async def test_client_that_sends_all_of_a_large_body_first_still_reads_the_refusal(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(HEAD + b"Content-Length: 8000000\r\n\r\n")
    for _ in range(8):
        wire.send(b"x" * 1_000_000)
        await wire.writer.drain()
    assert (await wire.answer())[0] == 413


async def test_large_chunked_body_is_refused_once_it_passes_the_limit(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1_000 + b"\r\n1\r\nx")
    assert (await wire.answer())[0] == 413


async def test_limit_may_differ_by_target() -> None:
    mesh = Mesh()
    mesh.server = HttpServer(mesh.handle, SMALL, mesh.clock, limit_of=lambda target: 3 if target == b"/small" else 9)
    async with running(mesh):
        wire = await mesh.dial()
        wire.send(HEAD + b"Content-Length: 9\r\n\r\n123456789")
        assert (await wire.answer())[0] == 200
        wire.send(HEAD.replace(b"/ns/b", b"/small") + b"Content-Length: 4\r\n\r\n")
        assert (await wire.answer())[0] == 413


async def test_http_1_0_is_answered_and_closed(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(b"POST /x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi")
    answer = await wire.rest()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"connection: close\r\n\r\nPOST /x hi")


async def test_what_follows_a_request_that_closes_is_not_read(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(HEAD + b"Connection: close\r\n\r\n" + HEAD + b"\r\n")
    assert (await wire.rest()).count(b"HTTP/1.1 ") == 1
    assert len(mesh.requests) == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 24\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_upgrade_is_ignored_and_the_body_stays_a_body(mesh: Mesh, framing: bytes) -> None:
    inner = b"GET /smuggled HTTP/1.1\r\n"
    body = inner if framing.startswith(b"Content") else b"18\r\n" + inner + b"\r\n0\r\n\r\n"
    wire = await mesh.dial()
    wire.send(HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + framing + b"\r\n" + body + HEAD + b"\r\n")
    assert (await wire.answer())[2] == b"POST /ns/b " + inner
    assert (await wire.answer())[2] == b"POST /ns/b "


async def test_upgrade_without_a_body_is_an_ordinary_request(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(
        b"GET /w HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [(await wire.answer())[2] for _ in range(2)] == [b"GET /w ", b"GET /x "]


async def test_absolute_target_is_reduced_and_its_host_overrules_the_header(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(b"POST http://other:81?q=1 HTTP/1.1\r\nHost: mesh\r\n\r\n")
    assert (await wire.answer())[2] == b"POST /?q=1 "
    assert dict(mesh.requests[0].headers)[b"host"] == b"other:81"


async def test_head_gets_the_length_but_no_body(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = await wire.rest()
    assert b"content-length: 7\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED: dict[str, tuple[bytes, int]] = {
    "length and chunks": (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and length": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "the same length twice": (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "list of lengths": (HEAD + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "length with plus": (HEAD + b"Content-Length: +5\r\n\r\nhello", 400),
    "length with minus": (HEAD + b"Content-Length: -5\r\n\r\nhello", 400),
    "length with space": (HEAD + b"Content-Length: 5 5\r\n\r\nhello", 400),
    "length in hex": (HEAD + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "length with underscore": (HEAD + b"Content-Length: 1_0\r\n\r\nhello", 400),
    "empty length": (HEAD + b"Content-Length:\r\n\r\nhello", 400),
    "endless length": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "chunked and identity": (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "gzip and chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "xchunked": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 501),
    "empty coding": (HEAD + b"Transfer-Encoding:\r\n\r\n", 400),
    "coding after a tab": (HEAD + b"Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n", 400),
    "chunks in 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk size in 0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk size with minus": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk size with space": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", 400),
    "chunk size overflows": (CHUNKED + b"fffffffffffffffff5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk size ended by LF": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
    "chunk ended by LF": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", 400),
    "chunk too long": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "extension with LF": (CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
    "folded header": (HEAD + b"a: b\r\n c\r\n\r\n", 400),
    "header before the first": (b"POST / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "bare LF": (b"POST / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF after a header": (HEAD + b"a: b\n\r\n", 400),
    "bare CR in a value": (HEAD + b"a: b\rc\r\n\r\n", 400),
    "NUL in a value": (HEAD + b"a: b\0c\r\n\r\n", 400),
    "control in a value": (HEAD + b"a: b\x01c\r\n\r\n", 400),
    "DEL in a value": (HEAD + b"a: b\x7fc\r\n\r\n", 400),
    "space before colon": (HEAD + b"a : b\r\n\r\n", 400),
    "space in a name": (HEAD + b"a b: c\r\n\r\n", 400),
    "non-token name": (HEAD + b"a(b): c\r\n\r\n", 400),
    "eight bit name": (HEAD + b"a\xe9: c\r\n\r\n", 400),
    "empty name": (HEAD + b": c\r\n\r\n", 400),
    "line without colon": (HEAD + b"abc\r\n\r\n", 400),
    "no host": (b"POST / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + b"Host: other\r\n\r\n", 400),
    "host with path": (b"POST / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with user": (b"POST / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "host list": (b"POST / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "foreign scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "absolute without host": (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "absolute with user": (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "star with POST": (b"POST * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "relative target": (b"POST x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "control in the target": (b"POST /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "space in the target": (b"POST /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "unknown method": (b"post / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/2 in text": (b"POST / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3 in text": (b"POST / HTTP/3.0\r\nHost: a\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "other expectation": (HEAD + b"Expect: a cake\r\n\r\n", 417),
    "target too long": (b"POST /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "too many headers": (HEAD + b"a: b\r\n" * 20 + b"\r\n", 431),
    "headers too large": (HEAD + b"a: " + b"b" * 4_096 + b"\r\n\r\n", 431),
    "a header without end": (HEAD + b"a: " + b"b" * 40_000, 431),
    "a name without end": (HEAD + b"b" * 40_000, 431),
    "a trailer without end": (CHUNKED + b"0\r\na: " + b"b" * 60_000, 400),
}


@pytest.mark.parametrize("piece", [10**9, 7], ids=["in one piece", "in pieces"])
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_once_and_closed(mesh: Mesh, name: str, piece: int) -> None:
    data, status = REFUSED[name]
    wire = await mesh.dial()
    for start in range(0, len(data), piece):
        wire.send(data[start : start + piece])
    answer = await wire.rest()
    assert answer.count(b"content-length: ") == 1, answer
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"\r\nconnection: close\r\n" in answer
    assert mesh.requests == []
    assert [refused for _, refused in mesh.refused] == [status]


async def test_refusal_waits_for_the_answer_before_it(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\nrubbish\r\n\r\n")
    await mesh.arrival(1)
    mesh.requests[0].accepted()
    assert [(await wire.answer())[0] for _ in range(2)] == [202, 400]


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [(HEAD, 11, 408), (HEAD + b"Content-Length: 5\r\n\r\nhel", 61, 408), (b"", 121, 0), (HEAD + b"\r\n", 121, 200)],
    ids=["header", "body", "idle from the start", "idle after a request"],
)
async def test_deadlines(mesh: Mesh, sent: bytes, seconds: int, status: int) -> None:
    wire = await mesh.dial()
    wire.send(sent)
    async with asyncio.timeout(LIMIT_S):
        while mesh.server.stats.bytes_in < len(sent) or not mesh.server.stats.connections:
            await asyncio.sleep(0)
    mesh.pass_time(seconds - 1.5)
    assert not wire.reader.at_eof()
    mesh.pass_time(3)
    assert (await wire.rest())[9:12] == (b"%d" % status if status else b"")


async def test_slow_handler_is_not_timed_out(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\n" + HEAD)
    await mesh.arrival(1)
    for _ in range(3):
        mesh.pass_time(10_000)
    mesh.requests[0].accepted()
    wire.send(b"\r\n")
    await mesh.arrival(2)
    mesh.requests[1].accepted()
    assert [(await wire.answer())[0] for _ in range(2)] == [202, 202]


async def test_client_that_never_reads_the_refusal_is_dropped(mesh: Mesh) -> None:
    wire = await mesh.dial()
    wire.send(b"rubbish\r\n\r\n")
    assert (await wire.answer())[0] == 400
    mesh.pass_time(5)
    async with asyncio.timeout(LIMIT_S):
        while mesh.server.stats.connections:
            await asyncio.sleep(0)


async def test_one_connection_too_many_is_told_so() -> None:
    async with running(Mesh(replace(SMALL, max_connections=1))) as mesh:
        first = await mesh.dial()
        first.send(HEAD + b"\r\n")
        assert (await first.answer())[0] == 200
        second = await mesh.dial()
        assert (await second.rest()).startswith(b"HTTP/1.1 503 ")
        first.send(HEAD + b"\r\n")
        assert (await first.answer())[0] == 200


async def test_client_that_closed_its_side_still_gets_the_answer(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\n")
    wire.writer.write_eof()
    await mesh.arrival(1)
    await asyncio.sleep(0)
    mesh.requests[0].accepted()
    assert (await wire.rest()).startswith(b"HTTP/1.1 202 ")


async def test_answer_to_a_client_that_left_is_dropped(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\n")
    await mesh.arrival(1)
    wire.reset()
    async with asyncio.timeout(LIMIT_S):
        while mesh.server.stats.connections:
            await asyncio.sleep(0)
    mesh.requests[0].respond(200, b"nobody")
    mesh.requests[0].accepted()


async def test_slow_reader_is_not_read_from(mesh: Mesh) -> None:
    mesh.held = True
    wire = await mesh.dial()
    wire.reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
    total = 0
    wire.send(HEAD + b"\r\n")
    while total < 60:
        await mesh.arrival(total + 1)
        mesh.requests[total].respond(200, b"x" * 1_000_000)
        total += 1
        if len(mesh.requests) == total:
            wire.send(HEAD + b"\r\n")
            await wire.writer.drain()
            await asyncio.sleep(0.01)
            if len(mesh.requests) == total:
                break
    assert total < 60
    wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(total):
        assert len((await wire.answer())[2]) == 1_000_000
    await mesh.arrival(total + 1)


async def test_handler_that_raises_is_answered_500_and_the_connection_lives(mesh: Mesh) -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context["exception"]))
    original = mesh.server._intake.handler

    def fail(request: Request) -> None:
        mesh.server._intake.handler = original
        raise KeyError(request.target)

    mesh.server._intake.handler = fail
    wire = await mesh.dial()
    wire.send(HEAD + b"\r\n")
    assert (await wire.answer())[0] == 500
    wire.send(HEAD + b"\r\n")
    assert (await wire.answer())[0] == 200
    assert isinstance(seen[0], KeyError)


async def test_drain_answers_what_is_in_hand_and_closes_the_rest(mesh: Mesh) -> None:
    mesh.held = True
    idle = await mesh.dial()
    busy = await mesh.dial()
    busy.send(HEAD + b"\r\n")
    await mesh.arrival(1)
    mesh.server.stop_accepting()
    assert await idle.rest() == b""
    waiting = asyncio.ensure_future(mesh.server.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    mesh.requests[0].accepted()
    assert b"\r\nconnection: close\r\n" in await busy.rest()
    async with asyncio.timeout(LIMIT_S):
        await waiting
    with pytest.raises(OSError):
        await mesh.dial()


async def test_unix_socket(mesh: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "s"
    await mesh.server.listen_unix(str(path))
    wire = mesh.wire(*await asyncio.open_unix_connection(str(path)))
    wire.send(HEAD + b"\r\n")
    assert (await wire.answer())[0] == 200
    assert mesh.requests[0].peer == "unix"
    await mesh.server.aclose()
    assert not path.exists()


async def test_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )  # fmt: skip
    mesh = Mesh()
    mesh.server = HttpServer(mesh.handle, SMALL, mesh.clock, ssl=server_context(str(cert), str(key)))
    trusting = ssl.create_default_context(cafile=str(cert))
    async with running(mesh):
        wire = mesh.wire(
            *await asyncio.open_connection("127.0.0.1", mesh.port, ssl=trusting, server_hostname="localhost")
        )
        wire.send(HEAD + b"\r\n")
        assert (await wire.answer())[0] == 200
        wire.send(b"rubbish\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 400 ")


Scenario = Callable[[Mesh], Awaitable[None]]
SCENARIOS: list[Scenario] = [
    test
    for name, test in list(globals().items())
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["mesh"]
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_same_on_uvloop(scenario: Scenario) -> None:
    async def play() -> None:
        async with running() as mesh:
            await scenario(mesh)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
