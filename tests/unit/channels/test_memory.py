"""The in-memory channel where it differs: synchronous answers (eventing reference 3.6), its bound, its end."""

from __future__ import annotations

import pytest

from channels.api import Burial, Delivery, Refusal, SubscriptionSpec, TopicSpec
from channels.memory import MemoryChannel
from mesh.runtime.clock import SystemClock
from mesh.settings import MemorySettings
from tests.support.channels import Reader, Settling, event


class Sync:
    """A synchronous topic and what its publisher was told."""

    def __init__(self) -> None:
        self.channel = MemoryChannel(MemorySettings(max_bytes=20_000), clock=SystemClock())
        self.channel.open_topic(TopicSpec("t"))
        self.answers: list[Refusal | None] = []

    def subscribe(self, key: str, parallelism: int = 100, reader: Reader | None = None) -> Reader:
        reader = reader or Reader()
        self.channel.subscribe("t", SubscriptionSpec(key, parallelism=parallelism), reader)
        return reader

    def publish(self, *names: str, size: int = 2) -> None:
        self.channel.publish("t", [event(name, body=b"x" * size) for name in names], self.answers.append)


@pytest.fixture
async def sync() -> Sync:
    return Sync()


async def test_the_answer_waits_for_every_subscription(sync: Sync) -> None:
    a, b = sync.subscribe("a"), sync.subscribe("b")
    sync.publish("1")
    a.seen[0].settle()
    assert sync.answers == []
    b.seen[0].settle()
    assert sync.answers == [None]


async def test_without_subscriptions_the_answer_comes_at_once(sync: Sync) -> None:
    sync.publish("1")
    assert sync.answers == [None]


async def test_a_burial_fails_the_publish_after_the_others_ended(sync: Sync) -> None:
    a, b = sync.subscribe("a"), sync.subscribe("b")
    sync.publish("1")
    a.seen[0].bury(Burial("status 500, and all 3 retries are spent", code=500))
    assert sync.answers == []
    b.seen[0].settle()
    assert sync.answers == [Refusal("failed", "status 500, and all 3 retries are spent")]
    assert list(sync.channel.dead_letters()) == []
    assert not sync.channel.remove_dead_letter("1")


async def test_a_retry_holds_the_answer(sync: Sync) -> None:
    a = sync.subscribe("a")
    sync.publish("1")
    (await a.next()).retry(delay_s=0.001)
    assert sync.answers == []
    (await a.next()).settle()
    assert sync.answers == [None]


async def test_a_batch_is_answered_once(sync: Sync) -> None:
    a = sync.subscribe("a")
    sync.publish("1", "2", "3")
    for delivery in a.seen:
        assert sync.answers == []
        delivery.settle()
    assert sync.answers == [None]


async def test_what_a_removed_subscription_held_counts_as_settled(sync: Sync) -> None:
    a = sync.subscribe("a", parallelism=2)
    sync.publish("1")
    sync.publish("2")
    sync.publish("3")
    a.seen[0].retry(delay_s=3600)
    sync.channel.unsubscribe("t", "a", forget=True)
    assert sync.answers == [None, None, None]
    a.seen[1].settle()
    assert sync.answers == [None, None, None]


async def test_a_closed_topic_answers_its_publishers(sync: Sync) -> None:
    sync.subscribe("a")
    sync.publish("1")
    sync.channel.close_topic("t")
    assert sync.answers == [None]


async def test_closing_tells_publishers_that_wait(sync: Sync) -> None:
    a = sync.subscribe("a", parallelism=1)
    sync.publish("1")
    sync.publish("2")
    await sync.channel.aclose()
    assert [answer and answer.kind for answer in sync.answers] == ["unavailable", "unavailable"]
    a.seen[0].settle()
    assert len(sync.answers) == 2


async def test_bytes_are_given_back_when_the_last_subscription_ended(sync: Sync) -> None:
    a, b = sync.subscribe("a"), sync.subscribe("b")
    sync.publish("1", size=15_000)
    a.seen[0].settle()
    sync.publish("2", size=15_000)
    assert [answer and answer.kind for answer in sync.answers] == ["full"]
    b.seen[0].settle()
    sync.publish("3", size=15_000)
    assert [delivery.event.id for delivery in a.seen] == ["1", "3"]


async def test_a_long_backlog_settled_at_once_does_not_nest(sync: Sync) -> None:
    held = sync.subscribe("a", parallelism=1)
    channel = sync.channel
    channel.open_topic(TopicSpec("t", {"sync": False}))
    small = MemoryChannel(MemorySettings(), clock=SystemClock())
    small.open_topic(TopicSpec("t", {"sync": False}))
    small.subscribe("t", SubscriptionSpec("a", parallelism=1), held)
    for number in range(5000):
        small.publish("t", [event(number)], lambda _: None)
    reader = Settling()
    small.subscribe("t", SubscriptionSpec("a", parallelism=1), reader)
    held.seen[0].settle()
    assert len(reader.seen) == 4999


async def test_a_publisher_may_publish_from_its_answer(sync: Sync) -> None:
    sync.channel.subscribe("t", SubscriptionSpec("a"), lambda delivery: delivery.settle())
    count = 0

    def done(_: Refusal | None) -> None:
        nonlocal count
        count += 1
        if count < 50:
            sync.channel.publish("t", [event(count)], done)

    sync.channel.publish("t", [event(0)], done)
    assert count == 50


async def test_states_name_the_oldest(sync: Sync) -> None:
    seen: list[Delivery] = []
    sync.channel.subscribe("t", SubscriptionSpec("a", parallelism=1), seen.append)
    sync.publish("1")
    sync.publish("2")
    (state,) = sync.channel.states()
    assert (state.key, state.topic, state.backlog, state.in_flight, state.retrying) == ("a", "t", 2, 1, 0)
    assert state.oldest_ns == seen[0].arrived_ns
