"""A sender for measurements: `python -m loadtest.drive URL --connections 64 --seconds 5 [--rate 500] [--type t]`.

Without --rate it is closed-loop: every connection sends its next event when the last was answered (saturation). With --rate it
is open-loop: events are due at fixed times whatever happened to the ones before, and a latency is counted from when an event was
due, so a stall is not hidden (no coordinated omission). Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop


def request(url: str, event_type: str, size: int) -> tuple[bytes, bytes]:
    """The request up to the id, and after it."""
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: drive\r\nce-specversion: 1.0\r\nce-id: "
    body = b'{"pad":"' + b"x" * (size - 10) + b'"}'
    rest = (
        f"\r\nce-source: /loadtest/source\r\nce-type: {event_type}\r\nce-time: 2024-05-06T07:08:09.123Z\r\nce-subject: s\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode(), rest.encode() + body


class Run:
    """What all connections share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.head, self.rest = request(args.url, args.type, args.size)
        self.count = 0
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.until = time.monotonic() + args.seconds
        self.limit = args.count or 1 << 62
        self.open_loop = bool(args.rate)
        self.idle: deque[Sender] = deque()
        self.due: deque[float] = deque()
        self.finished = asyncio.Event()
        self.in_flight = 0


class Sender(asyncio.Protocol):
    """One connection, one request in flight."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.parser = httptools.HttpResponseParser(self)
        self.transport: Any = None
        self.due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # uvloop's own class, used as an asyncio.Transport
        if not self.run.open_loop:
            self.send(time.monotonic())

    def send(self, due_at: float) -> None:
        run = self.run
        run.count += 1
        run.in_flight += 1
        self.due_at = due_at
        self.transport.write(b"%b%d%b" % (run.head, run.count, run.rest))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        run = self.run
        run.in_flight -= 1
        now = time.monotonic()
        run.statuses[self.parser.get_status_code()] += 1
        run.latencies.append(now - self.due_at)
        if run.open_loop:
            if run.due:
                self.send(run.due.popleft())
            else:
                run.idle.append(self)
        elif now < run.until and run.count < run.limit:
            self.send(now)
        elif run.in_flight == 0:
            run.finished.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.statuses[0] += 1
        self.run.finished.set()


async def pace(run: Run, rate: float) -> None:
    start = time.monotonic()
    number = 0
    while (now := time.monotonic()) < run.until:
        while start + number / rate <= now:
            due = start + number / rate
            number += 1
            if run.idle:
                run.idle.popleft().send(due)
            else:
                run.due.append(due)
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
    while run.in_flight or run.due:
        await asyncio.sleep(0.01)
    run.finished.set()


async def main(args: argparse.Namespace) -> None:
    run = Run(args)
    parts = urlsplit(args.url)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Sender(run), parts.hostname, parts.port) for _ in range(args.connections)
    ]
    if run.open_loop:
        run.idle.extend(protocol for _, protocol in made)
        await pace(run, args.rate)
    await run.finished.wait()
    seconds = args.seconds
    latencies = sorted(run.latencies) or [0.0]
    at = lambda share: round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000, 3)  # noqa: E731
    print(
        json.dumps(
            {
                "answered": sum(run.statuses.values()),
                "statuses": dict(run.statuses),
                "per_s": round(sum(run.statuses.values()) / seconds, 1),
                "p50_ms": at(0.5),
                "p99_ms": at(0.99),
                "max_ms": at(1.0),
            }
        )
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--type", default="com.example.loadtest")
    parser.add_argument("--size", type=int, default=1024)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main(arguments()))
