"""The log against a model in plain dictionaries, with a crash possible between any two steps.

The writer is one the test drives: a batch is on disk exactly when the machine says so, and a crash drops what was not.
Invariants: every acknowledged event is, for each subscription that matched, over or still to come (I1); attempts never
go back (I4); backlog counters equal a recount (I5); after any crash the store opens (I10).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from channels.api import Burial, Delivery, Refusal, SubscriptionSpec, TopicSpec
from channels.log import LogChannel
from channels.log.positions import Batch
from channels.log.store import Report, Store
from mesh.runtime.clock import SystemClock
from mesh.settings import LogSettings
from tests.support.channels import TOPIC, event, only

KEYS = {"all": "", "x": "x", "one": ""}
LIMITS = {"all": 3, "x": 2, "one": 1}


class SteppedWriter:
    """Writes when it is told to."""

    def __init__(self, store: Store, report: Report) -> None:
        self.store, self.report = store, report
        self.batch: Batch | None = None

    def write(self, batch: Batch) -> None:
        assert self.batch is None
        self.batch = batch

    def stop(self) -> None:
        self.batch = None

    def commit(self) -> Batch | None:
        batch, self.batch = self.batch, None
        if batch is not None:
            self.store.apply(batch)
        return batch


class LogMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.wrong: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.wrong.append(context.get("exception")))
        self.folder = Path(tempfile.mkdtemp(prefix="knit-model-"))
        self.number = 0
        self.acknowledged: dict[str, tuple[str, ...]] = {}
        self.out: list[Delivery] = []
        self.attempts: dict[tuple[str, str], int] = {}
        self.answered: set[tuple[str, str]] = set()
        self.over: set[tuple[str, str]] = set()
        self.safe: set[tuple[str, str]] = set()
        self.open()

    def open(self) -> None:
        self.writers: list[SteppedWriter] = []

        def make(store: Store, report: Report) -> SteppedWriter:
            self.writers.append(SteppedWriter(store, report))
            return self.writers[-1]

        async def start() -> LogChannel:
            channel = LogChannel(
                self.folder / "w0", settings=LogSettings(max_bytes=16 * 1024**2, max_retrying=4), clock=SystemClock(),
                on_trouble=self.trouble, writer=make,
            )  # fmt: skip
            await channel.start()
            return channel

        self.channel = self.loop.run_until_complete(start())
        self.out = []
        self.channel.open_topic(TopicSpec(TOPIC))
        for key, kind in KEYS.items():
            spec = SubscriptionSpec(key, only(kind) if kind else (), LIMITS[key])
            self.channel.subscribe(TOPIC, spec, self.reader(key))
        self.turn()

    def trouble(self, what: str, fields: dict[str, object]) -> None:
        raise AssertionError(f"{what}: {fields}")

    def reader(self, key: str) -> Callable[[Delivery], None]:
        def deliver(delivery: Delivery) -> None:
            at = (key, delivery.event.id)
            assert delivery.attempt > self.attempts.get(at, 0)
            assert at not in self.safe
            assert sum(1 for each in self.out if each.subscription == key) < LIMITS[key]
            self.attempts[at] = delivery.attempt
            self.over.discard(at)
            self.answered.discard(at)
            self.out.append(delivery)

        return deliver

    def turn(self, pause_s: float = 0) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(pause_s))
            pause_s = 0
        assert self.wrong == []

    @rule(kinds=st.lists(st.sampled_from("xy"), min_size=1, max_size=6))
    def publish(self, kinds: list[str]) -> None:
        events = []
        for kind in kinds:
            self.number += 1
            events.append(event(f"{self.number}{kind}", kind))

        def done(refusal: Refusal | None) -> None:
            assert refusal is None
            for each in events:
                self.acknowledged[each.id] = tuple(key for key, kind in KEYS.items() if kind in ("", each.type))

        self.channel.publish(TOPIC, events, done)
        self.turn()

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 100), how=st.sampled_from(["settle", "settle", "retry", "same", "bury"]))
    def answer(self, which: int, how: str) -> None:
        delivery = self.out.pop(which % len(self.out))
        if how == "retry":
            delivery.retry(delay_s=0, note=b"n")
        elif how == "same":
            # Another leg of the same attempt: the number may stay, so it is no longer bound to grow.
            self.attempts[delivery.subscription, delivery.event.id] -= 1
            delivery.retry(delay_s=0, counts=False)
        else:
            self.finished(delivery)
            if how == "settle":
                delivery.settle()
            else:
                delivery.bury(Burial("no"))
        self.turn()

    def finished(self, delivery: Delivery) -> None:
        self.over.add((delivery.subscription, delivery.event.id))
        self.answered.add((delivery.subscription, delivery.event.id))

    @rule()
    def commit(self) -> None:
        batch = self.write()
        if batch is not None:
            self.writers[0].report(batch, None)
            self.turn()

    def write(self) -> Batch | None:
        """The batch in hand reaches the disk. A subscription with news in the next batch is not safe by this one."""
        batch = self.writers[0].commit()
        if batch is not None:
            unsaid = {position.group.key for position in self.channel._own.gathering.dirty}
            self.safe |= {at for at in self.over if at[0] not in unsaid}
        return batch

    @rule()
    def tick(self) -> None:
        self.turn(0.0015)

    @rule(after_commit=st.booleans())
    def crash(self, after_commit: bool) -> None:
        """The process dies: with the batch in hand on disk (but nobody told), or without it."""
        if after_commit:
            self.write()
        self.over = set(self.safe)
        image = self.folder / "image"
        shutil.copytree(self.folder / "w0", image)
        self.abandon()
        shutil.rmtree(self.folder / "w0")
        image.rename(self.folder / "w0")
        self.open()

    def abandon(self) -> None:
        for partition in self.channel._partitions:
            partition._closed = True
            partition.store.close()

    @rule()
    def finish(self) -> None:
        """Answer everything: then all that was acknowledged is over, and the counters say so."""
        self.settle_all()

    def settle_all(self) -> None:
        for _ in range(400):
            self.commit()
            while self.out:
                delivery = self.out.pop()
                self.finished(delivery)
                delivery.settle()
            self.tick()
            if self.channel._own.is_idle and not any(s.backlog for s in self.channel.states()):
                break
        wanted = {(key, ident) for ident, keys in self.acknowledged.items() for key in keys}
        assert wanted <= self.answered
        assert all((s.backlog, s.in_flight, s.retrying, s.oldest_ns) == (0, 0, 0, 0) for s in self.channel.states())
        with self.channel._own.store.reading() as view:
            assert view.count("events") == 0
            assert view.count("waits") == 0

    def teardown(self) -> None:
        if hasattr(self, "channel"):
            try:
                self.settle_all()
            finally:
                self.abandon()
                self.loop.run_until_complete(asyncio.sleep(0))
                self.loop.close()
                shutil.rmtree(self.folder)


LogMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
TestLogModel = LogMachine.TestCase
