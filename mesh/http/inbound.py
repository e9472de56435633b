"""One connection of the listener: bytes in, requests out one at a time, answers back in order. RFC 9112.

The hot path: no task, future or timer per request. Drivable without sockets: it needs a transport and an `Intake` only.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from mesh.events.template import Template
from mesh.http.framing import Refusal, malformed, origin_form, read_head
from mesh.http.request import Intake, Request
from mesh.http.wire import TEXT, answer_bytes
from mesh.settings import HttpSettings

PIECE = 16_384
"""Bytes that are parsed at a time, where they may hold several requests: bounds how many requests can wait parsed."""
_MAX_TARGET = 8_192
_LINGER_S = 3.0
_LINGER_BYTES = 64 * 1024**2
_MAX_LINGERING = 1_024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_IDLE, _HEAD, _BODY, _ENDED, _LINGERING = range(5)
"""Between requests; in a head; in a body; nothing more is read as HTTP; answered, and only waiting for the client to leave."""

_FRAMING_AGAIN = b"POST / HTTP/1.1\r\nhost: x\r\n%s\r\n"
_NO_HEADERS: list[tuple[bytes, bytes]] = []


class _RefusedError(Exception):
    """Stops the parser at the spot; the connection's `_refusal` says why."""


class Connection(asyncio.Protocol):
    """The protocol object. The `on_*` methods are called by the parser, inside `feed_data`."""

    __slots__ = (
        "_advancing",
        "_body",
        "_choked",
        "_continue_due",
        "_current",
        "_eof",
        "_headers",
        "_keep_alive",
        "_length",
        "_limit",
        "_lines",
        "_method",
        "_parser",
        "_paused",
        "_phase",
        "_piece",
        "_raw",
        "_refusal",
        "_rest",
        "_size",
        "_target",
        "_template",
        "_transport",
        "_upgrading",
        "_waiting",
        "deadline",
        "intake",
        "peer",
    )  # fmt: skip

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.peer = ""
        self.deadline = math.inf
        self._phase = _IDLE
        self._current: Request | None = None
        self._waiting: list[Request] = []
        self._rest = b""
        self._refusal: Refusal | None = None
        self._advancing = self._choked = self._paused = self._continue_due = self._upgrading = self._eof = False
        self._headers = self._lines = _NO_HEADERS
        self._target = self._method = b""
        self._body: bytes | bytearray = b""
        self._size = self._length = self._limit = self._raw = self._piece = 0
        self._keep_alive = True
        self._template: Template | None = None
        self._parser: Any = HttpRequestParser(self)

    # --- the transport's calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        intake = self.intake
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream transport by construction
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
        self.deadline = intake.now + intake.idle_wait
        intake.stats.connections += 1
        is_full = len(intake.connections) >= intake.settings.max_connections
        intake.connections.add(self)
        if is_full or intake.draining:
            self._refuse(
                Refusal(503, "too_many_connections" if is_full else "draining", "no more connections are taken")
            )

    def connection_lost(self, exc: Exception | None) -> None:
        intake = self.intake
        intake.stats.connections -= 1
        intake.connections.discard(self)
        intake.lingering.discard(self)
        self._phase = _LINGERING
        self._parser = None  # it holds our methods: without this only the garbage collector could free us
        self._rest = b""
        self._waiting.clear()
        if self._current is not None:
            self._current.forget()
            self._current = None
        if intake.on_lost is not None:
            intake.on_lost()

    def data_received(self, data: bytes) -> None:
        intake = self.intake
        intake.stats.bytes_in += len(data)
        template = self._template
        if template is not None and self._phase == _IDLE and self._current is None and not (self._rest or self._choked):
            found = template.recognise(data)
            if found is not None and len(data) - found[4] <= intake.settings.max_event_bytes:
                request = Request(self, b"POST", found[0].encode(), None, found, data[found[4] :], True)  # noqa: FBT003
                self._current = request
                self.deadline = math.inf
                intake.take(request)
                return
        if self._phase >= _ENDED:
            self._size += len(data)
            if self._size > _LINGER_BYTES:
                self._transport.abort()
        elif self._current is None and not self._rest and not self._choked and len(data) <= PIECE:
            self._feed(data)
            if self._waiting:
                # The usual case without the loop: one whole request has come, and nothing else is going on.
                self._hand_over(self._waiting.pop(0))
            if self._waiting or self._phase == _ENDED or self._rest:
                self._advance()
        else:
            self._rest += data
            self._advance()

    def eof_received(self) -> bool:
        """The client has said all it will say. It may still read: keep the connection for the answers that are due."""
        self._eof = True
        if self._current is None:
            self._advance()
        # Where the client was only waited for, it has left now.
        return self._phase != _LINGERING and not self._transport.is_closing()

    def pause_writing(self) -> None:
        self._choked = True
        self.deadline = self.intake.now + self.intake.idle_wait
        self._hold_back()

    def resume_writing(self) -> None:
        self._choked = False
        self._rearm()
        self._advance()

    # --- the server's calls ---

    @property
    def is_busy(self) -> bool:
        """A request is in hand: being read, waiting, or in the handler."""
        return self._current is not None or bool(self._waiting or self._rest) or self._phase in (_HEAD, _BODY)

    def drain(self) -> None:
        """Close if idle; otherwise the answer that is due will say `connection: close`."""
        if not self.is_busy and self._phase == _IDLE:
            self.close()

    def close(self) -> None:
        """Close once what was answered is written."""
        self.intake.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._phase == _LINGERING or self._choked or self._transport.is_closing():
            self._transport.abort()
        elif self._current is not None or self._waiting:
            self.deadline = math.inf  # the handler's time is the handler's affair; `answer` sets a new deadline
        elif self._phase == _HEAD:
            self._refuse(Refusal(408, "header_timeout", "the headers of the request took too long"))
        elif self._phase == _BODY:
            self._refuse(Refusal(408, "body_timeout", "the body of the request took too long"))
        else:
            self.close()

    # --- answering ---

    def answer(self, data: bytes, *, close: bool) -> None:
        """Write the answer to the request in hand.

        Never raises: it is called from anywhere, and a callback that raises costs whoever runs it their connection.
        """
        self._current = None
        transport = self._transport
        if transport.is_closing():
            return
        intake = self.intake
        intake.write(transport, data)
        if close:
            intake.flush()
            self._rest = b""
            # Where no more than this request was read, there is nothing to wait for.
            if self._waiting or self._phase != _ENDED:
                self._waiting.clear()
                self._linger()
            else:
                self._phase = _LINGERING
                self.deadline = self.intake.now + self.intake.idle_wait
                transport.close()
            return
        if self._phase == _IDLE and not self._choked:
            intake = self.intake
            self.deadline = intake.now + intake.idle_wait
        else:
            self._rearm()
        if self._waiting or self._rest or self._phase == _ENDED or self._continue_due or self._paused or self._eof:
            self._advance()

    def _rearm(self) -> None:
        if self._phase < _ENDED and not self._choked:
            intake = self.intake
            self.deadline = intake.now + (intake.idle_wait if self._phase == _IDLE else intake.body_wait)

    def _advance(self) -> None:
        """Do what can be done now: hand over the next request, parse on, or end. Re-entered by answers given at once."""
        if self._advancing:
            return
        self._advancing = True
        while self._current is None and not self._choked and self._phase != _LINGERING:
            if self._waiting:
                self._hand_over(self._waiting.pop(0))
            elif self._rest and self._phase != _ENDED:
                # A body of known length cannot hold another request: no need to cut it into pieces.
                size = max(PIECE, self._length - self._size if self._phase == _BODY else 0)
                piece, self._rest = self._rest[:size], self._rest[size:]
                self._feed(piece)
            elif self._refusal is not None:
                self._end_refused(self._refusal)
            elif self._eof:
                self._phase = _LINGERING
                self.close()
            else:
                if self._continue_due:
                    self._continue_due = False
                    self._write(_CONTINUE)
                break
        self._advancing = False
        self._hold_back()

    def _hold_back(self) -> None:
        """Read only while what is read can be worked on: a client that pipelines or does not read its answers waits."""
        hold = self._phase != _LINGERING and (
            self._choked or (self._current is not None and bool(self._rest or self._waiting))
        )
        if hold != self._paused and not self._transport.is_closing():
            self._paused = hold
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _hand_over(self, request: Request) -> None:
        self._current = request
        self.deadline = math.inf
        self.intake.handle(request)

    def _write(self, data: bytes) -> None:
        self.intake.flush()
        if not self._transport.is_closing():
            self._transport.write(data)

    # --- ending ---

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection with this answer, after the answers that are due before it."""
        self._set_refusal(refusal)
        self._advance()

    def _set_refusal(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._phase = _ENDED
        self._rest = b""

    def _end_refused(self, refusal: Refusal) -> None:
        self._refusal = None
        self.intake.refused(refusal)
        text = refusal.text.encode() + b"\n"
        date = self.intake.date
        self._write(answer_bytes(refusal.status, text, headers=b"", content_type=TEXT, date=date, close=True))
        self._linger()

    def _linger(self) -> None:
        """Say that nothing follows, then let the client finish.

        Closing while there is unread data is a reset, which would destroy the answer before the client reads it.
        """
        self._phase = _LINGERING
        self._size = 0
        self.deadline = self.intake.now + _LINGER_S
        transport = self._transport
        if transport.is_closing():
            return
        if not transport.can_write_eof() or len(self.intake.lingering) >= _MAX_LINGERING:  # TLS cannot
            transport.close()
            return
        self.intake.connections.discard(self)
        self.intake.lingering.add(self)
        transport.write_eof()

    # --- parsing ---

    def _feed(self, data: bytes) -> None:
        self._piece = len(data)
        self._raw += self._piece
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except HttpParserError as error:
            self._stop(error, data)
        if self._phase != _IDLE:
            self._bound_raw()

    def _bound_raw(self) -> None:
        """Bound what the limits on whole headers and bodies do not see: half a header, chunk extensions, trailers."""
        room = self.intake.settings.max_header_bytes + PIECE
        if self._phase == _HEAD and (self._raw > room or len(self._lines) > self.intake.settings.max_headers):
            self._set_refusal(_too_many_headers(self.intake.settings))
        elif self._phase == _BODY and self._length < 0:
            self._lines.clear()  # trailers: nobody reads them
            if self._raw > 2 * self._limit + room:
                self._set_refusal(malformed("the chunks are too small, or what is between them is too large"))

    def _stop(self, error: HttpParserError, data: bytes) -> None:
        if self._refusal is not None or self._phase == _ENDED:
            return  # refused in a callback; or bytes behind a request that said `connection: close`, which nobody answers
        if self._phase == _HEAD and self._parser.get_method() == b"PRI":
            self._set_refusal(Refusal(505, "unsupported", "HTTP/2 is not supported: use HTTP/1.1"))
        elif data[:1] == b"\x16":
            self._set_refusal(malformed("this is TLS, and the port speaks plain HTTP"))
        else:
            self._set_refusal(malformed(f"malformed request: {error}"))

    def _fail(self, refusal: Refusal) -> NoReturn:
        self._set_refusal(refusal)
        raise _RefusedError

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read on as if no upgrade had been asked for (RFC 9110, 7.8).

        After such a head the parser skips the body as if it were another protocol. So a fresh one is told the framing
        again: otherwise the body would be read as the next request, which is smuggling.
        """
        framing = b"transfer-encoding: chunked\r\n" if self._length < 0 else b"content-length: %d\r\n" % self._length
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_FRAMING_AGAIN % framing)
        self._rest = rest + self._rest

    # --- the parser's calls ---

    def on_message_begin(self) -> None:
        if self._upgrading:
            return
        if self._phase == _ENDED:
            raise _RefusedError
        self._phase = _HEAD
        self._raw = self._piece  # at most: a part of it may belong to the request before
        self._target = b""
        self._lines = []
        self.deadline = self.intake.now + self.intake.header_wait

    def on_url(self, url: bytes) -> None:
        if self._upgrading:
            return
        self._target += url
        if len(self._target) > _MAX_TARGET:
            self._fail(Refusal(414, "target_too_long", f"the request target is longer than {_MAX_TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        if self._upgrading:  # the second head, which only told the framing again
            self._upgrading = False
            return
        intake = self.intake
        settings = intake.settings
        parser = self._parser
        self._method = parser.get_method()
        lines = self._lines
        headers = self._headers = [(name.lower(), value.strip()) for name, value in lines]
        self._lines = []  # what comes there now is trailers: they must never pose as headers
        if len(headers) > settings.max_headers or (
            self._raw > settings.max_header_bytes and self._header_bytes() > settings.max_header_bytes
        ):
            self._fail(_too_many_headers(settings))
        keep_alive = parser.should_keep_alive()
        head = read_head(headers, keep_alive=keep_alive, spoken=parser.get_http_version)
        if isinstance(head, Refusal):
            self._fail(head)
        if self._target[:1] != b"/" or b"#" in self._target:
            self._use_origin_form()
        self._limit = limit = settings.max_event_bytes if intake.limit_of is None else intake.limit_of(self._target)
        if head.length > limit:
            self._fail(_too_large(limit))
        self._keep_alive = keep_alive and not head.http10
        self._length = head.length
        self._phase = _BODY
        self._upgrading = parser.should_upgrade()
        self.deadline = intake.now + intake.body_wait
        if intake.learner is not None and self._method == b"POST" and self._keep_alive:
            self._template = intake.learner.template(lines)
        if head.expects:
            if self._waiting:
                self._continue_due = True
            else:
                self._write(_CONTINUE)

    def _header_bytes(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _use_origin_form(self) -> None:
        found = origin_form(self._method, self._target)
        if isinstance(found, Refusal):
            self._fail(found)
        self._target, host = found
        if host is not None:  # it overrules the header (RFC 9112, 3.2.2)
            self._headers = [(name, host if name == b"host" else value) for name, value in self._headers]

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            self._fail(_too_large(self._limit))
        if not self._body:
            self._body = chunk
        elif isinstance(self._body, bytes):
            self._body = bytearray(self._body) + chunk
        else:
            self._body += chunk

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        body, self._body = bytes(self._body), b""
        self._waiting.append(Request(self, self._method, self._target, self._headers, None, body, self._keep_alive))
        self._headers = _NO_HEADERS
        self._size = 0
        self._continue_due = False
        self._phase = _IDLE if self._keep_alive else _ENDED


def _too_many_headers(settings: HttpSettings) -> Refusal:
    most = f"{settings.max_headers} headers (KNIT_HTTP_MAX_HEADERS)"
    size = f"{settings.max_header_bytes} bytes of them (KNIT_HTTP_MAX_HEADER_BYTES)"
    return Refusal(431, "headers_too_large", f"more than {most} or {size}")


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "body_too_large", f"the body is larger than {limit} bytes (KNIT_HTTP_MAX_EVENT_BYTES)")
