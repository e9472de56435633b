"""What the two ends of the hot path share: the clock they ask, and the shape of an answer. RFC 9112."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

SWEEP_S = 1.0
"""Pause between two looks at all deadlines. A deadline fires at its time or up to two of these later, never earlier."""

TEXT = b"text/plain; charset=utf-8"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Clock(Protocol):
    """The part of `mesh.runtime.clock.Clock` that is needed here; rooms side by side do not import each other."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""


def date_line(now_ns: int) -> bytes:
    """The Date header line for this moment, ended by CRLF (RFC 9110, 6.6.1)."""
    return b"date: %s\r\n" % formatdate(now_ns // 1_000_000_000, usegmt=True).encode()


def answer_bytes(
    status: int, body: bytes, *, headers: bytes, content_type: bytes, date: bytes, close: bool, head: bool = False
) -> bytes:
    """One whole answer. `headers` and `date` are lines each ended by CRLF; `head` leaves the body away (method HEAD)."""
    closing = b"connection: close\r\n" if close else b""
    typed = b"content-type: %s\r\n" % content_type if body else b""
    # 204 and 304 have no body by definition, and a content-length there confuses clients (RFC 9110, 8.6).
    length = b"" if status in (204, 304) else b"content-length: %d\r\n" % len(body)
    content = b"" if head or not length else body
    line = b"HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, b"Unknown"))
    return b"".join((line, date, headers, typed, length, closing, b"\r\n", content))
