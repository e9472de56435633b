"""What every channel backend promises: `channels/api.py` as tests, the same for all.

Import all of it into a test module that has the fixtures `harness` and `durable` (the same for a durable backend; skip
there where it is not): docs/write-a-channel.md.
"""

from __future__ import annotations

import asyncio

import pytest

from channels.api import Burial, Refusal
from channels.contract.harness import TOPIC, Harness, Reader, Settling, event, ids, only


def subscribe(harness: Harness, key: str = "a", parallelism: int = 100, reader: Reader | None = None, kind: str = "") -> Reader:  # fmt: skip
    reader = reader or Reader()
    spec = harness.spec(key, only(kind) if kind else (), parallelism)
    harness.channel.subscribe(TOPIC, spec, reader)
    return reader


# -- publishing ---------------------------------------------------------------------------------------------------


async def test_an_event_arrives_whole(harness: Harness) -> None:
    reader = subscribe(harness)
    sent = event(1, body=b"\x00\xff" * 10)
    assert await harness.publish(sent) is None
    delivery = await reader.next()
    got = delivery.event
    assert (got.block, got.body, got.passed, got.ttl) == (sent.block, sent.body, sent.passed, sent.ttl)
    assert (delivery.attempt, delivery.note, delivery.interrupted, delivery.subscription) == (1, b"", False, "a")
    assert delivery.arrived_ns > 0


async def test_publish_names_the_subscriptions_that_want_the_last_event(harness: Harness) -> None:
    subscribe(harness, "a", kind="x")
    subscribe(harness, "b", kind="y")
    subscribe(harness, "c")
    answers: list[Refusal | None] = []
    assert set(harness.channel.publish(TOPIC, [event(1, "x"), event(2, "y")], answers.append)) == {"b", "c"}
    assert set(harness.channel.matching(TOPIC, event(3, "x"))) == {"a", "c"}


async def test_an_event_nobody_wants_is_accepted(harness: Harness) -> None:
    assert await harness.publish(event(1)) is None


async def test_an_unknown_topic_is_refused(harness: Harness) -> None:
    refusal = await harness.publish(event(1), topic="broker/default/none")
    assert refusal is not None
    assert refusal.kind == "unknown"
    assert harness.channel.matching("broker/default/none", event(1)) == ()


async def test_a_full_channel_refuses_all_of_a_publish_and_takes_again_when_there_is_room(harness: Harness) -> None:
    if not harness.is_bounded:
        pytest.skip("it holds no events itself")
    harness.make_small()
    await harness.reopen()
    reader = subscribe(harness)
    body = b"x" * 50_000
    taken = 0
    while (refusal := await harness.publish(event(taken, body=body), event(f"{taken}b", body=body))) is None:
        taken += 1
    assert refusal.kind == "full"
    assert taken > 5
    got = await reader.take(2 * taken) if taken <= 50 else await reader.take(100)
    for delivery in got:
        delivery.settle()
    await harness.settled_on_disk()
    assert await harness.publish(event("again", body=body)) is None
    assert not any(d.event.id == str(taken) for d in reader.seen)


async def test_a_large_event_arrives_whole(durable: Harness) -> None:
    reader = subscribe(durable, parallelism=1)
    body = bytes(range(256)) * 4096
    await durable.publish(event(1), event(2, body=body))
    (await reader.next()).settle()
    assert (await reader.next()).event.body == body


async def test_answers_come_in_order(harness: Harness) -> None:
    subscribe(harness, kind="x", reader=Settling())
    order: list[int] = []
    for number in range(20):
        kind = "x" if number % 3 else "nobody"
        harness.channel.publish(TOPIC, [event(number, kind)], lambda _, n=number: order.append(n))  # type: ignore[misc]
    await harness.barrier()
    assert order == list(range(20))


# -- subscriptions ------------------------------------------------------------------------------------------------


async def test_groups_are_independent(harness: Harness) -> None:
    slow, fast = subscribe(harness, "slow", parallelism=1), subscribe(harness, "fast", reader=Settling())
    for number in range(50):
        await harness.publish(event(number))
    assert ids(await fast.take(50)) == [str(n) for n in range(50)]
    assert slow.unread == 1


async def test_a_filter_decides_who_gets_what(harness: Harness) -> None:
    x, y = subscribe(harness, "x", kind="x"), subscribe(harness, "y", kind="y")
    await harness.publish(event(1, "x"), event(2, "y"), event(3, "z"), event(4, "x"))
    assert ids(await x.take(2)) == ["1", "4"]
    assert ids(await y.take(1)) == ["2"]
    await harness.barrier()
    assert (x.unread, y.unread) == (0, 0)


async def test_a_new_subscription_begins_with_the_next_event(harness: Harness) -> None:
    subscribe(harness, "first")
    await harness.publish(event(1))
    late = subscribe(harness, "late")
    await harness.publish(event(2))
    assert ids(await late.take(1)) == ["2"]


async def test_in_flight_is_a_ceiling(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=3)
    await harness.publish(*[event(n) for n in range(10)])
    first = await reader.take(3)
    await harness.barrier()
    assert reader.unread == 0
    first[0].settle()
    await reader.next()
    await harness.barrier()
    assert reader.unread == 0
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert (state.in_flight, state.backlog, state.retrying, state.topic) == (3, 9, 0, TOPIC)
    assert state.oldest_ns > 0


async def test_a_higher_limit_takes_effect_at_once(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1)
    await harness.publish(*[event(n) for n in range(4)])
    await reader.next()
    subscribe(harness, parallelism=4, reader=reader)
    assert ids(await reader.take(3)) == ["1", "2", "3"]


async def test_parallelism_is_divided_over_the_workers(harness: Harness) -> None:
    harness.share = (1, 4)
    await harness.reopen()
    reader, few, whole = subscribe(harness, "a", 10), subscribe(harness, "few", 1), Reader()
    harness.open_topic("whole", whole=True)
    harness.channel.subscribe("whole", harness.spec("w", parallelism=10), whole)
    await harness.publish(*[event(n) for n in range(20)])
    await harness.publish(*[event(n) for n in range(20)], topic="whole")
    await harness.barrier()
    assert (reader.unread, few.unread, whole.unread) == (3, 1, 10)


async def test_parallelism_one_keeps_order_through_retries(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1)
    for number in range(5):
        await harness.publish(event(number))
    seen = []
    for _ in range(10):
        delivery = await reader.next()
        assert reader.unread == 0
        seen.append((delivery.event.id, delivery.attempt))
        if delivery.attempt == 1:
            delivery.retry(delay_s=0.002)
        else:
            delivery.settle()
    assert seen == [(str(n), attempt) for n in range(5) for attempt in (1, 2)]


async def test_order_of_first_attempts_is_that_of_publishing(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=2, reader=Settling())
    for number in range(60):
        harness.channel.publish(TOPIC, [event(number)], lambda _: None)
    assert ids(await reader.take(60)) == [str(n) for n in range(60)]


async def test_a_changed_filter_holds_for_later_events_and_keeps_what_matched(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1, kind="x")
    await harness.publish(event(1, "x"), event(2, "x"), event(3, "y"))
    first = await reader.next()
    subscribe(harness, parallelism=1, kind="y", reader=reader)
    await harness.publish(event(4, "x"), event(5, "y"))
    first.settle()
    got = []
    for _ in range(2):
        delivery = await reader.next()
        got.append(delivery.event.id)
        delivery.settle()
    await harness.barrier()
    assert got == ["2", "5"]
    assert reader.unread == 0


async def test_a_stopped_subscription_keeps_what_waits_and_what_comes(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1)
    await harness.publish(event(1), event(2))
    first = await reader.next()
    harness.channel.unsubscribe(TOPIC, "a", forget=False)
    first.settle()
    await harness.publish(event(3))
    await harness.barrier()
    assert reader.unread == 0
    again = subscribe(harness, parallelism=5)
    assert ids(await again.take(2)) == ["2", "3"]


async def test_a_forgotten_subscription_starts_anew(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1)
    await harness.publish(event(1), event(2))
    first = await reader.next()
    harness.channel.unsubscribe(TOPIC, "a", forget=True)
    assert harness.channel.states() == []
    first.settle()
    again = subscribe(harness)
    await harness.publish(event(3))
    assert ids(await again.take(1)) == ["3"]
    await harness.barrier()
    assert again.unread == 0


async def test_a_closed_topic_is_forgotten(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1)
    await harness.publish(event(1), event(2))
    (await reader.next()).settle()
    harness.channel.close_topic(TOPIC)
    refusal = await harness.publish(event(3))
    assert refusal is not None
    assert refusal.kind == "unknown"
    harness.open_topic(TOPIC)
    again = subscribe(harness)
    await harness.barrier()
    assert again.unread == 0
    harness.channel.close_topic(TOPIC)
    harness.channel.close_topic(TOPIC)


async def test_unsubscribing_what_is_not_there_does_nothing(harness: Harness) -> None:
    harness.channel.unsubscribe(TOPIC, "nobody", forget=True)
    harness.channel.unsubscribe("nowhere", "nobody", forget=False)
    assert harness.channel.states() == []


# -- retries and burials ------------------------------------------------------------------------------------------


async def test_a_retry_waits_at_least_the_delay_and_brings_its_note(harness: Harness) -> None:
    loop = asyncio.get_running_loop()
    reader = subscribe(harness)
    await harness.publish(event(1))
    first = await reader.next()
    begun = loop.time()
    first.retry(delay_s=0.05, note=b"last time 503")
    again = await reader.next()
    assert loop.time() - begun >= 0.049
    assert (again.attempt, again.note, again.event.id, again.interrupted) == (2, b"last time 503", "1", False)
    assert again.arrived_ns == first.arrived_ns


async def test_another_leg_keeps_the_number_of_the_attempt(harness: Harness) -> None:
    reader = subscribe(harness)
    await harness.publish(event(1))
    (await reader.next()).retry(delay_s=0)
    (await reader.next()).retry(delay_s=0, note=b"reply", counts=False)
    again = await reader.next()
    assert (again.attempt, again.note) == (2, b"reply")


async def test_a_waiting_retry_holds_no_slot(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=2)
    await harness.publish(*[event(n) for n in range(4)])
    for delivery in await reader.take(2):
        delivery.retry(delay_s=3600)
    assert ids(await reader.take(2)) == ["2", "3"]
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert (state.in_flight, state.retrying, state.backlog) == (2, 2, 4)


async def test_a_second_answer_changes_nothing(harness: Harness) -> None:
    reader = subscribe(harness)
    await harness.publish(event(1), event(2))
    one, two = await reader.take(2)
    one.settle()
    one.settle()
    one.retry(delay_s=0)
    one.bury(Burial("late"))
    two.retry(delay_s=3600)
    two.settle()
    await harness.barrier()
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert (state.in_flight, state.retrying, state.backlog) == (0, 1, 1)
    assert reader.unread == 0


async def test_a_buried_event_is_over(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=1)
    await harness.publish(event(1), event(2))
    (await reader.next()).bury(Burial("status 500", code=500, attempts=3))
    assert (await reader.next()).event.id == "2"
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert state.backlog == 1


async def test_buried_events_are_listed_newest_first_and_can_be_removed(durable: Harness) -> None:
    if not durable.channel.capabilities.keeps_dead_letters:
        pytest.skip("it keeps none")
    reader = subscribe(durable)
    await durable.publish(*[event(n, body=b"%d" % n) for n in range(70)])
    burial = Burial("status 503", code=503, attempts=4, destination="http://sink")
    for delivery in await reader.take(70):
        delivery.bury(burial)
    await durable.reopen()
    letters = list(durable.channel.dead_letters())
    assert [letter.event.id for letter in letters] == [str(n) for n in reversed(range(70))]
    assert letters[0].burial == burial
    assert letters[0].event.body == b"69"
    assert letters[0].subscription == "a"
    assert letters[0].buried_ns >= letters[0].arrived_ns > 0
    remove = durable.channel.remove_dead_letter  # type: ignore[attr-defined]
    assert remove(letters[0].ref)
    await durable.barrier()
    assert not remove(letters[0].ref)
    assert not remove("nonsense")
    assert [letter.event.id for letter in durable.channel.dead_letters()][:2] == ["68", "67"]


# -- stopping -----------------------------------------------------------------------------------------------------


async def test_drain_waits_for_what_is_out_and_hands_out_no_more(harness: Harness) -> None:
    reader = subscribe(harness, parallelism=2)
    await harness.publish(*[event(n) for n in range(5)])
    out = await reader.take(2)
    draining = asyncio.ensure_future(harness.channel.drain())
    await asyncio.sleep(0)
    out[0].settle()
    await asyncio.sleep(0)
    assert not draining.done()
    out[1].retry(delay_s=0)
    async with asyncio.timeout(5):
        await draining
    assert reader.unread == 0


async def test_after_a_drain_everything_unsettled_comes_back_once(durable: Harness) -> None:
    reader = subscribe(durable, parallelism=2)
    await durable.publish(*[event(n) for n in range(5)])
    out = await reader.take(2)
    out[0].settle()
    out[1].retry(delay_s=0, note=b"n")
    await durable.channel.drain()
    await durable.reopen()
    again = subscribe(durable)
    got = {d.event.id: (d.attempt, d.note, d.interrupted) for d in await again.take(4)}
    assert got == {"1": (2, b"n", False)} | {str(n): (1, b"", False) for n in (2, 3, 4)}
    await durable.barrier()
    assert again.unread == 0


async def test_published_while_draining_is_kept(durable: Harness) -> None:
    reader = subscribe(durable)
    await durable.channel.drain()
    assert await durable.publish(event(1)) is None
    assert reader.unread == 0
    await durable.reopen()
    assert ids([await subscribe(durable).next()]) == ["1"]


async def test_a_closed_channel_refuses(harness: Harness) -> None:
    channel = harness.channel
    subscribe(harness)
    await harness.close()
    answers: list[Refusal | None] = []
    channel.publish(TOPIC, [event(1)], answers.append)
    assert answers[0] is not None
    await channel.aclose()


# -- what survives ------------------------------------------------------------------------------------------------


async def test_a_position_outlives_a_restart(durable: Harness) -> None:
    reader = subscribe(durable, parallelism=1)
    await durable.publish(*[event(n) for n in range(4)])
    for _ in range(2):
        (await reader.next()).settle()
    assert (await reader.next()).event.id == "2"
    await durable.reopen()
    kind = "other" if durable.channel.capabilities.matches_early else ""
    again = subscribe(durable, parallelism=1, kind=kind)
    got = []
    for _ in range(2):
        delivery = await again.next()
        got.append((delivery.event.id, delivery.attempt, delivery.interrupted))
        delivery.settle()
    assert got == [("2", 2, True), ("3", 1, False)]


async def test_an_accepted_event_survives_a_crash(durable: Harness) -> None:
    subscribe(durable, "a", parallelism=1)
    subscribe(durable, "b")
    for number in range(10):
        assert await durable.publish(event(number)) is None
    await durable.crash()
    a, b = subscribe(durable, "a"), subscribe(durable, "b")
    assert sorted(ids(await a.take(10))) == sorted(ids(await b.take(10))) == [str(n) for n in range(10)]


async def test_a_settled_event_does_not_come_back_after_a_crash(durable: Harness) -> None:
    reader = subscribe(durable, parallelism=4)
    await durable.publish(*[event(n) for n in range(8)])
    for delivery in await reader.take(4):
        delivery.settle()
    await durable.settled_on_disk()
    await durable.crash()
    again = subscribe(durable)
    assert sorted(ids(await again.take(4))) == ["4", "5", "6", "7"]
    await durable.barrier()
    assert again.unread == 0


async def test_attempts_never_go_back(durable: Harness) -> None:
    reader = subscribe(durable)
    await durable.publish(event(1))
    attempts, interrupted = [], []
    for round_ in range(6):
        delivery = await reader.next()
        attempts.append(delivery.attempt)
        interrupted.append(delivery.interrupted)
        if round_ % 2:
            delivery.retry(delay_s=0, note=b"again")
            delivery = await reader.next()
            attempts.append(delivery.attempt)
            assert not delivery.interrupted
        await durable.crash()
        reader = subscribe(durable)
    assert attempts[0] == 1
    if durable.channel.capabilities.counts_interrupted:
        assert attempts == sorted(set(attempts))
        assert interrupted == [False] + [True] * 5
    else:
        # What was under way is made again; what was counted stays counted.
        assert attempts == [1, 1, 2, 2, 2, 3, 3, 3, 4]


async def test_a_retry_keeps_its_time_and_note_through_a_crash(durable: Harness) -> None:
    reader = subscribe(durable)
    loop = asyncio.get_running_loop()
    await durable.publish(event(1), event(2))
    one, two = await reader.take(2)
    begun = loop.time()
    one.retry(delay_s=0.3, note=b"later")
    two.retry(delay_s=3600)
    await durable.settled_on_disk()
    await durable.crash()
    again = subscribe(durable)
    delivery = await again.next()
    assert loop.time() - begun >= 0.299
    assert (delivery.event.id, delivery.attempt, delivery.note, delivery.interrupted) == ("1", 2, b"later", False)
    assert again.unread == 0


async def test_order_holds_through_a_crash(durable: Harness) -> None:
    reader = subscribe(durable, parallelism=1)
    await durable.publish(*[event(n) for n in range(5)])
    (await reader.next()).settle()
    (await reader.next()).retry(delay_s=0.01)
    await durable.settled_on_disk()
    await durable.crash()
    again = subscribe(durable, parallelism=1)
    got = []
    for _ in range(4):
        delivery = await again.next()
        got.append(delivery.event.id)
        delivery.settle()
    assert got == ["1", "2", "3", "4"]


async def test_all_or_none_of_a_publish_survive_a_crash(durable: Harness) -> None:
    subscribe(durable)
    answers: list[Refusal | None] = []
    durable.channel.publish(TOPIC, [event(n) for n in range(50)], answers.append)
    await durable.crash()
    again = subscribe(durable)
    await durable.barrier()
    assert again.unread in (0, 50)


async def test_forgetting_survives_a_crash(durable: Harness) -> None:
    subscribe(durable, parallelism=1)
    await durable.publish(event(1), event(2))
    durable.channel.unsubscribe(TOPIC, "a", forget=True)
    await durable.settled_on_disk()
    await durable.crash()
    again = subscribe(durable)
    await durable.publish(event(3))
    assert ids(await again.take(1)) == ["3"]


async def test_what_nobody_subscribed_again_is_still_there(durable: Harness) -> None:
    if not durable.is_bounded:
        pytest.skip("it holds no events itself")
    subscribe(durable, parallelism=1)
    await durable.publish(event(1), event(2))
    await durable.reopen()
    (state,) = durable.channel.states()
    assert (state.key, state.topic, state.backlog, state.in_flight) == ("a", TOPIC, 2, 0)
    assert state.oldest_ns > 0
    durable.channel.unsubscribe(TOPIC, "a", forget=True)
    assert durable.channel.states() == []
