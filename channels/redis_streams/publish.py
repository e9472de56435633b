"""A publish on its way: stored or not, its publisher hears of it once."""

from __future__ import annotations

from collections.abc import Sequence

from channels.api import Done, Refusal
from channels.redis_streams.lane import Lane
from channels.redis_streams.subscription import Subscription
from channels.redis_streams.wire import Reply, ReplyError
from mesh.events.event import Event


class Publish:
    """Events that are stored together. stored: for each XADD, the subscription it is for (None: to be kept) and the event."""

    __slots__ = ("count", "done", "lane", "stored")

    def __init__(self, lane: Lane, stored: list[tuple[Subscription | None, Event]], done: Done) -> None:
        self.lane = lane
        self.stored = stored
        self.done = done
        self.count = len(stored) + 2 if len(stored) > 1 else len(stored)

    def take(self, replies: Sequence[Reply], at: int) -> None:
        last = replies[at + self.count - 1] if self.count else None
        entries = last if isinstance(last, list) else [last]
        if type(last) is ReplyError or ReplyError in map(type, entries):
            self._refused(replies[at : at + self.count], entries)
            return
        for (subscription, event), entry in zip(self.stored, entries, strict=False):
            if subscription is not None:
                subscription.added(entry, event)
        if self.lane.replicated:
            self.done(None)
        else:
            wanted = self.lane.access.wait_replicas
            self.done(Refusal("unavailable", f"{self._shown}: fewer than {wanted} replicas took it in time"))

    def _refused(self, replies: Sequence[Reply], entries: Sequence[Reply]) -> None:
        self.lost(str(next(reply for reply in (*replies, *entries) if type(reply) is ReplyError)))

    def lost(self, why: str) -> None:
        for subscription, _ in self.stored:
            if subscription is not None:
                subscription.adding -= 1
        self.done(Refusal("unavailable", f"{self._shown}: {why}"))

    @property
    def _shown(self) -> str:
        return self.lane.access.address.shown()
