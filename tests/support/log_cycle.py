"""One life of a log while its disk fails: publish, hand out, settle, retry, bury; run in a process of its own.

    LD_PRELOAD=faulty_disk.so python -m tests.support.log_cycle FOLDER ERRNO COUNT CRASH

For every N the N-th write of the cycle fails (COUNT of them in a row; ERRNO 0 is a short write). Prints one JSON line:
how many N there were, how often it struck, and what was wrong. CRASH 1 ends each cycle as a killed process would.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from channels.api import Burial, Delivery, Refusal, SubscriptionSpec
from tests.support.channels import TOPIC, Harness, event

KEYS = ("a", "b")


class Cycle:
    """What was accepted, what came, what was answered; and whether that adds up."""

    def __init__(self, folder: Path) -> None:
        self.harness = Harness("log", folder)
        self.accepted: set[str] = set()
        self.refused = 0
        self.seen: dict[str, Counter[str]] = {key: Counter() for key in KEYS}
        self.over: dict[str, set[str]] = {key: set() for key in KEYS}
        self.attempts: dict[tuple[str, str], int] = {}
        self.wrong: list[str] = []
        self.changed = asyncio.Event()

    def subscribe(self, *, holds: bool) -> None:
        for key in KEYS:
            self.harness.channel.subscribe(TOPIC, SubscriptionSpec(key, parallelism=4), self.reader(key, holds=holds))

    def reader(self, key: str, *, holds: bool) -> Callable[[Delivery], None]:
        def deliver(delivery: Delivery) -> None:
            ident = delivery.event.id
            self.seen[key][ident] += 1
            if delivery.attempt <= self.attempts.get((key, ident), 0):
                self.wrong.append(f"{key}/{ident}: attempt {delivery.attempt} was made before")
            self.attempts[key, ident] = delivery.attempt
            if ident in self.over[key]:
                self.wrong.append(f"{key}/{ident}: came back though it was settled and safe")
            if holds and ident.endswith("h") and key == "b":
                return
            if ident.endswith("r") and delivery.attempt == 1:
                delivery.retry(delay_s=0.001, note=b"n")
            elif ident.endswith("d"):
                delivery.bury(Burial("no"))
            else:
                delivery.settle()
            self.changed.set()

        return deliver

    async def publish(self, ident: str) -> None:
        """Publish until it is taken: what a producer does that is answered 503."""
        refusal: Refusal | None = None
        for turn in range(200):
            name = ident if turn == 0 else f"{turn}-{ident}"
            refusal = await self.harness.publish(event(name, body=b"x" * 3000))
            if refusal is None:
                self.accepted.add(name)
                return
            self.refused += 1
            await asyncio.sleep(0.004)
        self.wrong.append(f"{ident} was never accepted: {refusal}")

    async def quiet(self, backlog: int) -> None:
        """Until nothing is left but `backlog` deliveries that are held."""
        try:
            async with asyncio.timeout(8):
                while sum(state.backlog for state in self.harness.channel.states() if state.topic == TOPIC) > backlog:
                    self.changed.clear()
                    await self.changed.wait()
                while await self.harness.publish(event("probe"), topic="probe") is not None:
                    await asyncio.sleep(0.004)
        except TimeoutError:
            self.wrong.append(f"stuck: {self.harness.channel.states()} {self.harness.troubles}")

    async def run(self, arm: Callable[[], None], disarm: Callable[[], None], *, crash: bool) -> None:
        from channels.api import TopicSpec

        channel = await self.harness.open()
        channel.open_topic(TopicSpec("probe"))
        self.subscribe(holds=True)
        await self.publish("0")
        arm()
        await asyncio.gather(*[self.publish(name) for name in ("1", "2r", "3d", "4h")])
        await self.publish("5")
        await self.quiet(len([name for name in self.accepted if name.endswith("h")]))
        disarm()
        await self.harness.settled_on_disk()
        for key in KEYS:
            self.over[key] = {n for n in self.accepted if not (n.endswith("h") and key == "b")}
        await (self.harness.crash() if crash else self.harness.reopen())
        self.harness.channel.open_topic(TopicSpec("probe"))
        self.subscribe(holds=False)
        await self.quiet(0)
        await self.harness.barrier()
        self.check()
        await self.harness.close()

    def check(self) -> None:
        for key in KEYS:
            lost = self.accepted - set(self.seen[key])
            if lost:
                self.wrong.append(f"{key}: lost {sorted(lost)}")
        dead = Counter((letter.subscription, letter.event.id) for letter in self.harness.channel.dead_letters())
        for key in KEYS:
            for name in self.accepted:
                if name.endswith("d") and dead[key, name] != 1:
                    self.wrong.append(f"{key}/{name}: {dead[key, name]} dead letters")


async def main(folder: Path, errno: int, count: int, *, crash: bool) -> dict[str, object]:
    shim = ctypes.CDLL(None)
    wrong: list[str] = []
    struck = refused = n = 0
    for n in range(400):
        cycle = Cycle(folder / f"n{n}")

        def arm(at: int = n) -> None:
            shim.fault_arm(at, count, errno)

        def disarm() -> None:
            nonlocal struck
            struck = shim.fault_hits()
            shim.fault_arm(-1, 0, 0)

        try:
            await cycle.run(arm, disarm, crash=crash)
        except Exception as exc:  # noqa: BLE001 whatever it is, it belongs into the report with its N
            cycle.wrong.append(f"{type(exc).__name__}: {exc}")
        wrong += [f"N={n}: {each}" for each in cycle.wrong]
        refused += cycle.refused
        if not struck or len(wrong) > 5:
            break
    return {"cycles": n, "refused": refused, "wrong": wrong}


if __name__ == "__main__":
    print(
        json.dumps(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), crash=sys.argv[4] == "1")))
    )
