"""Damage a log's data file at many places and see what opening it does; run in a process of its own.

    python -m tests.support.log_damage FOLDER STEP

Every STEP-th byte of the file gets a bit flipped, and the file is cut at every page. Each case runs in a forked child, so
that a crash by signal is seen. Prints one JSON line: how each case ended, and what was wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from channels.api import SubscriptionSpec, TopicSpec
from channels.log.repair import repair
from mesh.errors import StoreError
from tests.support.channels import TOPIC, Harness, Reader, Settling, event

SMALL, LARGE = 30, 4
BODIES = {str(n): b"%d " % n * 40 for n in range(SMALL)} | {f"L{n}": b"%d-large " % n * 1500 for n in range(LARGE)}


async def prepare(folder: Path) -> set[tuple[str, str]]:
    """A store with a backlog, retries and deliveries under way; what waits, as (subscription, event id)."""
    harness = Harness("log", folder)
    channel = await harness.open()
    reader, idle = Reader(), Reader()
    channel.subscribe(TOPIC, SubscriptionSpec("a", parallelism=8), reader)
    channel.subscribe(TOPIC, SubscriptionSpec("b", parallelism=1), idle)
    for ident, body in BODIES.items():
        await harness.publish(event(ident, body=body))
    waiting = {(key, ident) for key in "ab" for ident in BODIES}
    for number, delivery in enumerate(await reader.take(8)):
        if number % 2:
            delivery.retry(delay_s=0.0 if number == 1 else 0.001, note=b"n" * 30)
        else:
            delivery.settle()
            waiting.discard(("a", delivery.event.id))
    channel.unsubscribe(TOPIC, "a", forget=False)
    await harness.settled_on_disk()
    await harness.close()
    return waiting


async def serve(folder: Path) -> tuple[set[tuple[str, str]], bool, bool]:
    """Open and read everything: what came, whether all was whole, whether damage was reported."""
    harness = Harness("log", folder)
    channel = await harness.open()
    got: dict[str, Settling] = {}
    for key in "ab":
        got[key] = Settling()
        channel.open_topic(TopicSpec(TOPIC))
        channel.subscribe(TOPIC, SubscriptionSpec(key, parallelism=50), got[key])
    await harness.barrier()
    for _ in range(3):
        await asyncio.sleep(0.002)
        await harness.barrier()
    await harness.close()
    came = {(key, d.event.id) for key, reader in got.items() for d in reader.seen}
    whole = all(BODIES.get(d.event.id) == d.event.body for reader in got.values() for d in reader.seen)
    return came, whole, any(what == "record damaged" for what, _ in harness.troubles)


def judge(folder: Path, waiting: set[tuple[str, str]]) -> str:
    """One word for how it ended, `WRONG …` where a promise was broken."""
    try:
        came, whole, told = asyncio.run(serve(folder))
    except StoreError as exc:
        if str(folder / "w0") not in str(exc) or "knit repair" not in str(exc):
            return f"WRONG refusal without place or command: {exc}"
        report = repair(folder / "w0", lambda _: None)
        came, whole, _ = asyncio.run(serve(folder))
        if not whole:
            return "WRONG served what is not whole after the repair"
        if report.kept is None or not report.kept.exists():
            return "WRONG the damaged file was not kept"
        return f"refused {len(waiting - came)}" if len(waiting - came) < len(waiting) else "refused all"
    if not whole:
        return "WRONG served what is not whole"
    lost = waiting - came
    if lost and not told:
        return f"WRONG lost {sorted(lost)[:4]} in silence"
    return "reported" if lost else "served"


def in_child(folder: Path, waiting: set[tuple[str, str]]) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            word = judge(folder, waiting)
        except BaseException as exc:  # noqa: BLE001 reported to the parent, which judges
            word = f"WRONG {type(exc).__name__}: {exc}"
        os.write(write, word.encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        word = pipe.read()
    _, status = os.waitpid(child, 0)
    return word if status == 0 else f"WRONG died with status {status}"


def main(folder: Path, step: int) -> dict[str, object]:
    waiting = asyncio.run(prepare(folder / "whole"))
    original = (folder / "whole" / "w0" / "data.mdb").read_bytes()
    ends: Counter[str] = Counter()
    wrong: list[str] = []

    def case(name: str, data: bytes) -> None:
        place = folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "whole", place)
        (place / "w0" / "data.mdb").write_bytes(data)
        word = in_child(place, waiting)
        ends[word.split(" ")[0]] += 1
        if word.startswith("WRONG"):
            wrong.append(f"{name}: {word}")

    case("untouched", original)
    for at in range(0, len(original), step):
        damaged = bytearray(original)
        damaged[at] ^= 1 << (at // step % 8)
        case(f"bit {at // step % 8} of byte {at} (page {at // 4096}, {at % 4096})", bytes(damaged))
    for length in (0, 1, 100, 4096, 8191, *range(8192, len(original), 4096 * max(step // 97, 1))):
        case(f"cut at {length}", original[:length])
    case("missing", b"")
    return {"bytes": len(original), "ends": ends, "wrong": wrong}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
