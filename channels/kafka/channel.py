"""Kafka as a channel: topics, connections and tasks, joined. `channels/api.py` has what each call promises.

A filter is asked when a record is read, as Knative does. Dead letters that no sink takes are not kept apart: the record stays
in its topic for the topic's retention.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

from channels.api import (
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
from channels.kafka.link import Link
from channels.kafka.topic import Topic
from channels.kafka.wire import RefusedError, Wire
from mesh.errors import NotConnectedError
from mesh.events.event import Event
from mesh.runtime.clock import Clock
from mesh.settings import KafkaSettings

_RESTART_S = 1.0
_DELETE_S = 10.0
_REASON = "BackendNotReady"
_NOT_BEGUN = "its first position is not stored in Kafka yet"


class KafkaChannel:
    """share: which of how many processes of one mesh this is; the first one deletes what is not wanted any more."""

    capabilities = Capabilities(
        durable=True, keeps_attempts=True, keeps_dead_letters=False, counts_interrupted=False, matches_early=False
    )

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        clock: Clock,
        share: tuple[int, int] = (0, 1),
        on_trouble: Callable[[str, dict[str, object]], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._share = share
        self._on_trouble = on_trouble
        self._topics: dict[str, Topic] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._wires: dict[Link, Wire] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._deleting: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        self._closed = False

    async def start(self) -> None:
        """Connections are made with the topics; a cluster that is gone keeps nobody from starting."""
        # What it has to say is in our own words in `health` and the log, once and not at each try.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    # Topics.

    def open_topic(self, spec: TopicSpec) -> None:
        old = self._topics.get(spec.key)
        if old is not None and old.spec.options == spec.options:
            return
        name = str(spec.options.get("topic") or spec.key.replace("/", "."))
        topic = self._topics[spec.key] = Topic(
            spec, self._wire(Link.of(spec.options)), name=name, settings=self._settings, clock=self._clock,
            share=self._share, report=self._on_trouble,
        )  # fmt: skip
        before: Awaitable[None] | None = self._deleting.get(name)
        if old is not None:
            for group in old.groups.values():
                if group.deliver is not None:
                    topic.subscribe(group.spec, group.deliver)
            before = self._chore(self._end(old, self._runs.pop(spec.key)))
        self._runs[spec.key] = asyncio.get_running_loop().create_task(self._keep(topic, before))

    def _wire(self, link: Link) -> Wire:
        wire = self._wires.get(link)
        if wire is None:
            client_id = f"knit-{self._share[0]}"
            wire = self._wires[link] = Wire(link, client_id=client_id, limit_s=self._settings.publish_timeout_s)
        return wire

    async def _keep(self, topic: Topic, before: Awaitable[None] | None) -> None:
        """Run the topic until cancelled. What it raises is a bug, which must not take the rest of the mesh along."""
        if before is not None:
            await before
        while True:
            try:
                await topic.run()
            except* Exception as group:  # noqa: BLE001 - a task meets its supervisor
                self._on_trouble("kafka topic failed", {"topic": topic.name, "why": repr(group.exceptions[0])})
            await asyncio.sleep(_RESTART_S)

    async def _end(self, topic: Topic, run: asyncio.Task[None]) -> None:
        await topic.settle_up()
        await _cancel(run)

    def _chore(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    def close_topic(self, key: str) -> None:
        topic = self._topics.pop(key, None)
        if topic is None:
            return
        groups = [group.id for group in topic.groups.values()]
        for subscription in list(topic.groups):
            topic.unsubscribe(subscription, forget=True)
        topic.publisher.close(f"topic {topic.name} is deleted")
        work = self._delete(topic, groups, self._runs.pop(key))
        self._deleting[topic.name] = task = self._chore(work)
        task.add_done_callback(lambda _: self._deleting.pop(topic.name, None))

    async def _delete(self, topic: Topic, groups: list[str], run: asyncio.Task[None]) -> None:
        await _cancel(run)
        if self._share[0] != 0:
            return
        try:
            async with asyncio.timeout(_DELETE_S):
                await topic.wire.connect()
                for group in [*groups, f"knit.{topic.name}"]:
                    await topic.forget(group)
                if not topic.spec.options.get("external"):
                    await topic.wire.delete_topic(topic.name)
        except (NotConnectedError, RefusedError, TimeoutError) as exc:
            self._on_trouble("kafka topic left behind", {"topic": topic.name, "why": str(exc)})

    # Events.

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        home = self._topics.get(topic)
        if home is None:
            done(Refusal("unknown", f"there is no topic {topic}"))
            return ()
        if not events:
            done(None)
            return ()
        home.publisher.publish(events, done)
        return tuple([group.key for group in home.matching(events[-1].attributes)])

    def matching(self, topic: str, event: Event) -> tuple[str, ...]:
        home = self._topics.get(topic)
        return () if home is None else tuple([group.key for group in home.matching(event.attributes)])

    # Subscriptions.

    def subscribe(self, topic: str, spec: SubscriptionSpec, deliver: Deliver) -> None:
        home = self._topics.get(topic)
        if home is None:
            self.open_topic(TopicSpec(topic))
            home = self._topics[topic]
        home.subscribe(spec, deliver)
        if self._draining:
            home.groups[spec.key].limit = 0

    def unsubscribe(self, topic: str, key: str, *, forget: bool) -> None:
        home = self._topics.get(topic)
        group = home.groups.get(key) if home is not None else None
        if home is None or group is None:
            return
        home.unsubscribe(key, forget=forget)
        if forget and self._share[0] == 0:
            _ = self._chore(home.forget(group.id))

    def states(self) -> list[SubscriptionState]:
        return [group.state() for topic in self._topics.values() for group in topic.groups.values()]

    def health(self) -> dict[str, TopicHealth]:
        """What is wrong at the moment, by the key of the topic or subscription."""
        found = {topic.key: topic.trouble for topic in self._topics.values() if topic.trouble}
        for topic in self._topics.values():
            found |= {group.key: group.taken for group in topic.groups.values() if group.taken}
            found |= {
                group.key: _NOT_BEGUN for group in topic.groups.values() if not group.is_begun and not group.taken
            }
        return {key: TopicHealth(is_up=False, reason=_REASON, message=why) for key, why in found.items()}

    def dead_letters(self) -> Iterable[DeadLetter]:
        """None are kept apart."""
        return ()

    def remove_dead_letter(self, ref: str) -> bool:
        del ref
        return False

    # The end.

    async def drain(self) -> None:
        self._draining = True
        for topic in self._topics.values():
            topic.stop_handing()
        await asyncio.gather(*[topic.drain() for topic in self._topics.values()])

    async def aclose(self) -> None:
        """Store where everybody is, leave the groups, disconnect. What is out comes back at the next start."""
        if self._closed:
            return
        self._closed = True
        ends = [self._end(topic, self._runs.pop(topic.key)) for topic in self._topics.values()]
        await asyncio.gather(*ends, *self._chores)
        self._topics.clear()
        for wire in self._wires.values():
            await wire.aclose()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
