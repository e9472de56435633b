"""Which request heads are refused, and with what answer. Pure. RFC 9112, 2 to 7, read strictly.

llhttp refuses a lot by itself (bare LF, obs-fold, NUL, length and chunks together, …). Here is what it lets pass and
what another parser on the way could read in another way: that difference is what request smuggling lives on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_ONCE = (b"host", b"content-length", b"transfer-encoding", b"expect")
"""Headers that decide how a message is read: of two, another parser might believe the other one."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is ended by the server. `code` is for counting, `text` for the client."""

    status: int
    code: str
    text: str


class Head(NamedTuple):
    """How to go on after a request head. length: -1 where the body is chunked. expects: it waits for `100 Continue`."""

    length: int
    expects: bool
    http10: bool


def read_head(headers: Sequence[tuple[bytes, bytes]], *, keep_alive: bool, spoken: Callable[[], str]) -> Head | Refusal:
    """Judge the headers, names in lower case.

    keep_alive: what the parser makes of version and Connection header. Only where these leave it open is `spoken`, the
    version, asked.
    """
    seen = dict(headers)
    if len(seen) != len(headers):
        names = [name for name, _ in headers]
        for name in _ONCE:
            if names.count(name) > 1:
                return malformed(f"the header {name.decode()} is there more than once")
    doubtful = not keep_alive or b"connection" in seen
    host = seen.get(b"host")
    length = seen.get(b"content-length", b"0")
    if (
        doubtful
        or host is None
        or len(host) > 255
        or len(length) > 16
        or b"transfer-encoding" in seen
        or b"expect" in seen
    ):
        return _read_rare(seen, spoken() if doubtful else "1.1")
    return _read_usual(host, length)


@lru_cache(maxsize=1_024)
def _read_usual(host: bytes, length: bytes) -> Head | Refusal:
    return _read_rare({b"host": host, b"content-length": length}, "1.1")


def _read_rare(seen: Mapping[bytes, bytes], version: str) -> Head | Refusal:
    if version not in ("1.0", "1.1"):
        return Refusal(505, "unsupported", "the versions understood are HTTP/1.1 and HTTP/1.0")
    http10 = version == "1.0"
    host = seen.get(b"host", b"" if http10 else None)
    if host is None or not _HOST.fullmatch(host):
        return malformed("expected one Host header with a host in it")
    length = _read_length(seen, http10=http10)
    if isinstance(length, Refusal):
        return length
    expect = seen.get(b"expect")
    if expect is None or http10:  # HTTP/1.0 knows no expectations: they are ignored (RFC 9110, 10.1.1)
        return Head(length, expects=False, http10=http10)
    if expect.lower() != b"100-continue":
        return Refusal(417, "unsupported", "the only expectation understood is `100-continue`")
    return Head(length, expects=length != 0, http10=False)


def _read_length(seen: Mapping[bytes, bytes], *, http10: bool) -> int | Refusal:
    coding = seen.get(b"transfer-encoding")
    length = seen.get(b"content-length")
    if coding is None:
        if length is None:
            return 0
        return int(length) if length.isdigit() else malformed("the Content-Length is not a number of digits")
    if length is not None or http10:
        # Either makes some other parser ignore the chunks and see another request in them (RFC 9112, 6.1).
        return malformed("Transfer-Encoding does not belong beside a Content-Length or in HTTP/1.0")
    if coding.lower() != b"chunked":
        return Refusal(501, "unsupported", "the only Transfer-Encoding understood is `chunked`")
    return -1


def origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None] | Refusal:
    """Reduce a request target to path and query: returns (target, host that replaces the Host header or None)."""
    if method == b"CONNECT":
        return Refusal(405, "unsupported", "CONNECT is not supported: this is no proxy")
    if b"#" in target:
        return malformed("a request target has no fragment")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1] or not _HOST.fullmatch(absolute[1]):
        return malformed("the request target is neither a path nor an http URL")
    rest = absolute[2]
    return (rest if rest.startswith(b"/") else b"/" + rest), absolute[1]


def malformed(text: str) -> Refusal:
    """400: the bytes are not the HTTP that is understood here."""
    return Refusal(400, "malformed", text)
