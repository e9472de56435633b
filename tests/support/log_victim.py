"""A process to be killed: publishes and settles for ever, and says what it may be held to. Run by test_log_faults.

    python -m tests.support.log_victim FOLDER FIRST_NUMBER

Lines: `A n` event n was accepted, `S n` its settling is safe (a publish that came after it was acknowledged),
`D n` it was handed out, `T n` it is about to be settled.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from channels.api import Delivery, Refusal, SubscriptionSpec
from tests.support.channels import TOPIC, Harness, event


class Victim:
    def __init__(self, harness: Harness, first: int) -> None:
        self.harness = harness
        self.number = first
        self.settled: list[str] = []

    def say(self, word: str, *names: str) -> None:
        os.write(1, "".join([f"{word} {name}\n" for name in names]).encode())

    def deliver(self, delivery: Delivery) -> None:
        ident = delivery.event.id
        self.say("D", ident)
        if int(ident) % 3 == 0 and delivery.attempt == 1:
            delivery.retry(delay_s=0.0005)
        elif int(ident) % 7:
            self.say("T", ident)
            delivery.settle()
            self.settled.append(ident)

    def publish(self) -> None:
        self.number += 1
        ident = str(self.number)
        safe, self.settled = self.settled, []

        def done(refusal: Refusal | None) -> None:
            if refusal is None:
                self.say("A", ident)
                self.say("S", *safe)
            self.publish()

        self.harness.channel.publish(TOPIC, [event(ident, body=b"x" * (int(ident) % 5000))], done)

    async def run(self) -> None:
        channel = await self.harness.open()
        channel.subscribe(TOPIC, SubscriptionSpec("a", parallelism=1_000_000), self.deliver)
        for _ in range(8):
            self.publish()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(Victim(Harness("log", Path(sys.argv[1])), int(sys.argv[2])).run())
