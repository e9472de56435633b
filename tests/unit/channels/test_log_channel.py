"""What the log does beyond the contract: adopting, retention, sweeping, bounds, damaged records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.api import Burial, SubscriptionSpec, TopicSpec
from channels.log import LogChannel
from mesh.settings import LogSettings
from tests.support.channels import TOPIC, Harness, Reader, Settling, event, ids, only


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    made = Harness("log", tmp_path)
    await made.open()
    yield made
    await made.close()


def log(harness: Harness) -> LogChannel:
    assert isinstance(harness.channel, LogChannel)
    return harness.channel


def rows(harness: Harness, table: str, partition: int = 0) -> int:
    with log(harness)._partitions[partition].store.reading() as view:
        return view.count(table)


async def until_no_rows(harness: Harness, table: str) -> None:
    for _ in range(400):
        await harness.settled_on_disk()
        if not rows(harness, table):
            return
    pytest.fail(f"{table} still has {rows(harness, table)} rows")


def subscribe(harness: Harness, key: str, reader: Reader, parallelism: int = 100, kind: str = "") -> None:
    harness.channel.subscribe(TOPIC, SubscriptionSpec(key, only(kind) if kind else (), parallelism), reader)


async def test_a_settled_event_is_deleted(harness: Harness) -> None:
    fast, slow = Settling(), Reader()
    subscribe(harness, "fast", fast)
    subscribe(harness, "slow", slow, parallelism=1)
    await harness.publish(*[event(n) for n in range(5)])
    for left in (5, 4, 3, 2, 1):
        delivery = await slow.next()
        await harness.quiet()
        assert rows(harness, "events") == left
        delivery.settle()
    await harness.quiet()
    assert rows(harness, "events") == 0


async def test_an_event_nobody_wants_is_not_stored(harness: Harness) -> None:
    subscribe(harness, "x", Reader(), kind="x")
    await harness.publish(event(1, "y"))
    assert rows(harness, "events") == 0


async def test_what_a_forgotten_subscription_held_is_swept(harness: Harness) -> None:
    subscribe(harness, "a", Reader(), parallelism=1)
    subscribe(harness, "b", Settling())
    await harness.publish(*[event(n) for n in range(30)])
    harness.channel.unsubscribe(TOPIC, "a", forget=True)
    await until_no_rows(harness, "events")


async def test_a_sweep_cut_short_is_taken_up_at_the_next_start(harness: Harness) -> None:
    subscribe(harness, "a", Reader(), parallelism=1)
    await harness.publish(*[event(n) for n in range(30)])
    harness.channel.unsubscribe(TOPIC, "a", forget=True)
    await harness.reopen()
    await until_no_rows(harness, "events")


async def test_ids_are_never_used_twice(harness: Harness) -> None:
    subscribe(harness, "a", Reader(), parallelism=1)
    await harness.publish(event(1))
    before = log(harness)._own.next_id
    harness.channel.unsubscribe(TOPIC, "a", forget=True)
    await harness.reopen()
    assert log(harness)._own.next_id >= before


async def test_only_so_many_wait_for_a_retry(harness: Harness) -> None:
    harness.log_settings = LogSettings(max_bytes=16 * 1024**2, max_retrying=3)
    await harness.reopen()
    reader = Reader()
    subscribe(harness, "a", reader, parallelism=2)
    await harness.publish(*[event(n) for n in range(10)])
    for _ in range(3):
        (await reader.next()).retry(delay_s=3600)
    await harness.barrier()
    assert reader.unread <= 1
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert state.retrying == 3
    assert state.backlog == 10


async def test_retention_keeps_settled_events_for_their_time(harness: Harness) -> None:
    harness.channel.open_topic(TopicSpec(TOPIC, {"retention_s": 60.0}))
    subscribe(harness, "a", Settling(), kind="x")
    await harness.publish(event(1, "x"), event(2, "nobody"))
    await harness.quiet()
    assert rows(harness, "events") == 2
    await harness.reopen()
    harness.clock.shift_s = 59
    log(harness)._own.sweeper.trim(by_force=False)
    await harness.quiet()
    assert rows(harness, "events") == 2
    harness.clock.shift_s = 61
    log(harness)._own.sweeper.trim(by_force=False)
    await harness.quiet()
    assert (rows(harness, "events"), rows(harness, "kept")) == (0, 0)


async def test_at_the_bound_retained_events_go_first(harness: Harness) -> None:
    harness.log_settings = LogSettings(max_bytes=4 * 1024**2)
    await harness.reopen()
    harness.channel.open_topic(TopicSpec(TOPIC, {"retention_s": 3600.0}))
    subscribe(harness, "a", Settling())
    for number in range(400):
        if refusal := await harness.publish(event(number, body=b"x" * 20_000)):
            assert refusal.kind == "unavailable"
        await harness.quiet()
    assert any(what == "retention cut short" for what, _ in harness.troubles)


async def test_a_damaged_record_is_reported_and_the_rest_is_served(harness: Harness) -> None:
    subscribe(harness, "a", Reader())
    harness.channel.unsubscribe(TOPIC, "a", forget=False)
    await harness.publish(*[event(n, body=b"body of %d" % n * 20) for n in range(5)])
    await harness.close()
    data = harness.folder / "data.mdb"
    content = data.read_bytes()
    assert content.count(b"body of 3body") >= 1
    data.write_bytes(content.replace(b"body of 3body", b"body of 3bodY"))
    await harness.open()
    reader = Settling()
    subscribe(harness, "a", reader)
    assert ids(await reader.take(4)) == ["0", "1", "2", "4"]
    await harness.barrier()
    assert {what for what, _ in harness.troubles} == {"record damaged"}
    assert harness.troubles[0][1]["path"] == str(harness.folder)
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert state.backlog == 0


async def test_reading_a_backlog_catches_up_and_is_live_again(harness: Harness) -> None:
    subscribe(harness, "other", Settling(), kind="x")
    reader = Settling()
    subscribe(harness, "a", reader, kind="y")
    harness.channel.unsubscribe(TOPIC, "a", forget=False)
    for number in range(300):
        await harness.publish(event(number, "xy"[number % 2]), event(f"{number}z", "z"))
    subscribe(harness, "a", reader, parallelism=7, kind="y")
    assert ids(await reader.take(150)) == [str(n) for n in range(1, 300, 2)]
    (position,) = log(harness)._groups[TOPIC, "a"].positions
    await harness.barrier()
    assert position.live


# -- adopting -----------------------------------------------------------------------------------------------------


async def orphaned(tmp_path: Path, *, count: int, bury: int = 0) -> Path:
    """The store of a worker that is no more, with a backlog for `a`."""
    gone = Harness("log", tmp_path / "gone")
    channel = await gone.open()
    reader = Reader()
    channel.subscribe(TOPIC, SubscriptionSpec("a", parallelism=1), reader)
    await gone.publish(*[event(f"old{n}") for n in range(count)])
    for _ in range(bury):
        (await reader.next()).bury(Burial("no", code=500))
    await gone.settled_on_disk()
    await gone.close()
    return gone.folder


async def test_an_adopted_store_is_served_and_removed(harness: Harness, tmp_path: Path) -> None:
    harness.adopt = [await orphaned(tmp_path, count=5, bury=2)]
    await harness.reopen()
    reader = Settling()
    subscribe(harness, "a", reader)
    assert sorted(ids(await reader.take(3))) == ["old2", "old3", "old4"]
    await harness.publish(event("new"))
    assert ids(await reader.take(1)) == ["new"]
    for _ in range(200):
        await harness.barrier()
        if not harness.adopt[0].exists():
            break
    assert not harness.adopt[0].exists()
    assert [letter.event.id for letter in harness.channel.dead_letters()] == ["old1", "old0"]
    harness.adopt = []
    await harness.reopen()
    assert [letter.event.id for letter in harness.channel.dead_letters()] == ["old1", "old0"]


async def test_the_limit_is_shared_with_what_is_adopted(harness: Harness, tmp_path: Path) -> None:
    harness.adopt = [await orphaned(tmp_path, count=5)]
    await harness.reopen()
    reader = Reader()
    subscribe(harness, "a", reader, parallelism=2)
    await harness.publish(event("new1"), event("new2"))
    await harness.barrier()
    assert reader.unread == 2
    seen = 0
    while seen < 7:
        (await reader.next()).settle()
        seen += 1
        await harness.barrier()
        assert reader.unread <= 2
    assert len({d.event.id for d in reader.seen}) == 7
    (state,) = [s for s in harness.channel.states() if s.key == "a"]
    assert state.backlog == 0


async def test_forgetting_reaches_into_adopted_stores(harness: Harness, tmp_path: Path) -> None:
    harness.adopt = [await orphaned(tmp_path, count=5)]
    await harness.reopen()
    (state,) = harness.channel.states()
    assert (state.key, state.backlog) == ("a", 5)
    harness.channel.unsubscribe(TOPIC, "a", forget=True)
    for _ in range(400):
        await harness.barrier()
        if not harness.adopt[0].exists():
            break
    assert not harness.adopt[0].exists()
