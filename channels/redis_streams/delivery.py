"""One event in the hands of a subscription, one that waits for its next attempt, and what is to be said of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from channels.api import Burial
from channels.redis_streams.keys import Row
from mesh.events.event import Event


class Owner(Protocol):
    """The subscription: hears of each delivery once."""

    key: str

    def settled(self, delivery: RedisDelivery) -> None: ...

    def retried(self, delivery: RedisDelivery, *, delay_s: float, note: bytes, counts: bool) -> None: ...

    def buried(self, delivery: RedisDelivery, burial: Burial) -> None: ...


class RedisDelivery:
    """See `channels.api.Delivery`."""

    __slots__ = (
        "arrived_ns", "attempt", "entry", "event", "has_row", "interrupted", "is_over", "note", "owner", "subscription",
    )  # fmt: skip

    def __init__(self, owner: Owner, entry: bytes, event: Event, arrived_ns: int) -> None:
        self.owner = owner
        self.entry = entry
        self.event = event
        self.subscription = owner.key
        self.arrived_ns = arrived_ns
        self.attempt = 1
        self.note = b""
        self.interrupted = False
        self.has_row = False
        self.is_over = False

    def settle(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.owner.settled(self)

    def retry(self, *, delay_s: float, note: bytes = b"", counts: bool = True) -> None:
        if not self.is_over:
            self.is_over = True
            self.owner.retried(self, delay_s=delay_s, note=note, counts=counts)

    def bury(self, burial: Burial) -> None:
        if not self.is_over:
            self.is_over = True
            self.owner.buried(self, burial)


@dataclass(slots=True)
class Waiting:
    """An entry that waits for its next attempt. interrupted: the last one was under way when its process died."""

    row: Row
    interrupted: bool = False


@dataclass(slots=True)
class Box:
    """What is to be said to Redis with the next batch."""

    settled: list[bytes] = field(default_factory=list)
    without_row: list[bytes] = field(default_factory=list)
    rows: dict[bytes, Row] = field(default_factory=dict)
    burials: list[tuple[RedisDelivery, Burial]] = field(default_factory=list)
