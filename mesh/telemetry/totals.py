"""Adds up what the workers counted, so that no counter goes back when a worker is started anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from mesh.telemetry.snapshot import Histogram, MetricsSnapshot

K = TypeVar("K")


class Totals:
    """The last word of each worker, and all that workers counted which are no more."""

    def __init__(self) -> None:
        self._last: dict[int, MetricsSnapshot] = {}
        self._past = MetricsSnapshot()

    def update(self, worker: int, snapshot: MetricsSnapshot) -> None:
        """Take what the worker has counted since it was started."""
        self._last[worker] = snapshot

    def died(self, worker: int) -> None:
        """Keep what the worker had counted when it was last asked; its gauges go with it."""
        last = self._last.pop(worker, None)
        if last is not None:
            self._past = _without_state(add([self._past, last]))

    def keep(self, keys: Collection[str]) -> None:
        """Forget topics and subscriptions that are not among `keys`: what was deleted has no series any more."""
        past = self._past
        self._past = MetricsSnapshot(
            ingress={key: value for key, value in past.ingress.items() if key[0] in keys},
            egress={key: value for key, value in past.egress.items() if key[0] in keys},
            process={key: value for key, value in past.process.items() if key in keys},
            attempts={key: count for key, count in past.attempts.items() if key[0] in keys},
            refused=past.refused,
            dead_letters={key: count for key, count in past.dead_letters.items() if key in keys},
        )

    def snapshots(self) -> list[MetricsSnapshot]:
        """All there is to add up."""
        return [self._past, *self._last.values()]


def add(snapshots: Sequence[MetricsSnapshot]) -> MetricsSnapshot:
    """One snapshot with the counts of all. A subscription read by several workers comes once, its oldest event counts."""
    subscriptions: dict[tuple[str, str], tuple[int, int, int, int]] = {}
    for snapshot in snapshots:
        for topic, key, backlog, in_flight, retrying, oldest_ns in snapshot.subscriptions:
            before = subscriptions.get((topic, key), (0, 0, 0, 0))
            oldest = min((ns for ns in (before[3], oldest_ns) if ns), default=0)
            subscriptions[topic, key] = before[0] + backlog, before[1] + in_flight, before[2] + retrying, oldest
    return MetricsSnapshot(
        ingress=_add_histograms([snapshot.ingress for snapshot in snapshots]),
        egress=_add_histograms([snapshot.egress for snapshot in snapshots]),
        process=_add_histograms([snapshot.process for snapshot in snapshots]),
        attempts=_add_counts([snapshot.attempts for snapshot in snapshots]),
        refused=_add_counts([snapshot.refused for snapshot in snapshots]),
        subscriptions=[(*key, *state) for key, state in subscriptions.items()],
        dead_letters=_add_counts([snapshot.dead_letters for snapshot in snapshots]),
        gauges=_add_gauges([snapshot.gauges for snapshot in snapshots]),
    )


def add_histograms(one: Histogram, other: Histogram) -> Histogram:
    """Both together."""
    return one[0] + other[0], one[1] + other[1], [a + b for a, b in zip(one[2], other[2], strict=True)]


def _add_histograms(tables: Sequence[Mapping[K, Histogram]]) -> dict[K, Histogram]:
    result: dict[K, Histogram] = {}
    for table in tables:
        for key, value in table.items():
            result[key] = add_histograms(result[key], value) if key in result else value
    return result


def _add_counts(tables: Sequence[Mapping[K, int]]) -> dict[K, int]:
    result: dict[K, int] = {}
    for table in tables:
        for key, count in table.items():
            result[key] = result.get(key, 0) + count
    return result


def _add_gauges(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    result: dict[str, float] = {}
    for table in tables:
        for key, value in table.items():
            result[key] = result.get(key, 0.0) + value
    return result


def _without_state(snapshot: MetricsSnapshot) -> MetricsSnapshot:
    return MetricsSnapshot(
        ingress=snapshot.ingress,
        egress=snapshot.egress,
        process=snapshot.process,
        attempts=snapshot.attempts,
        refused=snapshot.refused,
        dead_letters=snapshot.dead_letters,
    )
