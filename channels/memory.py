"""The in-memory channel: Knative's InMemoryChannel. Nothing survives the process; eventing reference 3.6.

By default synchronous: a publisher is answered when every subscription ended, with a refusal if one gave up. With the
topic option `sync` False it is answered at once, and what waits is lost with the process. Each worker has topics of its own: an
event is delivered by the worker that took it (option `whole`: this worker serves the topic alone and has the whole parallelism).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from channels.api import (
    Burial,
    Capabilities,
    DeadLetter,
    Deliver,
    Done,
    Refusal,
    SubscriptionSpec,
    SubscriptionState,
    TopicHealth,
    TopicSpec,
)
from mesh.events.event import Event
from mesh.filters.index import MatchIndex
from mesh.runtime.clock import Clock
from mesh.settings import MemorySettings

_OVERHEAD = 500
"""Bytes that an event costs in memory beside its own, roughly."""


class _Publish:
    """One call of publish: answered when `left` deliveries ended (synchronous), or never again (asynchronous)."""

    __slots__ = ("done", "left", "why")

    def __init__(self, done: Done | None) -> None:
        self.done = done
        self.left = 0
        self.why = ""

    def ended(self, why: str) -> None:
        self.left -= 1
        self.why = self.why or why
        if self.left == 0 and self.done is not None:
            done, self.done = self.done, None
            done(Refusal("failed", self.why) if self.why else None)


_ASYNCHRONOUS = _Publish(None)


class _Waiting:
    """An event while somebody needs it: its bytes count until `left` is 0."""

    __slots__ = ("arrived_ns", "event", "left", "publish", "size")

    def __init__(self, event: Event, size: int, *, left: int, arrived_ns: int, publish: _Publish) -> None:
        self.event = event
        self.size = size
        self.left = left
        self.arrived_ns = arrived_ns
        self.publish = publish


class _Delivery:
    __slots__ = ("arrived_ns", "attempt", "event", "interrupted", "note", "owner", "subscription", "waiting")

    def __init__(self, waiting: _Waiting, owner: _Subscription) -> None:
        self.waiting = waiting
        self.owner = owner
        self.event = waiting.event
        self.subscription = owner.key
        self.attempt = 1
        self.note = b""
        self.interrupted = False
        self.arrived_ns = waiting.arrived_ns

    def settle(self) -> None:
        self.owner.ended(self, "")

    def retry(self, *, delay_s: float, note: bytes = b"", counts: bool = True) -> None:
        self.owner.retried(self, delay_s=delay_s, note=note, counts=counts)

    def bury(self, burial: Burial) -> None:
        self.owner.buried += 1
        self.owner.ended(self, burial.why or "the event could not be delivered")


class _Subscription:
    """One reader: what is out (`flying`), what waits for a retry, what waits for its first turn."""

    def __init__(self, channel: MemoryChannel, topic: str, key: str) -> None:
        self.channel = channel
        self.topic = topic
        self.key = key
        self.limit = 0
        self.ordered = False
        self.deliver: Deliver | None = None
        self.flying: set[_Delivery] = set()
        self.sleeping: set[_Delivery] = set()
        self.ready: deque[_Delivery] = deque()
        self.backlog: deque[_Waiting] = deque()
        self.buried = 0
        self._pumping = False

    def pump(self) -> None:
        """Hand out while there is room. A reader that settles at once comes back here: it is told to go on, not nested."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.deliver is not None and len(self.flying) < self.limit and (delivery := self._next()):
                self.flying.add(delivery)
                self.deliver(delivery)
        finally:
            self._pumping = False

    def is_full(self) -> bool:
        return len(self.flying) >= self.limit or self.deliver is None

    def _next(self) -> _Delivery | None:
        if self.ready:
            return self.ready.popleft()
        if self.backlog and not (self.ordered and self.sleeping):
            return _Delivery(self.backlog.popleft(), self)
        return None

    def ended(self, delivery: _Delivery, why: str) -> None:
        if delivery in self.flying:
            self.flying.remove(delivery)
            channel, waiting = self.channel, delivery.waiting
            waiting.left -= 1
            if waiting.left == 0:
                channel.release(waiting.size)
            if waiting.publish is not _ASYNCHRONOUS:
                waiting.publish.ended(why)
            if self.backlog or self.ready:
                self.pump()
            if channel.is_draining:
                channel.check_drained()

    def retried(self, delivery: _Delivery, *, delay_s: float, note: bytes, counts: bool) -> None:
        if delivery not in self.flying:
            return
        self.flying.remove(delivery)
        again = _Delivery(delivery.waiting, self)
        again.attempt, again.note = delivery.attempt + counts, note
        self.sleeping.add(again)
        asyncio.get_running_loop().call_later(delay_s, self._wake, again)
        self.pump()
        self.channel.check_drained()

    def _wake(self, delivery: _Delivery) -> None:
        if delivery in self.sleeping:
            self.sleeping.remove(delivery)
            self.ready.append(delivery)
            self.pump()

    def forget(self) -> None:
        """Everything that waits for it counts as settled."""
        self.limit, self.deliver = 0, None
        waiting = [d.waiting for d in (*self.flying, *self.sleeping, *self.ready)] + list(self.backlog)
        for deliveries in (self.flying, self.sleeping, self.ready, self.backlog):
            deliveries.clear()
        for each in waiting:
            self.channel.ended(each, "")

    def state(self) -> SubscriptionState:
        again = len(self.sleeping) + len(self.ready)
        arrived = [d.arrived_ns for d in (*self.flying, *self.sleeping, *self.ready)]
        arrived += [each.arrived_ns for each in list(self.backlog)[:1]]
        return SubscriptionState(
            key=self.key,
            topic=self.topic,
            backlog=len(self.flying) + again + len(self.backlog),
            in_flight=len(self.flying),
            retrying=again,
            oldest_ns=min(arrived, default=0),
        )


class _Topic:
    def __init__(self) -> None:
        self.options: Mapping[str, str | float | bool] = {}
        self.is_sync = True
        self.subscriptions: dict[str, _Subscription] = {}
        self.specs: dict[str, SubscriptionSpec] = {}
        self.index: MatchIndex[_Subscription] | None = None

    def matching(self, event: Event) -> list[_Subscription]:
        if self.index is None:
            self.index = MatchIndex([(self.subscriptions[key], spec.filters) for key, spec in self.specs.items()])
        return self.index.match(event.attributes)


class MemoryChannel:
    """See the module, and `channels/api.py` for what each call promises. share: as in the log channel."""

    capabilities = Capabilities(durable=False, keeps_attempts=False, keeps_dead_letters=False)

    def __init__(self, settings: MemorySettings, *, clock: Clock, share: tuple[int, int] = (0, 1)) -> None:
        self._settings = settings
        self._clock = clock
        self._share = share
        self._topics: dict[str, _Topic] = {}
        self._bytes = 0
        self.is_draining = False
        self._closed = False
        self._drained = asyncio.Event()

    async def start(self) -> None:
        """Nothing to recover."""

    def open_topic(self, spec: TopicSpec) -> None:
        topic = self._topics.setdefault(spec.key, _Topic())
        topic.options = spec.options
        topic.is_sync = bool(spec.options.get("sync", True))

    def close_topic(self, key: str) -> None:
        topic = self._topics.pop(key, None)
        for subscription in topic.subscriptions.values() if topic else ():
            subscription.forget()
        self.check_drained()

    def subscribe(self, topic: str, spec: SubscriptionSpec, deliver: Deliver) -> None:
        home = self._topics.setdefault(topic, _Topic())
        subscription = home.subscriptions.get(spec.key)
        if subscription is None:
            subscription = home.subscriptions[spec.key] = _Subscription(self, topic, spec.key)
        home.specs[spec.key] = spec
        home.index = None
        subscription.deliver = deliver
        subscription.ordered = spec.parallelism == 1
        index, count = self._share
        share = max(spec.parallelism // count + (index < spec.parallelism % count), 1)
        subscription.limit = spec.parallelism if home.options.get("whole") else share
        if self.is_draining:
            subscription.limit = 0
        subscription.pump()

    def unsubscribe(self, topic: str, key: str, *, forget: bool) -> None:
        home = self._topics.get(topic)
        subscription = home.subscriptions.get(key) if home else None
        if home is None or subscription is None:
            return
        subscription.limit, subscription.deliver = 0, None
        if forget:
            del home.subscriptions[key], home.specs[key]
            home.index = None
            subscription.forget()
            self.check_drained()

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        home = self._topics.get(topic)
        if home is None:
            done(Refusal("unknown", f"there is no topic {topic}"))
            return ()
        if self._closed or self.is_draining:
            done(Refusal("unavailable", "the channel is being stopped"))
            return ()
        is_sync = home.is_sync
        if len(events) == 1 and not is_sync:
            return self._publish_one(home, events[0], done)
        plan = [(event, home.matching(event)) for event in events]
        sizes = [
            len(event.block) + len(event.body) + len(event.passed) + _OVERHEAD if who else 0 for event, who in plan
        ]
        if self._bytes + sum(sizes) > self._settings.max_bytes:
            done(Refusal("full", f"events of {self._settings.max_bytes} bytes wait already"))
            return ()
        keys = tuple([subscription.key for subscription in plan[-1][1]]) if plan else ()
        self._take(plan, sizes, done, is_sync=is_sync)
        return keys

    def _publish_one(self, home: _Topic, event: Event, done: Done) -> tuple[str, ...]:
        """The hot path: one event, answered at once, handed straight to who has room."""
        index = home.index
        who = index.match(event.attributes) if index is not None else home.matching(event)
        size = len(event.block) + len(event.body) + len(event.passed) + _OVERHEAD
        if self._bytes + size > self._settings.max_bytes:
            done(Refusal("full", f"events of {self._settings.max_bytes} bytes wait already"))
            return ()
        done(None)
        if not who:
            return ()
        self._bytes += size
        waiting = _Waiting(event, size, left=len(who), arrived_ns=self._clock.now_ns(), publish=_ASYNCHRONOUS)
        for subscription in who:
            if subscription.backlog or subscription.ready or subscription.sleeping or subscription.is_full():
                subscription.backlog.append(waiting)
                subscription.pump()
            else:
                delivery = _Delivery(waiting, subscription)
                subscription.flying.add(delivery)
                subscription.deliver(delivery)  # type: ignore[misc]  # is_full() where there is none
        return (who[0].key,) if len(who) == 1 else tuple([subscription.key for subscription in who])

    def _take(
        self, plan: list[tuple[Event, list[_Subscription]]], sizes: list[int], done: Done, *, is_sync: bool
    ) -> None:
        publish = _Publish(done if is_sync else None)
        publish.left = sum(len(who) for _, who in plan)
        now_ns = self._clock.now_ns()
        self._bytes += sum(sizes)
        for (event, who), size in zip(plan, sizes, strict=True):
            waiting = _Waiting(event, size, left=len(who), arrived_ns=now_ns, publish=publish)
            for subscription in who:
                subscription.backlog.append(waiting)
        if not is_sync or publish.left == 0:
            done(None)
        for _, who in plan:
            for subscription in who:
                subscription.pump()

    def release(self, size: int) -> None:
        """An event of this size is over with everybody."""
        self._bytes -= size

    def ended(self, waiting: _Waiting, why: str) -> None:
        """One subscription is through with it."""
        waiting.left -= 1
        if waiting.left == 0:
            self._bytes -= waiting.size
        waiting.publish.ended(why)

    def matching(self, topic: str, event: Event) -> tuple[str, ...]:
        home = self._topics.get(topic)
        return () if home is None else tuple([subscription.key for subscription in home.matching(event)])

    def states(self) -> list[SubscriptionState]:
        return [each.state() for topic in self._topics.values() for each in topic.subscriptions.values()]

    def dead_letters(self) -> Iterable[DeadLetter]:
        """None are kept: a burial is told to the publisher (synchronous) or counted."""
        return ()

    def health(self) -> Mapping[str, TopicHealth]:
        """None: nothing can be away."""
        return {}

    def remove_dead_letter(self, ref: str) -> bool:
        return False

    def _in_flight(self) -> int:
        return sum(len(each.flying) for topic in self._topics.values() for each in topic.subscriptions.values())

    def check_drained(self) -> None:
        if self.is_draining and not self._in_flight():
            self._drained.set()

    async def drain(self) -> None:
        self.is_draining = True
        for topic in self._topics.values():
            for subscription in topic.subscriptions.values():
                subscription.limit = 0
        while self._in_flight():
            self._drained.clear()
            await self._drained.wait()

    async def aclose(self) -> None:
        """What still waits is lost; its synchronous publishers are told so."""
        self._closed = True
        for topic in self._topics.values():
            for subscription in topic.subscriptions.values():
                subscription.limit, subscription.deliver = 0, None
                for each in [d.waiting for d in (*subscription.flying, *subscription.sleeping, *subscription.ready)]:
                    _abandon(each.publish)
                for each in subscription.backlog:
                    _abandon(each.publish)
        self._topics.clear()


def _abandon(publish: _Publish) -> None:
    if publish.done is not None:
        done, publish.done = publish.done, None
        done(Refusal("unavailable", "the channel was stopped before every subscription ended"))
