"""What a channel backend is: start here to add one.

A channel keeps topics. What is published to a topic is handed to each of the topic's subscriptions whose filter wants
it, at least once, until that subscription settles it. All calls are plain calls on the event loop's thread, answered by
plain callbacks: on the hot path an event costs no task and no future. `tests/contract/test_channel.py` is the promise as tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mesh.events.event import Event
from mesh.filters.dialects import FilterNode


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a publish was not taken.

    kind: `full` (a bound is reached: 429), `unavailable` (backend gone, disk full: 503), `failed` (synchronous channel:
        a subscriber failed for good: 500), `unknown` (no such topic: 404), `invalid` (this backend cannot take such an
        event: 400), `too-large` (for this backend: 413).
    """

    kind: str
    why: str
    retry_after_s: int = 1


Done = Callable[[Refusal | None], None]
"""Called once: None when every event of the publish is safe by this backend's promise."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as the plan wants it. `options`: `sync` (bool, memory), `retention_s` (float, log), …

    kafka: `bootstrap`, `topic`, `partitions`, `replicas`, `config.NAME`, `external` (never made or deleted), `structured`,
    and the Secret's keys as `auth.KEY`.
    """

    key: str
    options: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubscriptionSpec:
    """One reader of a topic.

    key: stable identity; a position belongs to it and outlives a restart and an edit of filter or limit.
    filters: what it wants, all of them must pass; empty means everything.
    parallelism: deliveries handed out and not yet settled or given back, at most. 1 means in order: the next one is handed
        out only after the last was settled or buried, its retries included.
    options go to the backend: `group` (str, kafka: the consumer group that keeps the position), `ordered` (bool, kafka: in
        order within each partition).
    """

    key: str
    filters: tuple[FilterNode, ...] = ()
    parallelism: int = 100
    options: Mapping[str, str | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Burial:
    """Why a delivery is given up: kept with the event in the dead-letter store.

    code: the last HTTP status, or 0 where there was no answer; `why` is a sentence for people.
    """

    why: str
    code: int = 0
    attempts: int = 0
    destination: str = ""


class Delivery(Protocol):
    """One event handed to one subscription. Exactly one of `settle`, `retry`, `bury` is called, once."""

    event: Event
    subscription: str
    attempt: int
    """The number of the attempt to make now; the first is 1. A durable backend keeps it before a retry is handed out, so
    that it never goes back; one that `counts_interrupted` keeps it before the first one too."""
    note: bytes
    """What the last `retry` left, b"" at first."""
    interrupted: bool
    """True where the former attempt was under way when the process died: it may have arrived."""
    arrived_ns: int
    """When the event was accepted, nanoseconds since 1970."""

    def settle(self) -> None:
        """Done with it: this subscription never sees it again."""

    def retry(self, *, delay_s: float, note: bytes = b"", counts: bool = True) -> None:
        """Hand it out again after `delay_s` seconds; `counts` False keeps the attempt number (another leg is retried)."""

    def bury(self, burial: Burial) -> None:
        """Settle it and keep it in the dead-letter store (memory: counted only)."""


Deliver = Callable[[Delivery], None]


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """What an operator asks about a subscription. Times in nanoseconds since 1970; 0 where nothing waits."""

    key: str
    topic: str
    backlog: int
    """Events that match and are not settled, those in flight and those waiting for a retry included."""
    in_flight: int
    retrying: int
    oldest_ns: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could go nowhere."""

    ref: str
    """Where it is kept, to look at it or send it again."""
    subscription: str
    event: Event
    burial: Burial
    arrived_ns: int
    buried_ns: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """counts_interrupted: an attempt that a crash interrupted counts as one. matches_early: who wants an event is decided
    when it is published, and not when it is read."""

    durable: bool
    keeps_attempts: bool
    keeps_dead_letters: bool
    counts_interrupted: bool = True
    matches_early: bool = True


@dataclass(frozen=True, slots=True)
class TopicHealth:
    """How a topic, or a subscription of it, stands with the server it is kept on.

    reason: a word in camel case; message: a sentence for people, which says how durable an answered event is. since_ns: when
    that began, 0 where that is not known.
    """

    is_up: bool
    reason: str
    message: str
    since_ns: int = 0


class Channel(Protocol):
    """A backend: many topics, each with its subscriptions."""

    capabilities: Capabilities

    async def start(self) -> None:
        """Open and recover. Raises StoreError when what is stored cannot be read: never starts empty instead."""

    def open_topic(self, spec: TopicSpec) -> None:
        """Make or update a topic. Idempotent."""

    def close_topic(self, key: str) -> None:
        """The topic was deleted from the plan: forget its subscriptions, positions and events."""

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        """Take all or none of the events. Returns the keys of the subscriptions that want the last of them.

        `done` may be called before this returns (memory) or later (log: after the commit). It is always called.
        """

    def subscribe(self, topic: str, spec: SubscriptionSpec, deliver: Deliver) -> None:
        """Begin, or change filter and limit of, a subscription. A key seen before goes on where it was; a new one begins
        with the next event. `deliver` must not raise; it may settle before it returns."""

    def unsubscribe(self, topic: str, key: str, *, forget: bool) -> None:
        """Stop handing out. `forget` drops its position and whatever waits for it."""

    def matching(self, topic: str, event: Event) -> tuple[str, ...]:
        """The keys of the subscriptions that want this event now."""

    def states(self) -> list[SubscriptionState]: ...

    def dead_letters(self) -> Iterable[DeadLetter]: ...

    def health(self) -> Mapping[str, TopicHealth]:
        """By key of the topic or subscription, where a server can be gone: laid over the conditions of its resource. What is
        left out has nothing to say; empty where there is no server."""

    async def drain(self) -> None:
        """Hand out no more; return when all that is handed out has come back and is safe. The caller sets the limit."""

    async def aclose(self) -> None: ...
