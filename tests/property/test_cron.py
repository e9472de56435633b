"""Laws of schedules: the next firing is later, matches, and is the first to do so, through every change of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sources.cron import Schedule, check_schedule, parse

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Tehran",
]
# Days on which clocks change in one of these zones, so that a random moment is often near one.
CHANGES = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2018, 11, 4, 3, tzinfo=UTC),
    datetime(2018, 2, 18, 2, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
    datetime(2022, 3, 21, 20, tzinfo=UTC),
]
near_a_change = st.builds(
    lambda at, s: at + timedelta(seconds=s), st.sampled_from(CHANGES), st.integers(-200_000, 200_000)
)
any_time = st.builds(lambda s: datetime(1995, 1, 1, tzinfo=UTC) + timedelta(seconds=s), st.integers(0, 3 * 10**9))
moments = near_a_change | any_time


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    pair = st.tuples(number, number).map(sorted)
    step = st.integers(1, high)
    part = st.one_of(
        st.just("*"),
        number.map(str),
        pair.map(lambda p: f"{p[0]}-{p[1]}"),
        st.tuples(pair, step).map(lambda p: f"{p[0][0]}-{p[0][1]}/{p[1]}"),
        step.map(lambda n: f"*/{n}"),
        st.tuples(number, step).map(lambda p: f"{p[0]}/{p[1]}"),
    )
    return st.lists(part, min_size=1, max_size=3).map(",".join)


fields = [field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)]
schedules = st.builds(parse, st.tuples(*fields).map(" ".join), st.sampled_from(ZONES))
frequent = st.builds(parse, st.tuples(*fields[1:3]).map(lambda f: f"{f[0]} {f[1]} * * *"), st.sampled_from(ZONES))


@given(schedule=schedules, moment=moments)
def test_the_next_firing_is_later_and_matches(schedule: Schedule, moment: datetime) -> None:
    found = schedule.next_after(moment)
    assume(found is not None)
    assert found is not None
    assert found > moment
    assert schedule.matches(found.astimezone(schedule.zone))


@settings(deadline=None)
@given(schedule=frequent, moment=moments)
def test_no_earlier_minute_matches(schedule: Schedule, moment: datetime) -> None:
    found = schedule.next_after(moment)
    assert found is not None
    minute = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while minute < found:
        assert not schedule.matches(minute.astimezone(schedule.zone))
        minute += timedelta(minutes=1)
    assert minute == found


@given(schedule=schedules, first=moments, second=moments)
def test_a_later_moment_never_has_an_earlier_next_firing(schedule: Schedule, first: datetime, second: datetime) -> None:
    early, late = sorted([first, second])
    after_early, after_late = schedule.next_after(early), schedule.next_after(late)
    assume(after_early is not None and after_late is not None)
    assert after_early is not None
    assert after_late is not None
    assert after_early <= after_late
    # What lies between a moment and its next firing has the same next firing.
    if late < after_early:
        assert after_late == after_early


@given(text=st.text(max_size=30) | st.text(alphabet="0123456789*/,-?@ LMONJAN", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    refused = check_schedule(text, "")
    if refused is None:
        assert parse(text).hours
    else:
        assert refused[0] == "schedule"
        assert refused[1]
