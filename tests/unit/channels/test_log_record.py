"""The log's rows: read back as written, and any flipped bit is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.api import Burial
from channels.log import record
from mesh.events.event import Event

U64 = st.integers(0, 2**63)
EVENT = Event(b"ce-id: 1\r\n", b"body", passed=b"x-request-id: 7\r\n", ttl=3)
DEAD = record.DeadRow("trigger/a/b", Burial("why ✓", 503, 3, "http://sink"), EVENT, 5, 6)


@given(st.binary(), st.binary(), st.binary(), st.integers(-1, 255), U64, U64, st.lists(st.integers(0, 2**32 - 1), max_size=5))  # fmt: skip
def test_an_event_is_read_as_it_was_written(
    block: bytes, passed: bytes, body: bytes, ttl: int, seq: int, arrived_ns: int, ids: list[int]
) -> None:
    packed = b"".join(record.U32.pack(each) for each in ids)
    row = record.encode_event(Event(block, body, passed=passed, ttl=ttl), seq, arrived_ns, 9, packed)
    head, event = record.decode_head(row, seq), record.decode_event(row)
    assert (head.arrived_ns, head.topic, head.ids) == (arrived_ns, 9, tuple(ids))
    assert (event.block, event.passed, event.body, event.ttl) == (block, passed, body, ttl)


@given(U64, U64, U64, st.lists(st.tuples(U64, st.integers(0, 65535)), max_size=9))
def test_a_position_is_read_as_it_was_written(
    frontier: int, matched: int, settled: int, in_flight: list[tuple[int, int]]
) -> None:
    row = record.encode_position(
        frontier, matched=matched, settled=settled,
        seqs=[seq for seq, _ in in_flight], attempts=[attempt for _, attempt in in_flight],
    )  # fmt: skip
    assert record.decode_position(row) == record.PositionRow(frontier, matched, settled, in_flight)


def test_the_other_rows_are_read_as_they_were_written() -> None:
    wait = record.WaitRow(3, 10, 20, flying=True, note=b"note")
    assert record.decode_wait(record.encode_wait(wait)) == wait
    name = record.NameRow(7, "trigger/ä/b")
    assert record.decode_name(record.encode_name(name)) == name
    dead = record.decode_dead(record.encode_dead(DEAD))
    assert (dead.subscription, dead.burial, dead.arrived_ns, dead.buried_ns) == ("trigger/a/b", DEAD.burial, 5, 6)
    assert (dead.event.block, dead.event.passed, dead.event.body, dead.event.ttl) == (
        EVENT.block, EVENT.passed, EVENT.body, EVENT.ttl,
    )  # fmt: skip


def read_event(row: bytes) -> None:
    record.decode_head(row, 77)
    record.decode_event(row)


@pytest.mark.parametrize(
    ("row", "read"),
    [
        (record.encode_event(EVENT, 77, 5, 9, record.U32.pack(4)), read_event),
        (record.encode_event(EVENT, 77, 5, 9, record.U32.pack(4) * 3), read_event),
        (record.encode_position(1, matched=2, settled=3, seqs=[4], attempts=[5]), record.decode_position),
        (record.encode_wait(record.WaitRow(3, 10, 20, flying=False, note=b"n")), record.decode_wait),
        (record.encode_name(record.NameRow(7, "k")), record.decode_name),
        (record.encode_dead(DEAD), record.decode_dead),
    ],
)
def test_every_flipped_bit_and_every_cut_is_noticed(row: bytes, read: Callable[[bytes], object]) -> None:
    read(row)
    for at in range(len(row)):
        for bit in range(8):
            damaged = bytearray(row)
            damaged[at] ^= 1 << bit
            with pytest.raises(record.DamagedError):
                read(bytes(damaged))
        with pytest.raises(record.DamagedError):
            read(row[:at])


def test_a_record_under_another_key_is_noticed() -> None:
    with pytest.raises(record.DamagedError):
        record.decode_head(record.encode_event(EVENT, 77, 5, 9, b""), 78)
