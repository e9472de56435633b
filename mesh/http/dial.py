"""Opening connections: names to addresses, all of them tried, and what went wrong in one word. Not the hot path."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from mesh.delivery.outcome import Unreachable
from mesh.http.wire import Clock

_KEPT_S = 5.0
_FAILURE_KEPT_S = 1.0
_MAX_NAMES = 1_024


@dataclass(frozen=True, slots=True)
class _Resolved:
    until: float
    addresses: tuple[str, ...]
    failure: OSError | None = None


class Dialer:
    """Opens connections; remembers addresses for some seconds, and failures for one, so that a burst asks DNS once."""

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop, *, connect_timeout_s: float) -> None:
        self._clock = clock
        self._loop = loop
        self._connect_timeout_s = connect_timeout_s
        self._known: dict[str, _Resolved] = {}
        self._asking: dict[str, asyncio.Task[_Resolved]] = {}

    async def connect(
        self, protocol: Callable[[], asyncio.Protocol], host: str, port: int, *, context: ssl.SSLContext | None
    ) -> None:
        """Try each address of `host` in turn; each has its part of the time, so that one that is silent costs not all.

        Raises:
            OSError: of the last address tried; `unreachable` puts it in a word.
        """
        addresses = await self._addresses(host)
        limit_s = self._connect_timeout_s / len(addresses)
        failure: OSError = OSError("no address")
        for address in addresses:
            try:
                async with asyncio.timeout(limit_s):
                    await self._loop.create_connection(
                        protocol,
                        address,
                        port,
                        ssl=context,
                        server_hostname=host if context else None,
                        ssl_handshake_timeout=limit_s if context else None,
                    )
            except OSError as exc:  # TimeoutError and SSLError are OSErrors
                failure = exc
            else:
                return
        raise failure

    async def aclose(self) -> None:
        """Forget the questions under way."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _addresses(self, host: str) -> tuple[str, ...]:
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            pass
        known = self._known.get(host)
        if known is None or known.until <= self._clock.monotonic():
            task = self._asking.get(host)
            if task is None:
                task = self._asking[host] = self._loop.create_task(self._ask(host))
            known = await asyncio.shield(task)  # who waits may be cancelled; the others still want the answer
        if known.failure is not None:
            raise known.failure
        return known.addresses

    async def _ask(self, host: str) -> _Resolved:
        try:
            found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
            answer = _Resolved(self._clock.monotonic() + _KEPT_S, addresses)
        except OSError as exc:
            answer = _Resolved(self._clock.monotonic() + _FAILURE_KEPT_S, (), exc)
        finally:
            del self._asking[host]
        if len(self._known) >= _MAX_NAMES:
            self._known.clear()
        self._known[host] = answer
        return answer


def unreachable(exc: OSError, where: str) -> Unreachable:
    """Put a failure to connect to `where` into a word and a sentence."""
    match exc:
        case socket.gaierror():
            return Unreachable("resolve", f"the name in {where} was not found: {exc.strerror}")
        case ssl.SSLError():
            reason = getattr(exc, "verify_message", "") or exc.reason or str(exc)
            return Unreachable("tls", f"no TLS with {where}: {reason}")
        case TimeoutError():
            return Unreachable("timeout", f"no connection to {where} in time")
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return Unreachable("reset", f"the connection to {where} was reset while it was opened")
        case _:
            return Unreachable("refused", f"no connection to {where}: {exc.strerror or exc}")
