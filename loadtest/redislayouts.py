"""Two ways to keep a topic in Redis, side by side: `python -m loadtest.redislayouts [--events 20000]`.

subscription: matched before it is stored; a stream for each subscription, all XADDs of an event in one MULTI, deleted when
settled. topic: one stream, a group for each subscription; everybody reads everything, matches, acknowledges; trimmed below
the slowest. Both in batches of 64 events over one connection with hiredis. CPU of the client and of Redis per event, and what
Redis holds while everything waits to be read.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hiredis import Reader

from channels.redis_streams.keys import StreamCommands, add_tail, pack, read_entry
from loadtest.logbench import BLOCK
from loadtest.measure import cpu_ns
from mesh.events.event import Event
from tests.servers.redis import RedisServer

BATCH = 64
BODY = b"x" * 1024
WANTED = b"ce-wanted: %d\r\n"


class Wire:
    """One connection, one batch at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = Reader(notEnoughData=self)

    def exchange(self, commands: list[bytes], replies: int) -> list[Any]:
        self._socket.sendall(b"".join(commands))
        found: list[Any] = []
        while len(found) < replies:
            reply = self._reader.gets()
            if reply is self:
                self._reader.feed(self._socket.recv(1 << 20))
            else:
                found.append(reply)
        return found


def by_subscription(wire: Wire, triggers: int, matching: int, events: int) -> tuple[int, int]:
    streams = [StreamCommands(f"s{number}", "c") for number in range(triggers)]
    for number in range(triggers):
        wire.exchange([pack("XGROUP", "CREATE", f"s{number}", "knit", "0", "MKSTREAM")], 1)
    delivered = 0
    held = 0
    for _ in range(events // BATCH):
        commands, replies, wanted = [], 0, range(matching)
        for _ in range(BATCH):
            tail = add_tail(Event(BLOCK, BODY), 1)
            adds = [part for number in wanted for part in (streams[number].add, tail)]
            commands += adds if matching == 1 else [pack("MULTI"), *adds, pack("EXEC")]
            replies += 1 if matching == 1 else matching + 2
        wire.exchange(commands, replies)
        held = held or memory(wire)
        found = wire.exchange([streams[number].read(BATCH) for number in wanted], matching)
        settles = []
        for number, reply in zip(wanted, found, strict=True):
            entries = reply[0][1]
            delivered += len([read_entry(fields) for _, fields in entries])
            settles.append(streams[number].settle([entry for entry, _ in entries]))
        wire.exchange(settles, 2 * matching)
    return delivered, held


def by_topic(wire: Wire, triggers: int, matching: int, events: int) -> tuple[int, int]:
    stream = StreamCommands("t", "c")
    for number in range(triggers):
        wire.exchange([pack("XGROUP", "CREATE", "t", f"g{number}", "0", "MKSTREAM")], 1)
    reads = [pack("XREADGROUP", "GROUP", f"g{n}", "c", "COUNT", BATCH, "STREAMS", "t", ">") for n in range(triggers)]
    delivered = 0
    held = 0
    for _ in range(events // BATCH):
        commands = [part for _ in range(BATCH) for part in (stream.add, add_tail(Event(BLOCK, BODY), 1))]
        ids = wire.exchange(commands, BATCH)
        held = held or memory(wire)
        found = wire.exchange(reads, triggers)
        for number, reply in enumerate(found):
            # A reader must look at every event to know whether it wants it.
            seen = [read_entry(fields) for _, fields in reply[0][1]]
            delivered += len(seen) if number < matching else 0
        wire.exchange([pack("XACK", "t", f"g{n}", *ids) for n in range(triggers)], triggers)
        wire.exchange([pack("XTRIM", "t", "MINID", "~", ids[-1])], 1)
    return delivered, held


def memory(wire: Wire) -> int:
    """Bytes that Redis holds after the first batch."""
    info = wire.exchange([pack("INFO", "memory")], 1)[0]
    return int(info.partition(b"used_memory_dataset:")[2].partition(b"\r\n")[0])


def row(
    name: str, layout: Callable[[Wire, int, int, int], tuple[int, int]], triggers: int, matching: int, events: int
) -> str:
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder), "--appendfsync", "everysec") as server:
        wire = Wire(server.port)
        wire.exchange([pack("HELLO", 2)], 1)
        usage, theirs, began = resource.getrusage(resource.RUSAGE_SELF), cpu_ns([server.pid]), time.perf_counter()
        empty = memory(wire)
        delivered, held = layout(wire, triggers, matching, events)
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        ours = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
        count = events // BATCH * BATCH
        if delivered != count * matching:
            sys.exit(f"{name}: {delivered} of {count * matching} delivered")
        return (
            f"| {name} | {triggers} | {matching} | {ours / count * 1e6:.1f} | {(cpu_ns([server.pid]) - theirs) / 1000 / count:.1f} "
            f"| {count / wall_s:.0f} | {(held - empty) / BATCH / 1024:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    args = parser.parse_args()
    print("| layout | triggers | of which match | client µs / event | Redis µs / event | events/s | KiB held / event |")
    print("|---|---|---|---|---|---|---|")
    for triggers, matching in ((1, 1), (10, 1), (100, 1), (10, 10), (100, 100)):
        events = max(args.events // max(matching, triggers // 5), 10 * BATCH)
        print(row("subscription", by_subscription, triggers, matching, events), flush=True)
        print(row("topic", by_topic, triggers, matching, events), flush=True)


if __name__ == "__main__":
    main()
