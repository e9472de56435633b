"""A client that sends bytes as they are, well formed or not, and reads what is answered."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

LIMIT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """Header names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self._data = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def answer(self) -> Answer | None:
        """The next answer, or None where the connection ended instead.

        Raises:
            TimeoutError: neither came.
        """
        while b"\r\n\r\n" not in self._data:
            if not self._more():
                return None
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._data) < length:
            if not self._more():
                return None
        body, self._data = self._data[:length], self._data[length:]
        return Answer(int(line.split(" ")[1]), headers, body)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65_536)
        except ConnectionError:
            return False
        self._data += data
        return bool(data)

    def close(self) -> None:
        self.socket.close()


@contextmanager
def dial(port: int) -> Iterator[Wire]:
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()


def answers(port: int, data: bytes) -> list[Answer]:
    """Send this, and read answers until the other side ends the connection.

    Raises:
        TimeoutError: it does not.
    """
    found = []
    with dial(port) as wire:
        # Cut off before all was taken? What it had to say is still to be read.
        with suppress(ConnectionError):
            wire.send(data)
        while (answer := wire.answer()) is not None:
            found.append(answer)
    return found


def event_head(event_id: str, *lines: str | bytes, method: str = "POST", path: str = "/default/default") -> bytes:
    """The head of a good binary event, with these lines in addition."""
    good = (
        f"{method} {path} HTTP/1.1\r\nhost: mesh\r\nce-specversion: 1.0\r\nce-id: {event_id}\r\nce-source: /s\r\n"
        "ce-type: t\r\ncontent-type: application/json\r\n"
    )
    more = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines)
    return good.encode() + more + b"\r\n"
