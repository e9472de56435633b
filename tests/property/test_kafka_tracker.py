"""The Kafka tracker against a model: nothing is lost over a crash, attempts that were told never go back, it stays bounded."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels.kafka.tracker import MAX_TEXT, Open, Saved, Tracker, decode, encode

OPEN = st.builds(
    Open,
    attempt=st.integers(1, 1000),
    due_ms=st.sampled_from((0, 1_700_000_000_000)),
    note=st.binary(max_size=300),
    interrupted=st.booleans(),
)


@given(st.integers(0, 2**60), st.dictionaries(st.integers(0, 5000), OPEN, max_size=8), st.integers(0, 5000))
def test_what_is_written_is_read_again(position: int, steps: dict[int, Open], reach: int) -> None:
    found = {position + step: what for step, what in steps.items()}
    saved = Saved(position, max([position + reach, *[offset + 1 for offset in found]]), found)
    text, used = encode(saved)
    assert len(text.encode()) <= MAX_TEXT
    assert used <= 1
    assert decode(position, text) == saved


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.integers(2000, 6000), st.integers(1, 40))
def test_what_does_not_fit_is_left_out_from_the_end(position: int, count: int, spread: int) -> None:
    found = {
        position + n * spread + n % 3: Open(attempt=n % 7 + 1, due_ms=1_700_000_000_000 + n * n * 7919 % 10**9)
        for n in range(count)
    }
    saved = Saved(position, max(found) + 1, found)
    text, used = encode(saved)
    again = decode(position, text)
    assert len(text) <= MAX_TEXT
    assert used > 1
    assert again.frontier == max(again.open) + 1
    assert again.open == {offset: what for offset, what in found.items() if offset < again.frontier}


@given(st.binary(max_size=60))
def test_a_text_that_is_not_ours_says_nothing(data: bytes) -> None:
    for text in ("", "k1:", data.decode("latin-1"), "k1:" + base64.b85encode(data).decode()):
        assert decode(7, text).position == 7


class Life(RuleBasedStateMachine):
    """Records come in order, some wanted; they are begun, settled, put off; commits are made; processes die."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker(Saved(0, 0, {}))
        self.committed: tuple[int, str] = (0, "")
        self.wanted: dict[int, bool] = {}
        self.next = 0
        self.pending: list[int] = []
        self.settled: set[int] = set()
        self.told: dict[int, int] = {}
        self.told_settled: set[int] = set()

    @rule(wanted=st.booleans())
    def read(self, wanted: bool) -> None:
        offset, self.next = self.next, self.next + 1
        decided = self.wanted.setdefault(offset, wanted)
        old = self.tracker.is_old(offset)
        if self.tracker.recall(offset) is not None if old else decided:
            self.pending.append(offset)
        if not old and decided:
            self.settled.discard(offset)

    @precondition(lambda self: self.pending and not self.tracker.is_full)
    @rule()
    def begin(self) -> None:
        offset = self.pending.pop(0)
        state = self.tracker.begin(offset)
        assert state.attempt >= self.told.get(offset, 1)

    @precondition(lambda self: self.tracker.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.tracker.open)))
        self.tracker.settle(offset)
        self.settled.add(offset)

    @precondition(lambda self: self.tracker.open)
    @rule(data=st.data(), note=st.binary(max_size=40))
    def put_off(self, data: st.DataObject, note: bytes) -> None:
        offset = data.draw(st.sampled_from(sorted(self.tracker.open)))
        attempt = self.tracker.open[offset].attempt + 1
        self.tracker.put_off(offset, attempt=attempt, due_ms=attempt * 1000, note=note)

    @rule()
    def commit(self) -> None:
        self.tracker.reach(self.pending[0] if self.pending else self.next)
        self.committed = self.tracker.commit()
        assert len(self.committed[1]) <= MAX_TEXT
        assert self.committed[0] == self.tracker.position
        self.told = {offset: what.attempt for offset, what in self.tracker.open.items()}
        self.told_settled = set(self.settled)

    @rule()
    def die(self) -> None:
        saved = decode(*self.committed)
        self.tracker = Tracker(saved)
        self.next = saved.position
        self.pending = []
        self.settled = set(self.told_settled)
        for offset in self.told_settled:
            assert offset not in saved.open, "settled, told, and back"
            assert offset < saved.frontier
        # Everything wanted is over, listed, or read again.
        for offset, wanted in self.wanted.items():
            if wanted and offset not in self.told_settled:
                assert offset in saved.open or offset >= saved.frontier

    @invariant()
    def holds(self) -> None:
        self.tracker.check()
        for offset, wanted in self.wanted.items():
            if wanted and offset not in self.settled and offset < self.next:
                assert offset in self.pending or offset in self.tracker.open or offset in self.tracker.restored


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
