"""The URL of a subscriber, taken apart once. RFC 3986, RFC 9112 3.2."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. host: a name in its ASCII form, or an IP address without brackets. path: with query, encoded."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Take an absolute http or https URL apart.

    Raises:
        ValueError: it is none, or has a user name in it; the text says what was expected.
    """
    # urlsplit drops tabs and line ends silently: what it hides must be seen first.
    if any(ch <= " " or ch in "\x7f\\" for ch in url):
        raise ValueError(f"expected a URL without spaces and control characters, got {url!r}")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError(f"expected an http or https URL, got {url!r}")
    if "@" in parts.netloc:
        raise ValueError("a URL must not carry a user name or password")
    try:
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
    except ValueError as exc:
        raise ValueError(f"expected a port between 1 and 65535 in {url!r}") from exc
    if port == 0:
        raise ValueError(f"expected a port between 1 and 65535 in {url!r}")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~[]|")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?[]|')}" if parts.query else ""
    return Target(parts.scheme, _host(parts.hostname or "", url), port, path + query)


def _host(host: str, url: str) -> str:
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError as exc:
        raise ValueError(f"the host of {url!r} has no ASCII form") from exc
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError(f"expected a host name or IP address in {url!r}")
    return name
