"""The recent past of a worker, event by event: what `knit story EVENT_ID` and the console are made of.

Two rings of tuples, appended to on the hot path and decoded only when somebody asks: the usual (accepted, delivered) and
the trouble (refused, failed, retried, replied, buried), so that heavy traffic does not push out what people look for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from mesh.events.event import Event, encode_value

Entry = tuple[Any, ...]
"""The usual: at_ns, what, topic or subscription, event block, matched keys or attempt, status, seconds.
Trouble: at_ns, what, topic or subscription, event block, attempt, status, seconds, pause_s, text."""

Explain = Callable[[str, Mapping[str, str]], Mapping[str, str]]
"""(topic, attributes) → subscription key → why its filter says no ("" where it passes)."""


def timestamp(at_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    seconds, nanos = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z"


class Story:
    """The rings. `size` entries each; older ones are forgotten."""

    __slots__ = ("_trouble", "_usual", "trouble")

    def __init__(self, size: int) -> None:
        self._usual: deque[Entry] = deque(maxlen=size)
        self._trouble: deque[Entry] = deque(maxlen=size)
        self.trouble = self._trouble.append

    def usual(self, entries: Iterable[Entry]) -> None:
        self._usual.extend(entries)

    @property
    def size(self) -> int:
        """How many happenings are remembered now."""
        return len(self._usual) + len(self._trouble)

    def tell(self, event_id: str, source: str, explain: Explain) -> list[dict[str, Any]]:
        """Every step known of the events with this id (and source, where it is given), in order of time."""
        needles = (encode_value(event_id).encode(), event_id.encode("utf-8", "replace"))
        steps = [
            step
            for entry in (*self._usual, *self._trouble)
            if any(needle in entry[3] for needle in needles) and Event(entry[3], b"").id == event_id
            for step in _steps(entry, explain)
            if not source or step["event"]["source"] == source
        ]
        return sorted(steps, key=lambda step: str(step["at"]))

    def since(self, at_ns: int, limit: int) -> list[tuple[int, str, str, str, str, str]]:
        """What happened after `at_ns`, newest `limit` entries: at_ns, what, where, id, type, text; for the live view."""
        recent: list[tuple[int, str, str, str, str, str]] = []
        for ring in (self._usual, self._trouble):
            for entry in islice(reversed(ring), limit):
                if entry[0] <= at_ns:
                    break
                event = Event(entry[3], b"")
                recent.append((entry[0], entry[1], entry[2], event.id, event.type, _line(entry)))
        return sorted(recent)[-limit:]


def _line(entry: Entry) -> str:
    match entry:
        case (_, "accepted", _, _, matched, _, _):
            return ", ".join(matched) if matched else "nobody"
        case (_, _, _, _, attempt, status, seconds):
            return f"attempt {attempt}, {status}, {seconds * 1000:.1f} ms"
        case (*_, text):
            return str(text)
        case _:
            return ""


def _steps(entry: Entry, explain: Explain) -> Iterator[dict[str, Any]]:
    event = Event(entry[3], b"")
    about = {"source": event.source, "type": event.type, "id": event.id}
    step: dict[str, Any] = {"at": timestamp(entry[0]), "what": entry[1], "event": about}
    match entry:
        case (_, "accepted", topic, _, matched, status, _):
            step |= {"topic": topic, "status": status}
            if not matched:
                step["text"] = "accepted; no subscription wants it"
            else:
                step["text"] = f"accepted; wanted by {', '.join(matched)}"
            yield step
            for key, why in sorted(explain(topic, event.attributes).items()):
                if key not in matched and why:
                    yield step | {"what": "not-matched", "subscription": key, "text": why, "status": 0}
        case (_, _, subscription, _, attempt, status, seconds):
            yield step | {
                "subscription": subscription,
                "attempt": attempt,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "text": f"attempt {attempt} was answered {status}",
            }
        case (_, what, where, _, attempt, status, seconds, pause_s, text):
            place = "topic" if what in ("refused",) else "subscription"
            yield step | {
                place: where,
                "attempt": attempt,
                "status": status,
                "duration_ms": round(seconds * 1000, 3),
                "pause_s": round(pause_s, 3),
                "text": text,
            }
        case _:
            pass
