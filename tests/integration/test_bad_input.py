"""Everything that can be wrong with a request, on purpose or not, sent to a running mesh beside a good sender.

RFC 9112 (framing), HTTP Garden's kinds of smuggling, eventing.md 2.2-2.3. What is wrong with events: test_bad_events.py.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.integration.siege import BODY_TIMEOUT_S, HEADER_TIMEOUT_S, MIB, Siege, besieged, came
from tests.integration.sockets import Wire, answers, dial, event_head

SWEEPS_S = 2.0
"""A deadline is seen up to two sweeps of a second late (mesh/http/wire.py)."""
HIDDEN = event_head("evil-hidden", "content-length: 2") + b"{}"
"""A whole request, for the body of another one."""


@pytest.fixture(scope="module")
def running() -> Iterator[Siege]:
    with besieged() as siege:
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
    assert siege.memory() - before < 32 * MIB  # what was offered is 125 MiB; some 15 are the pieces under way


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
