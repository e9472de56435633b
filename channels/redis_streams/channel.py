"""RedisChannel: topics on lanes, which are the connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

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
from channels.redis_streams.dead import dead_letters, remove
from channels.redis_streams.lane import Trouble
from channels.redis_streams.lanes import Lanes
from channels.redis_streams.locate import Access, access_of
from channels.redis_streams.topic import Topic
from mesh.events.event import Event
from mesh.runtime.clock import Clock
from mesh.settings import RedisSettings


class RedisChannel:
    """See the package, and `channels/api.py` for what each call promises.

    consumer: the name of this process in Redis; one that is started again under its old name goes on with what it had in
    hand at once, otherwise the others take that over after `dead_s`. formers: names of workers that are no more. share: as
    in the log channel. Topic options: `address`, `username`, `password`, `ca`, `certificate`, `private_key`; `retention_s`;
    `max_length`: events that may wait for a subscription, beyond it publishing is refused; `wait_replicas`; `whole`.
    """

    capabilities = Capabilities(durable=True, keeps_attempts=True, keeps_dead_letters=True)

    def __init__(
        self, consumer: str, *, settings: RedisSettings, clock: Clock, share: tuple[int, int] = (0, 1),
        formers: Sequence[str] = (), on_trouble: Trouble,
    ) -> None:  # fmt: skip
        self._consumer = consumer
        self._settings = settings
        self._share = share
        self._formers = formers
        self._on_trouble = on_trouble
        self._lanes = Lanes(settings=settings, clock=clock, on_trouble=on_trouble)
        self._topics: dict[str, Topic] = {}
        self._broken: dict[str, str] = {}
        self._draining = False
        self._closed = False

    async def start(self) -> None:
        """Nothing yet: a connection is made when the first topic says where to."""

    # -- topics and subscriptions -------------------------------------------------------------------------------

    def open_topic(self, spec: TopicSpec) -> None:
        try:
            access = access_of(spec.options, self._settings.address)
        except ValueError as exc:
            self._broken[spec.key] = str(exc)
            self._on_trouble("redis address not valid", {"topic": spec.key, "why": str(exc)})
            return
        self._broken.pop(spec.key, None)
        topic = self._topics.get(spec.key)
        if topic is not None and topic.lane.access != access:
            topic = self._move(topic, access)
        if topic is None:
            topic = self._place(spec.key, access)
        topic.configure(spec.options)

    def _place(self, key: str, access: Access) -> Topic:
        lane = self._lanes.get(key, access)
        topic = self._topics[key] = Topic(
            key, lane, self._consumer, share=self._share, formers=self._formers, on_trouble=self._on_trouble
        )
        topic.draining = self._draining
        lane.guests.append(topic)
        if lane.is_up:
            lane.spawn(topic.join())
        return topic

    def _move(self, old: Topic, access: Access) -> Topic:
        """The same topic at another address, or with another password: its subscriptions go on there."""
        old.lane.guests.remove(old)
        topic = self._place(old.key, access)
        topic.configure(old.options)
        for subscription in old.subscriptions.values():
            spec = SubscriptionSpec(subscription.key, subscription.filters, subscription.parallelism)
            deliver = subscription.deliver
            if subscription.wanted and deliver is not None:
                topic.subscribe(spec, deliver)
            subscription.stop()
        self._lanes.close_unused()
        return topic

    def close_topic(self, key: str) -> None:
        topic = self._topics.pop(key, None)
        self._broken.pop(key, None)
        if topic is not None:
            topic.close()

    def subscribe(self, topic: str, spec: SubscriptionSpec, deliver: Deliver) -> None:
        if topic not in self._topics and topic not in self._broken:
            self.open_topic(TopicSpec(topic))
        home = self._topics.get(topic)
        if home is not None:
            home.subscribe(spec, deliver)

    def unsubscribe(self, topic: str, key: str, *, forget: bool) -> None:
        home = self._topics.get(topic)
        if home is not None:
            home.unsubscribe(key, forget=forget)

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        home = self._topics.get(topic)
        if home is not None:
            return home.publish(events, done)
        if topic in self._broken:
            done(Refusal("unavailable", self._broken[topic]))
        elif self._closed:
            done(Refusal("unavailable", "the channel was stopped"))
        else:
            done(Refusal("unknown", f"there is no topic {topic}"))
        return ()

    def matching(self, topic: str, event: Event) -> tuple[str, ...]:
        home = self._topics.get(topic)
        return () if home is None else tuple([subscription.key for subscription in home.matching(event)])

    # -- looking ------------------------------------------------------------------------------------------------

    def states(self) -> list[SubscriptionState]:
        """What Redis knew at the last beat, and what has happened here since."""
        return [state for topic in self._topics.values() for state in topic.states()]

    def dead_letters(self) -> Iterator[DeadLetter]:
        """Newest first within a topic. Asks Redis and waits for it, at most a second a page: for an operator's question only."""
        if self._share[0] == 0:
            for topic in self._topics.values():
                if topic.lane.is_up:
                    yield from dead_letters(topic.lane, topic.key)

    def remove_dead_letter(self, ref: str) -> bool:
        """Whether there was one."""
        key, _, entry = ref.rpartition("#")
        topic = self._topics.get(key)
        return topic is not None and topic.lane.is_up and remove(topic.lane, topic.names.dead, entry)

    def health(self) -> Mapping[str, TopicHealth]:
        broken = {
            key: TopicHealth(is_up=False, reason="AddressNotValid", message=why) for key, why in self._broken.items()
        }
        return broken | {key: topic.lane.health() for key, topic in self._topics.items()}

    async def joined(self) -> None:
        """Return when every topic's Redis has been reached and looked at."""
        for topic in list(self._topics.values()):
            await topic.joined.wait()

    # -- the end ------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        self._draining = True
        for topic in self._topics.values():
            topic.draining = True
        while not self._is_clear():
            waiting = [lane.next_idle() for lane in self._lanes.all()]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    def _is_clear(self) -> bool:
        quiet = all(lane.is_idle for lane in self._lanes.all())
        return quiet and all(each.is_clear for topic in self._topics.values() for each in topic.subscriptions.values())

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        for topic in self._topics.values():
            topic.draining = True
        for topic in self._topics.values():
            await topic.farewell()
        for lane in self._lanes.all():
            await lane.aclose()
        self._topics.clear()

    def kill(self) -> None:
        """End as a killed process does: nothing more is said to Redis."""
        self._closed = True
        for lane in self._lanes.all():
            lane.kill()
