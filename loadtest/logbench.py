"""What an event costs in the log channel: publish, commit, hand out, settle, delete, in CPU of both threads.

    python -m loadtest.logbench [--events N] [--publishers 64] [--bytes 1024] [--waiting N] [--parallelism 200]

Each publisher publishes its next event in the callback of the last one. `--waiting N` puts N events before a
subscription that nobody reads first, then starts again on that store, and says how long that took and what it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import uvloop

from channels.api import Burial, Deliver, Delivery, Done, Refusal, SubscriptionSpec, TopicSpec
from channels.log import LogChannel
from mesh.events.event import Event
from mesh.runtime.clock import SystemClock
from mesh.settings import LogSettings

BLOCK = (
    b"ce-id: 7f1c9f2e-5a0b-4b7e-9a3c-2f1d8e6b0a11\r\nce-source: /shop/orders\r\nce-type: order.created\r\n"
    b"ce-specversion: 1.0\r\nce-time: 2026-11-25T12:00:00Z\r\ncontent-type: application/json\r\n"
)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def private_mib() -> float:
    """Private memory; a mapped file counts as resident, so RSS would mislead."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty"):
            return int(line.split()[1]) / 1024
    return 0.0


class Publisher(Protocol):
    """What a drive drives."""

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]: ...


class Nothing:
    """Answers and hands out without doing anything: what the drive itself costs."""

    def __init__(self) -> None:
        self.dones: list[Done] = []
        self.deliver: Deliver = lambda _: None

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        if not self.dones:
            asyncio.get_running_loop().call_soon(self.flush)
        self.dones.append(done)
        return ()

    def flush(self) -> None:
        dones, self.dones = self.dones, []
        for done in dones:
            done(None)
        for _ in dones:
            self.deliver(SETTLED)


class Settled:
    """A delivery whose settling costs nothing."""

    event = Event(b"", b"")
    subscription, note, attempt, interrupted, arrived_ns = "", b"", 1, False, 0

    def settle(self) -> None: ...
    def retry(self, *, delay_s: float, note: bytes = b"", counts: bool = True) -> None: ...
    def bury(self, burial: Burial) -> None: ...


SETTLED = Settled()


class Drive:
    """Publishers that go on in their own callbacks until `total` events are answered."""

    def __init__(self, channel: Publisher, event: Event, total: int) -> None:
        self.channel, self.event, self.total = channel, event, total
        self.started = self.answered = self.settled = self.refused = 0
        self.finished = asyncio.Event()
        self.waits: list[float] = []

    def publisher(self) -> Callable[[], None]:
        begun = 0.0

        def next_one() -> None:
            nonlocal begun
            if self.started < self.total:
                self.started += 1
                begun = time.perf_counter()
                self.channel.publish("broker/d/b", (self.event,), done)

        def done(refusal: Refusal | None) -> None:
            self.answered += 1
            self.refused += refusal is not None
            self.waits.append(time.perf_counter() - begun)
            next_one()
            self.check()

        return next_one

    def deliver(self, delivery: Delivery) -> None:
        delivery.settle()
        self.settled += 1
        self.check()

    def check(self) -> None:
        if self.answered == self.total and self.settled >= self.total - self.refused:
            self.finished.set()


def make(path: Path, waiting: int) -> LogChannel:
    settings = LogSettings(max_bytes=max(1024**3, waiting * 4096))
    return LogChannel(path, settings=settings, clock=SystemClock(), on_trouble=print)


async def fill(path: Path, event: Event, args: argparse.Namespace) -> None:
    channel = make(path, args.waiting)
    await channel.start()
    channel.open_topic(TopicSpec("broker/d/b"))
    channel.subscribe("broker/d/b", SubscriptionSpec("trigger/d/slow"), lambda _: None)
    channel.unsubscribe("broker/d/b", "trigger/d/slow", forget=False)
    drive = Drive(channel, event, args.waiting)
    drive.settled = args.waiting
    for _ in range(512):
        drive.publisher()()
    await drive.finished.wait()
    await channel.aclose()


async def alone(event: Event, args: argparse.Namespace) -> float:
    """Microseconds of CPU per event that the drive costs without a log."""
    nothing = Nothing()
    drive = Drive(nothing, event, args.events)
    nothing.deliver = drive.deliver
    cpu = cpu_s()
    for _ in range(args.publishers):
        drive.publisher()()
    await drive.finished.wait()
    total: int = args.events
    return (cpu_s() - cpu) / total * 1e6


async def run(path: Path, event: Event, args: argparse.Namespace) -> None:
    own = await alone(event, args)
    if args.waiting:
        await fill(path, event, args)
    gc.collect()
    begun, cpu = time.perf_counter(), cpu_s()
    channel = make(path, args.waiting)
    await channel.start()
    channel.open_topic(TopicSpec("broker/d/b"))
    print(f"start {time.perf_counter() - begun:.3f} s, private {private_mib():.0f} MiB")
    drive = Drive(channel, event, args.events)
    channel.subscribe("broker/d/b", SubscriptionSpec("trigger/d/t", parallelism=args.parallelism), drive.deliver)
    begun, cpu = time.perf_counter(), cpu_s()
    for _ in range(args.publishers):
        drive.publisher()()
    await drive.finished.wait()
    await channel.drain()
    wall, used = time.perf_counter() - begun, cpu_s() - cpu
    waits = sorted(drive.waits)
    print(
        f"{used / args.events * 1e6 - own:.2f} us/event CPU (and {own:.2f} of the drive), {args.events / wall:.0f} events/s, "
        f"p50 {waits[len(waits) // 2] * 1e3:.2f} p99 {waits[len(waits) * 99 // 100] * 1e3:.2f} "
        f"max {waits[-1] * 1e3:.1f} ms, refused {drive.refused}, private {private_mib():.0f} MiB"
    )
    await channel.aclose()
    if args.waiting:
        await catch_up(path, args)


async def catch_up(path: Path, args: argparse.Namespace) -> None:
    """Read the whole backlog back."""
    channel = make(path, args.waiting)
    await channel.start()
    seen, finished = 0, asyncio.Event()

    def deliver(delivery: Delivery) -> None:
        nonlocal seen
        seen += 1
        delivery.settle()
        if seen == args.waiting:
            finished.set()

    begun, cpu = time.perf_counter(), cpu_s()
    channel.subscribe("broker/d/b", SubscriptionSpec("trigger/d/slow", parallelism=args.parallelism), deliver)
    await finished.wait()
    await channel.drain()
    used, wall = cpu_s() - cpu, time.perf_counter() - begun
    print(f"backlog: {used / seen * 1e6:.2f} us/event CPU, {seen / wall:.0f} events/s, private {private_mib():.0f} MiB")
    await channel.aclose()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--publishers", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--waiting", type=int, default=0)
    parser.add_argument("--parallelism", type=int, default=200)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="knit-logbench-", dir="."))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(folder / "w0", Event(BLOCK, b"x" * args.bytes), args))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
