"""What one worker has counted, as plain values that travel between processes. Imports nothing heavy: workers load it."""

from __future__ import annotations

from dataclasses import dataclass, field

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds: those of Knative's `kn.eventing.dispatch.duration`. One more bucket follows, +Inf."""

Histogram = tuple[int, float, list[int]]
"""How many, their sum in seconds, and how many in each bucket alone (not added up; the last is +Inf)."""

Subscription = tuple[str, str, int, int, int, int]
"""topic, key, backlog, in flight, retrying, and since when the oldest waits (ns since 1970, 0: nothing waits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """Keys of topics and subscriptions are those of the plan, such as `broker/default/orders`."""

    ingress: dict[tuple[str, str, int], Histogram] = field(default_factory=dict)
    """(topic, event type, status answered) → time until the answer."""
    egress: dict[tuple[str, str, int], Histogram] = field(default_factory=dict)
    """(subscription, event type, status or 0 for no answer) → time of one attempt."""
    process: dict[str, Histogram] = field(default_factory=dict)
    """subscription → time from arrival to the attempt that succeeded."""
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    """(subscription, outcome) → how many; outcome: `delivered`, `retried`, `rejected`, `dead_lettered`, `buried`, …"""
    refused: dict[tuple[str, int], int] = field(default_factory=dict)
    """(reason, status) → requests that were not taken."""
    subscriptions: list[Subscription] = field(default_factory=list)
    dead_letters: dict[str, int] = field(default_factory=dict)
    """subscription → events that could go nowhere, ever."""
    gauges: dict[str, float] = field(default_factory=dict)
    """name without `knit_` → value now; those of several workers are added up."""
