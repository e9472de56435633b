"""The one judge of all chaos tests: what was sent and answered 202, against what each subscriber got.

An event is *acknowledged* when its sender read 202. Lost: acknowledged, wanted by a subscription, and never delivered there.
Unexpected: delivered where nobody sent it, or where the filter does not want it. Duplicated: deliveries beyond the first.
Recovered: delivered though the sender never read an answer (allowed: the answer was lost, the event was not).
A delivery is a request that the subscriber answered 2xx.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

COLUMNS = (
    "date", "commit", "seed", "rounds", "attempted", "acknowledged", "delivered", "lost", "unexpected", "duplicated", "recovered",
    "overtaken", "most attempts",
)  # fmt: skip
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What one subscriber saw of each event, by id, and which ids it should see.

    attempts: requests, whatever they were answered. first_seen: ids in the order of their first delivery.
    most_attempts: retry + 1. lane: for a subscription that promises order, the sender connection an id came by; ids of one
    lane were sent in ascending order.
    """

    wants: Callable[[int], bool]
    deliveries: Mapping[int, int]
    attempts: Mapping[int, int] = field(default_factory=dict)
    first_seen: Collection[int] = ()
    most_attempts: int | None = None
    lane: Callable[[int], object] | None = None

    def overtaken(self) -> list[int]:
        """Ids whose first delivery came after that of a later one of their lane."""
        if self.lane is None:
            return []
        newest: dict[object, int] = {}
        late = []
        for event_id in self.first_seen:
            lane = self.lane(event_id)
            if event_id < newest.get(lane, event_id):
                late.append(event_id)
            newest[lane] = max(event_id, newest.get(lane, event_id))
        return late


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run came to, over all subscriptions. Lists of (subscription, id) are kept whole: they are empty or short."""

    date: str
    seed: int
    commit: str
    rounds: int
    attempted: int
    acknowledged: int
    delivered: int
    duplicated: int
    recovered: int
    lost: tuple[tuple[str, int], ...]
    unexpected: tuple[tuple[str, int], ...]
    overtaken: tuple[tuple[str, int], ...]
    tried_too_often: tuple[tuple[str, int], ...]
    most_attempts: int

    def row(self) -> str:
        """As a row of a Markdown table with `COLUMNS`."""
        cells = (
            self.date, self.commit, self.seed, self.rounds, self.attempted, self.acknowledged, self.delivered, len(self.lost),
            len(self.unexpected), self.duplicated, self.recovered, len(self.overtaken), self.most_attempts,
        )  # fmt: skip
        return f"| {' | '.join(str(cell) for cell in cells)} |"

    def problems(self, bound: int) -> list[str]:
        """Every promise that does not hold. bound: the duplicates that the kills can explain."""
        told = [
            f"{len(found)} {what}: {_some(found)}"
            for what, found in (
                ("acknowledged and lost", self.lost),
                ("not expected there", self.unexpected),
                ("overtaken by later ones of the same sender", self.overtaken),
                ("tried more often than retry + 1", self.tried_too_often),
            )
            if found
        ]
        if self.duplicated > bound:
            told.append(f"{self.duplicated} duplicates, at most {bound} are explained by what was in flight")
        return [f"seed {self.seed}, commit {self.commit}: {each}" for each in told]


def judge(
    *,
    seed: int,
    rounds: int,
    attempted: Collection[int],
    acknowledged: Collection[int],
    subscriptions: Mapping[str, Subscription],
) -> Report:
    """Compare. Call it when nothing is pending any more."""
    sent, safe = set(attempted), set(acknowledged)
    lost, unexpected, overtaken, too_often = [], [], [], []
    delivered = duplicated = recovered = most = 0
    for name, subscription in subscriptions.items():
        got = subscription.deliveries
        delivered += len(got)
        duplicated += sum(got.values()) - len(got)
        recovered += sum(1 for each in got if each not in safe)
        lost += [(name, each) for each in safe if subscription.wants(each) and each not in got]
        seen = got.keys() | subscription.attempts.keys()
        unexpected += [(name, each) for each in seen if each not in sent or not subscription.wants(each)]
        overtaken += [(name, each) for each in subscription.overtaken()]
        most = max(most, *subscription.attempts.values(), 0, 0)
        limit = subscription.most_attempts
        if limit is not None:
            too_often += [(name, each) for each, count in subscription.attempts.items() if count > limit]
    return Report(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        seed=seed,
        commit=commit(),
        rounds=rounds,
        attempted=len(sent),
        acknowledged=len(safe),
        delivered=delivered,
        duplicated=duplicated,
        recovered=recovered,
        lost=tuple(lost),
        unexpected=tuple(unexpected),
        overtaken=tuple(overtaken),
        tried_too_often=tuple(too_often),
        most_attempts=most,
    )


def table(*rows: str) -> str:
    """Markdown: the head and these rows."""
    return "\n".join([f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}", *rows])


@functools.cache
def commit() -> str:
    """The commit under test, in short, `+` where files differ from it; `unknown` outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root)]
    try:
        short = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "mesh", "channels", "sources"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short.stdout.strip() + "+" * (changed.returncode == 1)


def _some(found: Collection[tuple[str, int]]) -> str:
    first = ", ".join(f"{name} {event_id}" for name, event_id in list(found)[:_SHOWN])
    return first + ", …" * (len(found) > _SHOWN)
