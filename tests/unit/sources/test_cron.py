"""PingSource's cron dialect: what is read, when it fires, what is refused and how that is said."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from sources.cron import ScheduleError, check_schedule, parse

START = datetime(2026, 3, 4, 10, 17, 30, tzinfo=UTC)  # a Wednesday


def firings(schedule: str, count: int, *, timezone: str = "", after: datetime = START) -> list[str]:
    """The next firings as local wall-clock times with their offset."""
    plan, found = parse(schedule, timezone), []
    for _ in range(count):
        moment = plan.next_after(after)
        assert moment is not None
        found.append(moment.astimezone(plan.zone).strftime("%a %d %b %Y %H:%M:%S %z"))
        after = moment
    return found


def first(schedule: str) -> str:
    return firings(schedule, 1)[0].removesuffix(" +0000")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", "Wed 04 Mar 2026 10:18:00"),
        ("*/5 * * * *", "Wed 04 Mar 2026 10:20:00"),
        ("17 * * * *", "Wed 04 Mar 2026 11:17:00"),
        ("3/20 * * * *", "Wed 04 Mar 2026 10:23:00"),
        ("10-30/15 * * * *", "Wed 04 Mar 2026 10:25:00"),
        ("0 0,12 * * *", "Wed 04 Mar 2026 12:00:00"),
        ("59 23 * * *", "Wed 04 Mar 2026 23:59:00"),
        ("0 10 * * *", "Thu 05 Mar 2026 10:00:00"),
        ("0 15 * * ?", "Wed 04 Mar 2026 15:00:00"),
        ("0 0 1 * *", "Wed 01 Apr 2026 00:00:00"),
        ("0 0 31 * *", "Tue 31 Mar 2026 00:00:00"),
        ("30 6 29 feb *", "Tue 29 Feb 2028 06:30:00"),
        ("0 9 * * Mon-FRI", "Thu 05 Mar 2026 09:00:00"),
        ("0 9 * * sun,SAT", "Sat 07 Mar 2026 09:00:00"),
        ("0 9 ? JAN *", "Fri 01 Jan 2027 09:00:00"),
        ("08 08 08 08 *", "Sat 08 Aug 2026 08:08:00"),
        ("0 0 * 2 mon/2", "Mon 01 Feb 2027 00:00:00"),
        ("1,,2 * * * *", "Wed 04 Mar 2026 11:01:00"),
        ("  0   0 *\t* *  ", "Thu 05 Mar 2026 00:00:00"),
        ("* * * * * *", "Wed 04 Mar 2026 10:17:31"),
        ("10 0/5 * * * ?", "Wed 04 Mar 2026 10:20:10"),
        ("15/20 * * * * *", "Wed 04 Mar 2026 10:17:35"),
        ("30 17 10 4 3 ?", "Thu 04 Mar 2027 10:17:30"),
        ("@yearly", "Fri 01 Jan 2027 00:00:00"),
        ("@annually", "Fri 01 Jan 2027 00:00:00"),
        ("@monthly", "Wed 01 Apr 2026 00:00:00"),
        ("@weekly", "Sun 08 Mar 2026 00:00:00"),
        ("@daily", "Thu 05 Mar 2026 00:00:00"),
        ("@midnight", "Thu 05 Mar 2026 00:00:00"),
        ("@hourly", "Wed 04 Mar 2026 11:00:00"),
    ],
)
def test_next_firing(schedule: str, expected: str) -> None:
    assert first(schedule) == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Both restricted: one is enough.
        ("0 0 6 * sun", ["Fri 06", "Sun 08", "Sun 15"]),
        # A star with a step restricts too, so one is enough here as well.
        ("0 0 */10 * sun", ["Sun 08", "Wed 11", "Sun 15"]),
        # A star (or ?, or a star in a list, or a step of one) leaves the other alone to decide.
        ("0 0 * * sun", ["Sun 08", "Sun 15", "Sun 22"]),
        ("0 0 ? * sun", ["Sun 08", "Sun 15", "Sun 22"]),
        ("0 0 */1 * sun", ["Sun 08", "Sun 15", "Sun 22"]),
        ("0 0 6,* * sun", ["Sun 08", "Sun 15", "Sun 22"]),
        ("0 0 10,20 * *", ["Tue 10", "Fri 20", "Fri 10"]),
        # The whole range in numbers is no star: every day is one of the two.
        ("0 0 1-31 * sun", ["Thu 05", "Fri 06", "Sat 07"]),
    ],
)
def test_day_of_month_and_day_of_week_join_as_in_robfig_cron(schedule: str, expected: list[str]) -> None:
    assert [text[:6] for text in firings(schedule, 3)] == expected


def test_a_moment_that_matches_is_not_its_own_next() -> None:
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    assert parse("0 12 * * *").next_after(noon) == datetime(2026, 3, 5, 12, tzinfo=UTC)


def test_a_fraction_of_a_second_before_is_before() -> None:
    almost = datetime(2026, 3, 4, 11, 59, 59, 999_999, tzinfo=UTC)
    assert parse("0 12 * * *").next_after(almost) == datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize("schedule", ["0 0 30 2 *", "0 0 31 4,6,9,11 ?", "0 0 0 31 feb ?"])
def test_what_never_comes_is_none(schedule: str) -> None:
    assert parse(schedule).next_after(START) is None


def test_a_leap_day_is_found_over_the_year_2100() -> None:
    found = parse("0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC))
    assert found == datetime(2104, 2, 29, tzinfo=UTC)


def test_the_zone_is_where_the_clock_is_read() -> None:
    assert parse("0 15 * * ?", "Asia/Shanghai").next_after(START) == datetime(2026, 3, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize("prefix", ["CRON_TZ=Asia/Shanghai ", "TZ=Asia/Shanghai   "])
def test_a_zone_in_front_of_the_schedule_counts(prefix: str) -> None:
    assert parse(f"{prefix}0 15 * * ?") == parse("0 15 * * ?", "Asia/Shanghai")
    assert parse(f"{prefix}@daily").next_after(START) == datetime(2026, 3, 4, 16, tzinfo=UTC)


def test_two_zones_are_refused_as_upstream() -> None:
    found = check_schedule("CRON_TZ=Asia/Tokyo 0 5 * * *", "Asia/Tokyo")
    assert found is not None
    assert found[0] == "schedule"


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # Clocks go from 01:59:59 to 03:00 on 29 March 2026 in Berlin: 02:30 does not exist and is left out.
        ("30 2 * * *", "2026-03-28T00:00", ["Sat 28 Mar 2026 02:30:00 +0100", "Mon 30 Mar 2026 02:30:00 +0200"]),
        ("30 1 * * *", "2026-03-28T12:00", ["Sun 29 Mar 2026 01:30:00 +0100", "Mon 30 Mar 2026 01:30:00 +0200"]),
        ("0 * * * *", "2026-03-29T01:00", ["Sun 29 Mar 2026 03:00:00 +0200", "Sun 29 Mar 2026 04:00:00 +0200"]),
        ("*/30 2,3 * * *", "2026-03-29T00:00", ["Sun 29 Mar 2026 03:00:00 +0200", "Sun 29 Mar 2026 03:30:00 +0200"]),
        # Clocks go from 02:59:59 back to 02:00 on 25 October 2026: 02:30 comes twice and fires twice.
        ("30 2 * * *", "2026-10-25T00:00", ["Sun 25 Oct 2026 02:30:00 +0200", "Sun 25 Oct 2026 02:30:00 +0100"]),
        ("0 * * * *", "2026-10-25T01:30", ["Sun 25 Oct 2026 02:00:00 +0200", "Sun 25 Oct 2026 02:00:00 +0100"]),
        ("0 3 * * *", "2026-10-24T12:00", ["Sun 25 Oct 2026 03:00:00 +0100", "Mon 26 Oct 2026 03:00:00 +0100"]),
        ("45 2 25 10 *", "2026-10-25T02:50", ["Sun 25 Oct 2026 02:45:00 +0100", "Mon 25 Oct 2027 02:45:00 +0200"]),
    ],
)
def test_daylight_saving_time_skips_and_repeats(schedule: str, after: str, expected: list[str]) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    assert firings(schedule, 2, timezone="Europe/Berlin", after=moment) == expected


def test_a_day_without_a_midnight_is_not_lost() -> None:
    """In Sao Paulo the clocks went from 23:59:59 to 01:00 on 4 November 2018; in Asuncion on 1 October 2017."""
    after = datetime(2018, 10, 17, tzinfo=UTC)
    assert firings("0 9 10 * ?", 1, timezone="America/Sao_Paulo", after=after) == ["Sat 10 Nov 2018 09:00:00 -0200"]
    after = datetime(2017, 9, 17, tzinfo=UTC)
    assert firings("0 9 1 10 ?", 1, timezone="America/Asuncion", after=after) == ["Sun 01 Oct 2017 09:00:00 -0300"]


def test_a_day_that_a_zone_left_out_does_not_fire() -> None:
    """Samoa went from 29 to 31 December 2011."""
    after = datetime(2011, 12, 29, 8, tzinfo=UTC)
    expected = ["Thu 29 Dec 2011 00:00:00 -1000", "Sat 31 Dec 2011 00:00:00 +1400"]
    assert firings("@daily", 2, timezone="Pacific/Apia", after=after) == expected
    assert firings("0 0 30,31 12 *", 1, timezone="Pacific/Apia", after=after) == expected[1:]


def test_half_an_hour_repeats_on_lord_howe() -> None:
    expected = ["Sun 05 Apr 2026 01:40:00 +1100", "Sun 05 Apr 2026 01:40:00 +1030", "Mon 06 Apr 2026 01:40:00 +1030"]
    after = datetime(2026, 4, 4, 12, tzinfo=UTC)
    assert firings("40 1 * * *", 3, timezone="Australia/Lord_Howe", after=after) == expected


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        " ",
        "2",
        "* * * *",
        "* * * * * * *",
        "xyz",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 7",
        "60 * * * * *",
        "* * * * XYZ",
        "* * * JANUARY *",
        "JAN * * * *",
        "5-1 * * * *",
        "* * * * fri-mon",
        "-5 * * * *",
        "1-2-3 * * * *",
        "1/2/3 * * * *",
        "*/0 * * * *",
        "15/0 * * * *",
        "*/-1 * * * *",
        "*/ * * * *",
        "/5 * * * *",
        "1- * * * *",
        "*-5 * * * *",
        ", * * * *",
        "+5 * * * *",
        "1.5 * * * *",
        "٥ * * * *",
        "² * * * *",
        f"{'9' * 5000} * * * *",
        "0 0 L * *",
        "0 0 * * 5#2",
        "0 0 15W * *",
        "@reboot",
        "@Daily",
        "TZ=UTC",
        "CRON_TZ=Knative/Land * * * * *",
    ],
)
def test_what_cannot_be_read_is_refused_at_the_schedule(schedule: str) -> None:
    found = check_schedule(schedule, "")
    assert found is not None
    assert found[0] == "schedule"
    with pytest.raises(ScheduleError):
        parse(schedule)


@pytest.mark.parametrize("schedule", ["@every 1m", "CRON_TZ=UTC @every 2h"])
@pytest.mark.parametrize("timezone", ["", "Europe/Paris"])
def test_every_is_refused_by_name(schedule: str, timezone: str) -> None:
    found = check_schedule(schedule, timezone)
    assert found is not None
    assert found[0] == "schedule"
    assert "@every is not supported" in found[1]


@pytest.mark.parametrize(
    "timezone", ["UTC+8", "CST", "Knative/Land", "utc", "../etc/passwd", "/etc/localtime", " ", "Asia", "__init__.py"]
)
def test_a_zone_that_is_none_is_refused_with_examples(timezone: str) -> None:
    found = check_schedule("0 15 * * ?", timezone)
    assert found is not None
    field, message = found
    assert field == "timezone"
    assert timezone in message
    assert "Etc/GMT-8" in message
    assert "Asia/Shanghai" in message


@pytest.mark.parametrize("timezone", ["", "UTC", "Etc/GMT-8", "Asia/Calcutta", "EST5EDT", "America/Argentina/Ushuaia"])
def test_zones_by_their_iana_name_are_known(timezone: str) -> None:
    assert check_schedule("0 15 * * ?", timezone) is None


def test_messages_say_what_was_expected_and_what_came() -> None:
    assert check_schedule("2", "") == ("schedule", "expected 5 to 6 fields, found 1: [2]")
    assert check_schedule("0 25 * * *", "") == (
        "schedule",
        "25 in the hour field: expected 0 to 23, the smaller number first",
    )
    assert check_schedule("* * * * MONDAY", "") == (
        "schedule",
        '"MONDAY" in the day of week field is neither a number nor a known name',
    )


def test_an_error_names_its_field() -> None:
    with pytest.raises(ScheduleError, match=r"^timezone: ") as caught:
        parse("* * * * *", "Mars/Olympus")
    assert caught.value.path == "timezone"
