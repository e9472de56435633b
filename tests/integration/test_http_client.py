"""The sender over real sockets, against peers of every kind: sound, slow, gone, and talking rubbish. RFC 9112."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.http.client import Endpoint, Sender
from mesh.http.identity import server_context
from mesh.http.target import parse_target
from mesh.settings import HttpSettings

LIMIT_S = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
EVENT = b"ce-id: 1\r\n"


class HandClock:
    """A clock that goes on when told to."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def monotonic(self) -> float:
        return self.at_s

    def now_ns(self) -> int:
        return 0


class Call:
    """One request on a peer's connection."""

    def __init__(self, number: int, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.request = request
        self.write = writer.write
        self.close = writer.close
        self.writer = writer

    def reset(self) -> None:
        no_linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.writer.transport.abort()


class Bench:
    """A sender, and one peer that treats each request as the test says. `calls` and `connections` are what it saw."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.settings = HttpSettings(max_reply_bytes=1_000)
        self.sender = Sender(self.settings, self.clock, asyncio.get_running_loop())
        self.answer: Callable[[Call], None] = lambda call: call.write(OK)
        self.calls: list[Call] = []
        self.connections = 0
        self.closed = 0
        self.changed = asyncio.Event()
        self.outcomes: list[Outcome] = []
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.calls.append(Call(len(self.calls), head + body, writer))
                self.answer(self.calls[-1])
                self.changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed += 1
            self.changed.set()
        finally:
            writer.close()

    @property
    def endpoint(self) -> Endpoint:
        return self.sender.endpoint(f"http://127.0.0.1:{self.port}/sink?a=b")

    def took(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.changed.set()

    def send(self, body: bytes = b"data", *, timeout_s: float = 0.0, to: Endpoint | None = None) -> None:
        (to or self.endpoint).send(b"user-agent: knit\r\n", EVENT, body, self.took, timeout_s=timeout_s)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not reached():
                self.changed.clear()
                await self.changed.wait()

    async def outcome(self, body: bytes = b"data", *, to: Endpoint | None = None) -> Outcome:
        """Send, and wait for the end."""
        count = len(self.outcomes)
        self.send(body, to=to)
        await self.until(lambda: len(self.outcomes) > count)
        assert len(self.outcomes) == count + 1
        return self.outcomes[-1]

    def says(self, data: bytes, *, close: bool = False) -> None:
        def answer(call: Call) -> None:
            call.write(data)
            if close:
                call.close()

        self.answer = answer

    def pass_time(self, seconds: float) -> None:
        self.clock.at_s += seconds
        self.sender.sweep()


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    server = await asyncio.start_server(bench.serve, "127.0.0.1", 0)
    bench.port = server.sockets[0].getsockname()[1]
    try:
        yield bench
    finally:
        await bench.sender.aclose()
        server.close()
        for writer in bench.writers:
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running() as bench:
        yield bench


async def test_request_is_whole_and_in_order(bench: Bench) -> None:
    assert await bench.outcome() == Answer(200)
    host = b"host: 127.0.0.1:%d\r\n" % bench.port
    start = b"POST /sink?a=b HTTP/1.1\r\n" + host
    assert bench.calls[0].request == start + b"user-agent: knit\r\nce-id: 1\r\ncontent-length: 4\r\n\r\ndata"


async def test_connection_is_used_again(bench: Bench) -> None:
    outcomes = [await bench.outcome() for _ in range(3)]
    assert bench.connections == 1
    assert all(outcome is outcomes[0] for outcome in outcomes), "the common answer is one constant"


async def test_next_request_of_a_callback_uses_the_connection_just_freed(bench: Bench) -> None:
    left = [3]

    def again(outcome: Outcome) -> None:
        left[0] -= 1
        if left[0]:
            bench.endpoint.send(b"", b"", b"", again)
        else:
            bench.took(outcome)

    bench.endpoint.send(b"", b"", b"", again)
    await bench.until(lambda: bool(bench.outcomes))
    assert (len(bench.calls), bench.connections) == (3, 1)


async def test_requests_at_the_same_time_have_a_connection_each(bench: Bench) -> None:
    bench.answer = lambda call: None
    for _ in range(5):
        bench.send()
    await bench.until(lambda: len(bench.calls) == 5)
    assert bench.connections == 5
    for call in bench.calls:
        call.write(OK)
    await bench.until(lambda: len(bench.outcomes) == 5)


CE = b"HTTP/1.1 200 OK\r\nCE-Id: 7 \r\nContent-Length: 0\r\n\r\n"
CUT = b"x" * 1_000
ANSWERS: dict[str, tuple[bytes, bool, Outcome, bool]] = {
    # name: (what the peer says, it closes then, outcome, connection is used again)
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", False, Answer(204), True),
    "202 with headers": (b"HTTP/1.1 202 A\r\nDate: x\r\nContent-Length: 0\r\n\r\n", False, Answer(202), True),
    "no reason": (b"HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n", False, Answer(202), True),
    "reply without data": (CE, False, Answer(200, ((b"ce-id", b"7"), (b"content-length", b"0"))), True),
    "reply": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        False,
        Answer(200, ((b"content-length", b"2"),), b"hi"),
        True,
    ),
    "chunked reply": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nce-id: evil\r\n\r\n",
        False,
        Answer(200, ((b"transfer-encoding", b"chunked"),), b"hi!"),
        True,
    ),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhi", True, Answer(200, (), b"hi"), False),
    "empty until the end": (b"HTTP/1.1 200 OK\r\n\r\n", True, Answer(200), False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", True, Answer(200), False),
    "connection close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False, Answer(200), False),
    "retry later": (
        b"HTTP/1.1 429 T\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
        False,
        Answer(429, ((b"retry-after", b"3"), (b"content-length", b"0"))),
        True,
    ),
    "redirect": (
        b"HTTP/1.1 307 T\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        False,
        Answer(307, ((b"location", b"/x"), (b"content-length", b"0"))),
        True,
    ),
    "status 700": (
        b"HTTP/1.1 700 ?\r\nContent-Length: 0\r\n\r\n",
        False,
        Answer(700, ((b"content-length", b"0"),)),
        True,
    ),
    "interim answers": (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK, False, Answer(200), True),
    "upgrade offered": (b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n", False, Answer(200), True),
    "bytes after the answer": (OK + b"more", False, Answer(200), False),
    "two answers": (OK + OK, False, Answer(200), False),
    "204 with a body": (b"HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\nhi", False, Answer(204), False),
    "204 that announces a body": (b"HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\n", False, Answer(204), False),
    "body too large": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + CUT + b"x",
        False,
        Answer(200, ((b"content-length", b"1001"),), CUT, cut=True),
        False,
    ),
    "endless body": (b"HTTP/1.1 500 E\r\n\r\n" + CUT * 50, False, Answer(500, (), CUT, cut=True), False),
    "body breaks off": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
        True,
        Answer(200, ((b"content-length", b"9"),), b"hi", cut=True),
        False,
    ),
    "chunks break off": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        True,
        Answer(200, ((b"transfer-encoding", b"chunked"),), b"hi", cut=True),
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers(bench: Bench, name: str) -> None:
    data, close, expected, again = ANSWERS[name]
    bench.says(data, close=close)
    assert await bench.outcome() == expected
    bench.says(OK)
    assert await bench.outcome() == Answer(200)
    assert bench.connections == (1 if again else 2)
    assert len(bench.calls) == 2


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_byte_by_byte(bench: Bench, name: str) -> None:
    data, close, expected, _ = ANSWERS[name]

    def answer(call: Call) -> None:
        task = asyncio.ensure_future(drip(call))
        task.add_done_callback(lambda done: done.exception())

    async def drip(call: Call) -> None:
        for index in range(len(data)):
            call.write(data[index : index + 1])
            await asyncio.sleep(0)
        if close:
            call.close()

    bench.answer = answer
    assert await bench.outcome() == expected


UNREACHABLE: dict[str, tuple[bytes, bool, str]] = {
    "says nothing": (b"", True, "reset"),
    "half a head": (b"HTTP/1.1 200 OK\r\nA:", True, "reset"),
    "interim only": (b"HTTP/1.1 100 C\r\n\r\n", True, "reset"),
    "rubbish": (b"SSH-2.0-x\r\n", False, "garbage"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", False, "garbage"),
    "101": (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", False, "garbage"),
    "bare 101": (b"HTTP/1.1 101 S\r\n\r\n", False, "garbage"),
    "status 0": (b"HTTP/1.1 000 S\r\nContent-Length: 0\r\n\r\n", False, "garbage"),
    "HTTP/2 in text": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", False, "garbage"),
    "length and chunks": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False, "garbage"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n0", False, "garbage"),
    "bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", False, "garbage"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, False, "garbage"),
    "endless header": (b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000, False, "garbage"),
    "endless interim answers": (b"HTTP/1.1 100 C\r\n\r\n" * 10_000, False, "garbage"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREACHABLE)
async def test_no_answer(bench: Bench, name: str) -> None:
    data, close, kind = UNREACHABLE[name]
    bench.says(data, close=close)
    outcome = await bench.outcome()
    assert isinstance(outcome, Unreachable), outcome
    assert outcome.kind == kind, outcome
    assert len(bench.calls) == 1, "on a fresh connection nothing is sent twice"
    bench.says(OK)
    assert await bench.outcome() == Answer(200)


async def test_reset_in_the_middle_of_a_body_without_length_is_a_cut(bench: Bench) -> None:
    bench.says(b"HTTP/1.1 200 OK\r\n\r\nhi")
    bench.send()
    await bench.until(lambda: bool(bench.calls))
    connection = next(iter(bench.sender.connections))
    async with asyncio.timeout(LIMIT_S):
        while not connection._body:
            await asyncio.sleep(0)
    bench.calls[0].reset()
    await bench.until(lambda: bool(bench.outcomes))
    assert bench.outcomes == [Answer(200, (), b"hi", cut=True)]


async def test_stale_connection_costs_no_attempt(bench: Bench) -> None:
    await bench.outcome()

    def answer(call: Call) -> None:
        if call.number == 1:
            call.reset()
        else:
            call.write(OK)

    bench.answer = answer
    assert await bench.outcome() == Answer(200)
    assert (len(bench.calls), bench.connections) == (3, 2)


async def test_stale_connection_is_replaced_once_only(bench: Bench) -> None:
    await bench.outcome()
    bench.answer = lambda call: call.close()
    outcome = await bench.outcome()
    assert isinstance(outcome, Unreachable)
    assert outcome.kind == "reset"
    assert (len(bench.calls), bench.connections) == (3, 2)


async def test_connection_lost_long_after_the_request_is_an_attempt(bench: Bench) -> None:
    await bench.outcome()
    bench.answer = lambda call: None
    bench.send()
    await bench.until(lambda: len(bench.calls) == 2)
    bench.pass_time(10)
    bench.calls[1].close()
    await bench.until(lambda: len(bench.outcomes) == 2)
    assert isinstance(bench.outcomes[1], Unreachable)
    assert len(bench.calls) == 2


async def test_idle_connection_that_the_peer_closed_is_dropped_quietly(bench: Bench) -> None:
    await bench.outcome()
    bench.calls[0].close()
    async with asyncio.timeout(LIMIT_S):
        while bench.sender.connections:
            await asyncio.sleep(0)
    assert await bench.outcome() == Answer(200)
    assert len(bench.outcomes) == 2


async def test_idle_connection_expires(bench: Bench) -> None:
    await bench.outcome()
    bench.pass_time(29)
    assert len(bench.sender.connections) == 1
    bench.pass_time(2)
    await bench.until(lambda: bench.closed == 1)
    assert not bench.sender.connections


async def test_answer_nobody_asked_for_closes_the_connection(bench: Bench) -> None:
    await bench.outcome()
    bench.calls[0].write(b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n")
    await bench.until(lambda: bench.closed == 1)
    assert await bench.outcome() == Answer(200)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"])
async def test_timeout_ends_the_request_and_the_connection(bench: Bench, said: bytes) -> None:
    bench.says(said)
    bench.send(timeout_s=5)
    await bench.until(lambda: bool(bench.calls))
    bench.pass_time(4)
    assert bench.outcomes == []
    bench.pass_time(2)
    assert isinstance(bench.outcomes[0], Unreachable)
    assert bench.outcomes[0].kind == "timeout"
    await bench.until(lambda: bench.closed == 1)


async def test_peer_that_does_not_accept_is_given_up_after_the_connect_timeout(bench: Bench) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        bench.send(to=bench.sender.endpoint(f"http://127.0.0.1:{deaf.getsockname()[1]}/"))
        await asyncio.sleep(0.05)
        bench.pass_time(11)
        assert isinstance(bench.outcomes[0], Unreachable)
        assert bench.outcomes[0].kind == "timeout"
        for filler in fillers:
            filler.close()


async def test_refused(bench: Bench) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    outcome = await bench.outcome(to=bench.sender.endpoint(f"http://127.0.0.1:{port}/"))
    assert isinstance(outcome, Unreachable)
    assert outcome.kind == "refused"


async def test_unknown_name(bench: Bench) -> None:
    outcome = await bench.outcome(to=bench.sender.endpoint("http://no-such-name.invalid/"))
    assert isinstance(outcome, Unreachable)
    assert outcome.kind == "resolve"


async def test_name_with_several_addresses_reaches_the_one_that_listens(bench: Bench) -> None:
    assert await bench.outcome(to=bench.sender.endpoint(f"http://localhost:{bench.port}/")) == Answer(200)


async def test_answer_before_the_whole_request_is_written_ends_the_connection(bench: Bench) -> None:
    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bench.writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 L\r\nContent-Length: 0\r\n\r\n")

    async with await asyncio.start_server(answer_early, "127.0.0.1", 0, limit=100) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await bench.outcome(b"x" * 30_000_000, to=bench.sender.endpoint(f"http://127.0.0.1:{port}/"))
        assert isinstance(outcome, Answer)
        assert outcome.status == 413
        assert not bench.sender.connections


async def test_callback_that_raises_costs_no_connection(bench: Bench) -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context["exception"]))

    def fail(outcome: Outcome) -> None:
        bench.took(outcome)
        raise KeyError(outcome)

    bench.endpoint.send(b"", b"", b"", fail)
    await bench.until(lambda: bool(bench.outcomes))
    assert await bench.outcome() == Answer(200)
    assert bench.connections == 1
    assert isinstance(seen[0], KeyError)


async def test_closing_ends_what_is_in_flight(bench: Bench) -> None:
    bench.answer = lambda call: None
    bench.send()
    await bench.until(lambda: bool(bench.calls))
    await bench.sender.aclose()
    bench.send()
    await bench.until(lambda: len(bench.outcomes) == 2)
    assert [getattr(outcome, "kind", "") for outcome in bench.outcomes] == ["reset", "reset"]


async def test_endpoints_of_one_host_share_connections(bench: Bench) -> None:
    for path in ("/a", "/b"):
        await bench.outcome(to=bench.sender.endpoint(f"http://127.0.0.1:{bench.port}{path}"))
    assert bench.connections == 1

    kept = bench.sender.endpoint("http://a/b")
    assert bench.sender.endpoint("http://a/b") is kept


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_tls_is_verified(certificate: tuple[Path, Path], loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    cert, key = certificate

    async def play() -> None:
        async with running() as bench:
            context: ssl.SSLContext = server_context(str(cert), str(key))
            async with await asyncio.start_server(bench.serve, "127.0.0.1", 0, ssl=context) as server:
                url = f"https://localhost:{server.sockets[0].getsockname()[1]}/x"
                trusting = bench.sender.endpoint(url, ca_certs=cert.read_text())
                assert await bench.outcome(to=trusting) == Answer(200)
                assert await bench.outcome(to=trusting) == Answer(200)
                assert bench.connections == 1
                for stranger in (
                    bench.sender.endpoint(url),
                    bench.sender.endpoint(url.replace("localhost", "127.0.0.1"), ca_certs=cert.read_text()),
                ):
                    outcome = await bench.outcome(to=stranger)
                    assert isinstance(outcome, Unreachable)
                    assert outcome.kind == "tls", outcome
                await bench.sender.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(play())


async def test_plain_peer_behind_an_https_url_is_a_tls_failure(bench: Bench) -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bench.writers.append(writer)
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await bench.outcome(to=bench.sender.endpoint(f"https://127.0.0.1:{port}/"))
    assert isinstance(outcome, Unreachable)
    assert outcome.kind == "tls", outcome


async def test_bad_certificates_are_named(bench: Bench) -> None:
    with pytest.raises(ValueError, match="PEM"):
        bench.sender.endpoint("https://a/", ca_certs="no certificate")


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://a", "a", "/"),
        ("HTTP://A.example:80/x?y=z", "a.example", "/x?y=z"),
        ("https://a:443/", "a", "/"),
        ("https://a:8443?q", "a:8443", "/?q"),
        ("http://[::1]:81/x#frag", "[::1]:81", "/x"),
        ("http://bücher.example/ä?ö=1", "xn--bcher-kva.example", "/%C3%A4?%C3%B6=1"),
        ("http://a_b.ns.svc.cluster.local/%2F", "a_b.ns.svc.cluster.local", "/%2F"),
    ],
)
def test_urls(url: str, authority: str, path: str) -> None:
    target = parse_target(url)
    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    "url",
    ["", "a", "/a", "ftp://a/", "http://", "http:///x", "http://u@a/", "http://u:p@a/", "http://a:0/", "http://a:99999/",
     "http://a:x/", "http://a b/", "http://a/\r\nHost: b", "http://a/\n", "http://[::1/", "http://[zz]/", "http://a,b/", "http://-/",
     "http://a\\b/"],
)  # fmt: skip
def test_bad_urls(url: str) -> None:
    with pytest.raises(ValueError):
        parse_target(url)


Scenario = Callable[[Bench], Awaitable[None]]
SCENARIOS: list[Scenario] = [
    test
    for name, test in list(globals().items())
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["bench"]
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_same_on_uvloop(scenario: Scenario) -> None:
    async def play() -> None:
        async with running() as bench:
            await scenario(bench)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
