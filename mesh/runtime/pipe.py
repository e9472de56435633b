"""Messages between the parent and a worker: pickled values over a socket pair, both ends the same program.

Only processes that this program itself started hold the other end, so pickle is safe here.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

_HEAD = struct.Struct(">I")
LIMIT = 1 << 30


class Pipe:
    """One end. `receive` returns None when the other end is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Pipe:
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        return cls(*await asyncio.open_connection(sock=sock, limit=1 << 20))

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; never blocks. To an end that is gone it does nothing: `receive` tells of that."""
        if self._writer.is_closing():
            return
        body = pickle.dumps(message, protocol=5)
        self._writer.write(_HEAD.pack(len(body)) + body)

    async def receive(self) -> dict[str, Any] | None:
        try:
            (size,) = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
            message: dict[str, Any] = pickle.loads(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return message

    async def flush(self) -> None:
        """Wait until what was sent is on its way, or the other end is gone."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        self._writer.close()
