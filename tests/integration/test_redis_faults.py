"""What happens to events when Redis, the connection or another process does not do as it should. Real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from channels.api import Burial
from channels.redis_streams.keys import Names
from channels.redis_streams.subscription import FOREIGN
from mesh.runtime.clock import SystemClock
from tests.servers.redis import RedisServer
from tests.support.channels import TOPIC, Reader, Settling, event, ids
from tests.support.redis_peers import SETTINGS, Peer

STREAM = Names(TOPIC).stream("a")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[Redis]:
    with Redis(port=server.port) as made:
        yield made


def options(server: RedisServer) -> dict[str, str | float | bool]:
    return {"address": server.address}


async def test_nothing_acknowledged_is_missing_when_redis_is_killed_under_load(server: RedisServer) -> None:
    async with Peer("one", options(server)) as one:
        reader = one.read(reader=Settling())
        taken: set[str] = set()
        refused = 0

        async def send(first: int) -> None:
            nonlocal refused
            for number in range(first, first + 200):
                if await one.publish(event(number)) is None:
                    taken.add(str(number))
                else:
                    refused += 1
                    await asyncio.sleep(0.005)

        sending = [asyncio.ensure_future(send(lane * 1000)) for lane in range(8)]
        await one.until(lambda: len(reader.seen) > 200)
        server.kill()
        await one.until(lambda: refused > 10)
        assert not one.is_up
        server.start()
        await asyncio.gather(*sending)
        assert refused < 1600
        await one.until(lambda: taken <= {delivery.event.id for delivery in reader.seen})
        extra = len(reader.seen) - len(taken)
        assert extra <= 8 + 100, "at most what was being answered, and what was being settled"
        await one.until(lambda: one.channel.states()[0].backlog == 0)


async def test_a_redis_that_answers_nothing_refuses_within_the_limit_and_is_used_again(server: RedisServer) -> None:
    loop = asyncio.get_running_loop()
    async with Peer("one", options(server)) as one:
        reader = one.read(reader=Settling())
        assert await one.publish(event(1)) is None
        server.pause()
        try:
            begun = loop.time()
            refusals = await asyncio.gather(*[one.publish(event(number)) for number in range(2, 12)])
            took_s = loop.time() - begun
            assert all(refusal is not None and refusal.kind == "unavailable" for refusal in refusals)
            assert took_s < SETTINGS.answer_timeout_s + SETTINGS.connect_timeout_s + 0.5
            await one.until(lambda: not one.is_up and bool(one.channel.health()[TOPIC].message))
            begun = loop.time()
            await one.until(lambda: "no answer" in one.channel.health()[TOPIC].message)
            begun = loop.time()
            assert await one.publish(event("during")) is not None
            assert loop.time() - begun < 0.1, "known to be gone, it is refused at once"
        finally:
            server.go_on()
        await one.until_taken(event("after"))
        await one.until(lambda: "after" in ids(reader.seen))


async def test_a_full_redis_refuses_and_takes_again_when_there_is_room(server: RedisServer, client: Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    async with Peer("one", options(server)) as one:
        reader = one.read()
        assert await one.publish(event(1)) is None
        (await reader.next()).retry(delay_s=0)
        again = await reader.next()
        client.config_set("maxmemory", "1")
        refusal = await one.publish(event(2))
        assert refusal is not None
        assert refusal.kind == "unavailable"
        assert "OOM" in refusal.why
        again.retry(delay_s=0, note=b"cannot be written now")
        await one.until(lambda: any(what == "settlement not stored" for what, _ in one.troubles))
        assert reader.unread == 0
        client.config_set("maxmemory", "0")
        third = await reader.next()
        assert (third.attempt, third.note, third.event.id) == (3, b"cannot be written now", "1")
        assert await one.publish(event(3)) is None
        third.settle()
        (await reader.next()).settle()
        await one.until(lambda: client.xlen(STREAM) == 0)


async def test_what_a_killed_process_had_in_hand_goes_to_another(server: RedisServer, client: Redis) -> None:
    async with Peer("one", options(server)) as one, Peer("two", options(server)) as two:
        mine, others = one.read(), Reader()
        assert await one.publish(*[event(n) for n in range(20)]) is None
        had = await mine.take(20)
        had[0].retry(delay_s=0, note=b"n")
        assert (await mine.next()).attempt == 2
        had[1].settle()
        await one.until(lambda: client.xlen(STREAM) == 19)
        two.read(reader=others)
        await two.until(lambda: two.is_up)
        assert others.unread == 0
        one.channel.kill()
        got = {d.event.id: d for d in await others.take(19)}
        assert (got["0"].attempt, got["0"].note, got["0"].interrupted) == (3, b"n", True)
        assert {(d.attempt, d.interrupted) for n, d in got.items() if n != "0"} == {(2, True)}
        for delivery in got.values():
            delivery.settle()
        await two.until(lambda: client.xlen(STREAM) == 0)
        await two.until(lambda: [row["name"] for row in client.xinfo_consumers(STREAM, "knit")] == [b"two"])


async def test_a_slow_subscriber_loses_nothing_to_others_while_its_process_lives(server: RedisServer) -> None:
    async with Peer("one", options(server)) as one, Peer("two", options(server)) as two:
        mine = one.read()
        assert await one.publish(event(1)) is None
        delivery = await mine.next()
        others = two.read()
        await two.until(lambda: two.is_up)
        await asyncio.sleep(SETTINGS.dead_s * 2)
        assert others.unread == 0
        delivery.settle()


async def test_what_one_process_has_no_room_for_another_takes(server: RedisServer) -> None:
    async with Peer("one", options(server)) as one, Peer("two", options(server)) as two:
        mine = one.read(parallelism=2)
        assert await one.publish(event(0), event(1)) is None
        assert ids(await mine.take(2)) == ["0", "1"]
        others = two.read(parallelism=50)
        await two.until(lambda: two.is_up)
        for number in range(2, 40):
            assert await one.publish(event(number)) is None
        assert sorted(map(int, ids(await others.take(38)))) == list(range(2, 40))


async def test_order_holds_over_two_processes_and_the_death_of_one(server: RedisServer) -> None:
    async with Peer("one", options(server)) as one, Peer("two", options(server)) as two:
        mine = one.read(parallelism=1)
        assert await one.publish(*[event(n) for n in range(6)]) is None
        (await mine.next()).settle()
        others = two.read(parallelism=1)
        await two.until(lambda: two.is_up)
        assert (await mine.next()).event.id == "1"
        assert await two.publish(event(6)) is None
        assert others.unread == 0
        one.channel.kill()
        got = []
        for _ in range(6):
            delivery = await others.next()
            assert others.unread == 0
            got.append((delivery.event.id, delivery.attempt))
            delivery.settle()
        assert got == [("1", 2)] + [(str(n), 1) for n in range(2, 7)]


async def test_an_ordered_reader_that_leaves_hands_over_at_once(server: RedisServer) -> None:
    async with Peer("two", options(server)) as two:
        async with Peer("one", options(server)) as one:
            mine = one.read(parallelism=1)
            assert await one.publish(event(0), event(1)) is None
            (await mine.next()).settle()
            (await mine.next()).retry(delay_s=0)
            await mine.next()
            others = two.read(parallelism=1)
            await two.until(lambda: two.is_up)
            assert others.unread == 0
            mine.seen[-1].settle()
            assert await one.publish(event(2)) is None
            (await mine.next()).retry(delay_s=0)
        delivery = await others.next()
        assert (delivery.event.id, delivery.attempt) in {("2", 2), ("2", 3)}


async def test_an_entry_of_somebody_else_ends_in_the_dead_letters_and_stops_nobody(
    server: RedisServer, client: Redis
) -> None:
    async with Peer("one", options(server)) as one:
        reader = one.read()
        assert await one.publish(event(1)) is None
        await reader.next()
        client.xadd(STREAM, {"what": "ever"})
        assert await one.publish(event(2)) is None
        assert (await reader.next()).event.id == "2"
        await one.until(lambda: client.xlen(Names(TOPIC).dead) == 1)
        (letter,) = one.channel.dead_letters()
        assert letter.event.type == FOREIGN
        assert "not an event of ours" in letter.burial.why


async def test_a_stream_deleted_under_us_is_made_again(server: RedisServer, client: Redis) -> None:
    async with Peer("one", options(server)) as one:
        reader = one.read(reader=Settling())
        assert await one.publish(event(1)) is None
        await one.until(lambda: client.xlen(STREAM) == 0)
        client.flushall()
        assert await one.publish(event(2)) is None
        await one.until(lambda: ids(reader.seen) == ["1", "2"])


async def test_how_long_something_waits_is_known_without_reading_it(server: RedisServer) -> None:
    async with Peer("one", options(server)) as one:
        reader = one.read(parallelism=1)
        assert await one.publish(event(1)) is None
        (await reader.next()).settle()
        one.channel.unsubscribe(TOPIC, "a", forget=False)
        began_ns = SystemClock.now_ns()
        assert await one.publish(event(2)) is None
        await one.until(lambda: one.channel.states()[0].oldest_ns > 0)
        assert abs(one.channel.states()[0].oldest_ns - began_ns) < 1e9


async def test_a_foreign_key_under_our_name_is_refused_and_told(server: RedisServer, client: Redis) -> None:
    client.set(STREAM, "mine")
    async with Peer("one", options(server)) as one:
        one.read()
        refusal = await one.publish(event(1))
        assert refusal is not None
        assert "WRONGTYPE" in refusal.why
        await one.until(lambda: bool(one.troubles))


async def test_what_is_kept_beyond_settlement_is_read_by_time(server: RedisServer, client: Redis) -> None:
    async with Peer("one", options(server) | {"retention_s": 3600.0}) as one:
        one.read(reader=Settling())
        for number in range(3):
            assert await one.publish(event(number)) is None
        await one.until(lambda: client.xlen(STREAM) == 0)
        seconds, micros = client.time()
        now_ms = seconds * 1000 + micros // 1000
        kept = client.xrange(Names(TOPIC).kept, min=now_ms - 60_000, max=now_ms)
        assert [b"ce-id: %d" % n in fields[b"ce"] for n, (_, fields) in enumerate(kept)] == [True] * 3
        assert client.xrange(Names(TOPIC).kept, min=0, max=now_ms - 60_000) == []


async def test_a_process_that_stood_still_does_not_repeat_what_others_took(server: RedisServer) -> None:
    slow = type(SETTINGS)(beat_s=0.05, dead_s=0.5, answer_timeout_s=30, connect_timeout_s=0.5)
    async with Peer("one", options(server), settings=slow) as one, Peer("two", options(server)) as two:
        mine = one.read()
        assert await one.publish(event(1)) is None
        (await mine.next()).retry(delay_s=1.5)
        others = two.read()
        await two.until(lambda: two.is_up)
        with Redis(port=server.port) as client:
            await two.until(lambda: client.xpending(STREAM, "knit")["consumers"] != [])
            for topic in one.channel._topics.values():
                topic.is_open = False  # no beat any more: it stands still
            await two.until(lambda: [row["name"] for row in client.xpending(STREAM, "knit")["consumers"]] == [b"two"])
            for topic in one.channel._topics.values():
                topic.is_open = True
            delivery = await others.next()
            assert (delivery.attempt, delivery.interrupted) == (2, False)
            delivery.settle()
            await two.until(lambda: client.xlen(STREAM) == 0)
        assert mine.unread == 0


async def test_nothing_is_left_of_a_deleted_topic_but_its_dead_letters_for_a_while(
    server: RedisServer, client: Redis
) -> None:
    async with Peer("one", options(server) | {"retention_s": 60.0}) as one:
        reader, slow = one.read(), one.read("slow", parallelism=1)
        assert await one.publish(event(1), event(2)) is None
        (await reader.next()).bury(Burial("no"))
        (await reader.next()).retry(delay_s=60)
        await slow.next()
        await one.until(lambda: client.xlen(Names(TOPIC).dead))
        one.channel.close_topic(TOPIC)
        await one.until(lambda: client.keys("knit:*") == [Names(TOPIC).dead.encode()])
        assert 0 < client.ttl(Names(TOPIC).dead) <= 7 * 86_400


async def test_a_topic_deleted_while_redis_is_gone_is_deleted_when_it_is_back(
    server: RedisServer, client: Redis
) -> None:
    async with Peer("one", options(server)) as one:
        one.read()
        assert await one.publish(event(1)) is None
        server.kill()
        await one.until(lambda: not one.is_up)
        one.channel.close_topic(TOPIC)
        server.start()
        await one.until(lambda: client.keys("knit:*") == [])
