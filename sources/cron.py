"""Cron schedules: text and time zone in, next firing after a moment out. Pure.

The dialect is that of PingSource, which reads schedules with robfig/cron v3: five fields or six with seconds in front, names,
`?` as `*`, `N/step` up to the end of the range, @daily and its like, a time zone as `CRON_TZ=` in front of the schedule.
Own code, because cronsim (the best kept library) speaks Debian's dialect: it knows no `?`, takes 7, `L`, `#` and `LW`, joins
day of month and day of week by other rules, and moves a job whose hour is skipped in spring instead of leaving it out.

What fires is every moment whose wall clock matches. So at a change of daylight saving time a skipped hour does not fire, and a
repeated hour fires twice, as upstream: 12 000 random schedules near such changes agreed with v3, but for 14 which it fires too
late or not at all. Those are not taken over: days whose midnight is skipped, clocks that move by half an hour.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from mesh.errors import ResourceError

_DAY_S = 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# From one 29 February to the next over a year such as 2100; what does not fire within that, never fires.
_SEARCH_YEARS = 8
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}


class ScheduleError(ResourceError, ValueError):
    """A schedule or time zone that cannot be read. `path` is `schedule` or `timezone`."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A field's range; `names` stand for its values from `low` on."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Bounds("second", 0, 59),
    _Bounds("minute", 0, 59),
    _Bounds("hour", 0, 23),
    _Bounds("day of month", 1, 31),
    _Bounds("month", 1, 12, _MONTHS),
    _Bounds("day of week", 0, 6, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule that was read. All fields sorted; weekdays count from Sunday = 0.

    any_day: day of month or day of week is a star: then both must match, else one of them is enough.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    zone: ZoneInfo

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first firing later than `moment` (aware), in UTC; None if there is none, as on 30 February."""
        unix = (moment - _EPOCH) // timedelta(seconds=1) + 1
        last_year = moment.year + _SEARCH_YEARS
        while True:
            local = datetime.fromtimestamp(unix, self.zone)
            wait_s = self._wall_seconds_to_match(local, last_year)
            if wait_s is None:
                return None
            if wait_s == 0:
                return datetime.fromtimestamp(unix, UTC)
            unix = self._forward(unix, wait_s)

    def matches(self, local: datetime) -> bool:
        """Say whether this wall-clock time is one of the schedule's."""
        return (
            self._matches_day(local.date())
            and local.hour in self.hours
            and local.minute in self.minutes
            and local.second in self.seconds
        )

    def _matches_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month and by_week) if self.any_day else (by_month or by_week)

    def _wall_seconds_to_match(self, local: datetime, last_year: int) -> int | None:
        """Seconds by an undisturbed wall clock until the schedule may match; 0 = now, None = not until `last_year` ends."""
        today = local.date()
        second_of_day = local.hour * 3600 + local.minute * 60 + local.second
        if self._matches_day(today):
            found = self._time_from(local.hour, local.minute, local.second)
            return (_DAY_S if found is None else found) - second_of_day
        day = today
        while not self._matches_day(day):
            if day.year > last_year:
                return None
            # A month that does not match is passed over at once, else a schedule for February looks at 330 days.
            day = day + timedelta(days=1) if day.month in self.months else _next_month(day)
        return (day - today).days * _DAY_S - second_of_day

    def _time_from(self, hour: int, minute: int, second: int) -> int | None:
        """The first matching time of day from this one on, in seconds since midnight; None if there is none left."""
        if hour in self.hours:
            if minute in self.minutes and (at := bisect_left(self.seconds, second)) < len(self.seconds):
                return hour * 3600 + minute * 60 + self.seconds[at]
            if (at := bisect_right(self.minutes, minute)) < len(self.minutes):
                return hour * 3600 + self.minutes[at] * 60 + self.seconds[0]
        if (at := bisect_right(self.hours, hour)) < len(self.hours):
            return self.hours[at] * 3600 + self.minutes[0] * 60 + self.seconds[0]
        return None

    def _forward(self, unix: int, wait_s: int) -> int:
        """A later moment, before which nothing can match: when the wall clock has gone on by `wait_s`, or was set."""
        if wait_s > 2 * _DAY_S:
            # No change of a zone's offset was ever longer than a day, so this lands before the day that is sought.
            return unix + wait_s - _DAY_S
        offset = self._offset(unix)
        if self._offset(unix + wait_s) == offset:
            # No zone changed there and back within two days.
            return unix + wait_s
        before, after = unix, unix + wait_s
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if self._offset(middle) == offset else (before, middle)
        return after

    def _offset(self, unix: int) -> timedelta | None:
        return datetime.fromtimestamp(unix, self.zone).utcoffset()


def parse(schedule: str, timezone: str = "") -> Schedule:
    """Read a schedule. `timezone` is an IANA name; "" is UTC, the local time of Knative's containers.

    Raises:
        ScheduleError: one of the two cannot be read; `path` says which.
    """
    text = schedule.strip()
    if "@every" in text:
        raise _unreadable("@every is not supported; write a cron schedule, such as */5 * * * *")
    if not timezone and text.startswith(("TZ=", "CRON_TZ=")):
        # With spec.timezone set as well, upstream puts that in front and then stumbles over the second prefix. So do we.
        prefix, _, text = text.partition(" ")
        zone = _zone(prefix.partition("=")[2], path="schedule")
    else:
        zone = _zone(timezone or "UTC", path="timezone")
    fields = _split(text.strip())
    values, stars = zip(*(_field(field, bounds) for field, bounds in zip(fields, _FIELDS, strict=True)), strict=True)
    seconds, minutes, hours, days, months, weekdays = values
    return Schedule(
        tuple(sorted(seconds)),
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        days,
        months,
        weekdays,
        stars[3] or stars[5],
        zone,
    )


def check_schedule(schedule: str, timezone: str) -> tuple[str, str] | None:
    """Return the field (`schedule` or `timezone`) and the message where one of the two cannot be read; None if all is well."""
    try:
        parse(schedule, timezone)
    except ScheduleError as error:
        return error.path, error.message
    return None


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _unreadable(message: str) -> ScheduleError:
    return ScheduleError(message, path="schedule")


def _zone(name: str, *, path: str) -> ZoneInfo:
    if name not in _zone_names():
        raise ScheduleError(
            f'"{name}" is not an IANA time zone name; write it as Asia/Shanghai, or for a fixed offset as Etc/GMT-8'
            " (which is eight hours ahead of UTC)",
            path=path,
        )
    return _load_zone(name)


@lru_cache(maxsize=256)
def _load_zone(name: str) -> ZoneInfo:
    """The zone from the tzdata package: what is valid must not depend on the host a schedule runs on."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


def _split(text: str) -> list[str]:
    if not text:
        raise _unreadable("the schedule is empty")
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            raise _unreadable(f"unknown descriptor {text}, expected one of {', '.join(_DESCRIPTORS)}")
        text = _DESCRIPTORS[text]
    fields = text.split()
    if not 5 <= len(fields) <= 6:
        raise _unreadable(f"expected 5 to 6 fields, found {len(fields)}: [{' '.join(fields)}]")
    return fields if len(fields) == 6 else ["0", *fields]


def _field(text: str, bounds: _Bounds) -> tuple[frozenset[int], bool]:
    """Read a list of ranges: the values, and whether a star is among them."""
    ranges = [_range(part, bounds) for part in text.split(",") if part]
    if not ranges:
        raise _unreadable(f"the {bounds.name} field names no value: {text}")
    return frozenset().union(*(values for values, _ in ranges)), any(star for _, star in ranges)


def _range(text: str, bounds: _Bounds) -> tuple[range, bool]:
    body, slash, step_text = text.partition("/")
    step = _number(step_text, bounds) if slash else 1
    low_text, dash, high_text = body.partition("-")
    if body in ("*", "?"):
        low, high = bounds.low, bounds.high
    else:
        low = _value(low_text, bounds)
        # `N/step` means `N-max/step`.
        high = _value(high_text, bounds) if dash else bounds.high if slash else low
    if step == 0:
        raise _unreadable(f"the step of {text} in the {bounds.name} field must be at least 1")
    if not bounds.low <= low <= high <= bounds.high:
        raise _unreadable(
            f"{text} in the {bounds.name} field: expected {bounds.low} to {bounds.high}, the smaller number first"
        )
    # A star with a step restricts, and so counts as a restriction where the two day fields are joined.
    return range(low, high + 1, step), body in ("*", "?") and step == 1


def _value(text: str, bounds: _Bounds) -> int:
    name = text.lower()
    return bounds.low + bounds.names.index(name) if name in bounds.names else _number(text, bounds)


def _number(text: str, bounds: _Bounds) -> int:
    # Longer numbers are out of every range; the limit keeps int() cheap.
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _unreadable(f'"{text}" in the {bounds.name} field is neither a number nor a known name')
    return int(text)
