"""Subscribers in code of their own, that answer as no subscriber should: one thread a connection, over raw sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

Behaviour = Callable[[socket.socket, bytes], None]
"""(connection, request head and body) → writes what it likes. The connection is kept where it returns, and closed where it
raises `Leave`."""
_LIMIT_S = 30.0


class Leave(Exception):  # noqa: N818 - it is no error
    """Close the connection now."""


class Rude:
    """`with Rude(behaviour) as subscriber:`. How many requests came is in `requests`, and how many at a time in `most`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.most = 0
        self._now = 0
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Rude:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._acceptor, *self._threads]:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._changed:
                self._open.add(connection)
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_LIMIT_S)
        try:
            with suppress(OSError, Leave):
                while request := _read_request(connection):
                    with self._changed:
                        self.requests.append(request)
                        self._now += 1
                        self.most = max(self.most, self._now)
                        self._changed.notify_all()
                    try:
                        self._behaviour(connection, request)
                    finally:
                        with self._changed:
                            self._now -= 1
        finally:
            with self._changed:
                self._open.discard(connection)
            connection.close()

    def wait(self, count: int, *, limit_s: float = 20.0) -> list[bytes]:
        """Until so many requests came."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, limit_s), f"came: {len(self.requests)}"
            return list(self.requests)


def _read_request(connection: socket.socket) -> bytes:
    """Head and body of one request with a Content-Length; nothing where the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return b""
        data += more
    head = data.partition(b"\r\n\r\n")[0]
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    size = len(head) + 4 + sum(lengths)
    while len(data) < size:
        more = connection.recv(65_536)
        if not more:
            return b""
        data += more
    return data


def header(request: bytes, name: str) -> str:
    """The value of a header of a recorded request; "" where it is not there."""
    for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.decode("latin-1").lower() == name:
            return value.strip().decode("latin-1")
    return ""


# Behaviours.


def answers(*pieces: bytes, pause_s: float = 0.0, leave: bool = False) -> Behaviour:
    """Write these, with pauses before each, and hang up where `leave` says so."""

    def behave(connection: socket.socket, _request: bytes) -> None:
        for piece in pieces:
            if pause_s:
                time.sleep(pause_s)
            connection.sendall(piece)
        if leave:
            raise Leave

    return behave


def never(connection: socket.socket, _request: bytes) -> None:
    """Say nothing until the other side gives up."""
    connection.recv(1)
    raise Leave


def endless(head: bytes, piece: bytes, *, pause_s: float = 0.0) -> Behaviour:
    """An answer without end."""

    def behave(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head)
        until = time.monotonic() + _LIMIT_S
        while time.monotonic() < until:
            connection.sendall(piece)
            if pause_s:
                time.sleep(pause_s)
        raise Leave

    return behave


def slam(_connection: socket.socket, _request: bytes) -> None:
    """Hang up without a word."""
    raise Leave
