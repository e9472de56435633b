"""The two ends of the chaos tests, over sockets, in code of their own: senders that count an event as safe only once they
have read 202, and a subscriber that remembers every request.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httptools

_ANSWER_S = 10.0
_AGAIN_S = 0.02


@dataclass(slots=True)
class Seen:
    """What came to one path of the subscriber, by event id."""

    attempts: Counter[int] = field(default_factory=Counter)
    deliveries: Counter[int] = field(default_factory=Counter)
    first_seen: list[int] = field(default_factory=list)

    def note(self, event_id: int, status: int) -> None:
        self.attempts[event_id] += 1
        if 200 <= status < 300:
            self.deliveries[event_id] += 1
            if self.deliveries[event_id] == 1:
                self.first_seen.append(event_id)


Answering = Callable[[str, int, int], tuple[int, float]]
"""(path, event id, how many requests for it came there before) → (status, seconds until it is written)."""


class Sink:
    """A subscriber on loopback. `async with Sink(answering) as sink:`; what it saw is in `paths`."""

    def __init__(self, answering: Answering, *, port: int = 0) -> None:
        self.answering = answering
        self.port = port
        self.paths: dict[str, Seen] = {}
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Sink:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Served(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    def seen(self, path: str) -> Seen:
        return self.paths.setdefault(path, Seen())


class _Served(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parser: Any = httptools.HttpRequestParser(self)
        self._path = ""
        self._id = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"ce-id":
            self._id = int(value)

    def on_message_complete(self) -> None:
        seen = self._sink.seen(self._path)
        status, pause_s = self._sink.answering(self._path, self._id, seen.attempts[self._id])
        # Noted as it arrives: whatever becomes of the answer, this subscriber has it.
        seen.note(self._id, status)
        answer = b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status
        if pause_s:
            asyncio.get_running_loop().call_later(pause_s, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


@dataclass(slots=True)
class Ledger:
    """What the senders did. lanes, paths: id → the connection it was sent by, and where to; statuses: other answers than 202."""

    attempted: list[int] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    lanes: dict[int, int] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    connections: int = 0

    def new_id(self, lane: int, path: str) -> int:
        event_id = len(self.attempted) + 1
        self.paths[event_id] = path
        self.attempted.append(event_id)
        self.lanes[event_id] = lane
        return event_id


class Senders:
    """Connections that each send one event after another to where `port` says, and dial again when they are cut off.

    No event is sent twice: its id is attempted once, and acknowledged or not.
    """

    def __init__(self, ledger: Ledger, paths: tuple[str, ...], *, per_s: float, chance: random.Random) -> None:
        self.ledger = ledger
        self.port = 0
        self._paths = paths
        self._pause_s = len(paths) / per_s
        self._chance = chance

    async def run(self, stop: asyncio.Event) -> None:
        """One connection for each of `paths`, until `stop`. Returns when the last answer has come or its wait is over."""
        async with asyncio.TaskGroup() as group:
            for path in self._paths:
                group.create_task(self._keep_sending(path, stop))

    async def _keep_sending(self, path: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(OSError, EOFError, TimeoutError):
                await self._one_connection(path, stop)
            await asyncio.sleep(_AGAIN_S)

    async def _one_connection(self, path: str, stop: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.ledger.connections += 1
        lane = self.ledger.connections
        try:
            while not stop.is_set():
                event_id = self.ledger.new_id(lane, path)
                writer.write(event_bytes(path, event_id))
                async with asyncio.timeout(_ANSWER_S):
                    status = await read_status(reader)
                if status == 202:
                    self.ledger.acknowledged.add(event_id)
                else:
                    self.ledger.statuses[status] += 1
                await asyncio.sleep(self._chance.expovariate(1 / self._pause_s))
        finally:
            writer.close()


def event_bytes(path: str, event_id: int) -> bytes:
    """One binary event; its type tells whether the id is odd."""
    body = b'{"n": %d}' % event_id
    kind = "odd" if event_id % 2 else "even"
    head = (
        f"POST {path} HTTP/1.1\r\nhost: mesh\r\nce-specversion: 1.0\r\nce-id: {event_id}\r\nce-source: /chaos\r\n"
        f"ce-type: chaos.{kind}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_status(reader: asyncio.StreamReader) -> int:
    """The status of one answer, read to its end.

    Raises:
        EOFError: the connection ended before the answer did.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.partition(b":")[2]))
    return int(head.split(b" ", 2)[1])
