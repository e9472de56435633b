"""A counting subscriber that answers at once: `python -m loadtest.sink PORT [--status 204]`.

It answers 204 to every POST without looking at it, and `GET /` with how many it took. One asyncio.Protocol on httptools: cheap
enough not to be what is measured.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
import uvloop

_ANSWERS = {204: b"HTTP/1.1 204 No Content\r\n\r\n", 202: b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"}


class Sink(asyncio.Protocol):
    """One connection."""

    taken = 0
    latencies: list[tuple[bytes, float]] | None = None
    answer = _ANSWERS[204]

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.transport: Any = None
        self.sent_at = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # uvloop's own class, used as an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self.parser.get_method() == b"POST":
            Sink.taken += 1
            self.transport.write(Sink.answer)
        else:
            body = str(Sink.taken).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def main(port: int, status: int) -> None:
    Sink.answer = _ANSWERS[status]
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 204))
