"""A topic on its lane: who wants an event, storing it for each of them, and looking after the other processes' leavings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from channels.api import Deliver, Done, Refusal, SubscriptionSpec, SubscriptionState
from channels.redis_streams.keys import Names, add_tail, pack, text
from channels.redis_streams.lane import CommandError, Lane, Trouble
from channels.redis_streams.publish import Publish
from channels.redis_streams.subscription import Subscription
from channels.redis_streams.takeover import RELEASE, hold, make_group, other_readers, recover, take_over
from channels.redis_streams.wire import Reply, is_error
from mesh.errors import NotConnectedError
from mesh.events.event import Event
from mesh.filters.index import MatchIndex

_MULTI, _EXEC = pack("MULTI"), pack("EXEC")
_DEAD_KEPT_S = 7 * 86_400
"""How long dead letters of a deleted topic can still be looked at with redis-cli."""
_FORGOTTEN_MS = 86_400_000
_HELD = "it is read in order, or with a limit that cannot be divided: one process reads it at a time"


class Topic:
    """share: which of how many workers this is. formers: consumer names of workers that are no more."""

    def __init__(
        self, key: str, lane: Lane, consumer: str, *, share: tuple[int, int], formers: Sequence[str],
        on_trouble: Trouble,
    ) -> None:  # fmt: skip
        self.key = key
        self.lane = lane
        self.names = Names(key)
        self.consumer = consumer
        self.draining = False
        self.is_open = True
        self.options: Mapping[str, str | float | bool] = {}
        self._is_plain = True
        self.subscriptions: dict[str, Subscription] = {}
        self._share = share
        self._formers = formers
        self._on_trouble = on_trouble
        self._index: MatchIndex[Subscription] | None = None
        self._everyone: list[Subscription] | None = None
        self._alone = False
        self._rings: set[str] = set()
        self._seen_at = 0.0
        self._doomed: list[str] = []
        self.joined = asyncio.Event()

    # What a subscription asks.

    def stream_of(self, key: str) -> tuple[str, str]:
        return self.names.stream(key), self.names.rows(key)

    @property
    def dead(self) -> str:
        return self.names.dead

    @property
    def shown(self) -> str:
        return self.lane.access.address.shown()

    def trouble(self, what: str, fields: dict[str, object]) -> None:
        self._on_trouble(what, {"topic": self.key, **fields})

    def regroup(self, subscription: Subscription) -> None:
        self.trouble("stream deleted", {"subscription": subscription.key})
        self.lane.spawn(self._begin(subscription))

    def configure(self, options: Mapping[str, str | float | bool]) -> None:
        """Take the options of the plan, those of the connection excepted."""
        self.options = options
        self._is_plain = not (options.get("retention_s") or options.get("max_length"))

    # Subscriptions.

    def subscribe(self, spec: SubscriptionSpec, deliver: Deliver) -> None:
        subscription = self._known(spec.key)
        index, count = self._share
        exclusive = spec.parallelism == 1 or bool(self.options.get("whole"))
        limit = (
            spec.parallelism if exclusive else max(spec.parallelism // count + (index < spec.parallelism % count), 1)
        )
        if subscription.wanted and subscription.exclusive and not exclusive:
            subscription.owned = True
        begin = not subscription.joined or (exclusive and not subscription.exclusive)
        subscription.take(spec, deliver, limit=limit, exclusive=exclusive)
        self._changed()
        if begin and self.lane.is_up:
            self.lane.spawn(self._begin(subscription))

    def _known(self, key: str) -> Subscription:
        subscription = self.subscriptions.get(key)
        if subscription is None:
            subscription = self.subscriptions[key] = Subscription(self, key, self.consumer)
        return subscription

    def unsubscribe(self, key: str, *, forget: bool) -> None:
        subscription = self.subscriptions.get(key)
        if subscription is None:
            return
        subscription.stop()
        self._let_go(subscription)
        if forget:
            del self.subscriptions[key]
            subscription.forget()
            self._changed()
            self._doomed += [self.names.stream(key), self.names.rows(key), self.names.owner(key), f"-{key}"]
            self._doom()

    def _let_go(self, subscription: Subscription) -> None:
        if subscription.exclusive and subscription.owned:
            subscription.owned = False
            subscription.joined = False
            self._say(pack("EVAL", RELEASE, 1, self.names.owner(subscription.key), self.consumer))

    def close(self) -> None:
        """It was deleted: nothing of it stays, but for its dead letters for a while."""
        self.is_open = False
        for key in list(self.subscriptions):
            self.unsubscribe(key, forget=True)
        names = self.names
        self._doomed += [names.subscriptions, names.members, names.kept]
        self._doom()
        self._say(pack("EXPIRE", names.dead, _DEAD_KEPT_S))
        self._say(pack("UNSUBSCRIBE", names.bell) + pack("PING"))

    def _is_closed(self) -> bool:
        return not self.is_open

    def _doom(self, *, first: bool = False) -> None:
        """Delete what is to be gone; where that cannot be said now it is said when the connection is back."""
        if not self.lane.is_up or not self._doomed:
            return
        doomed, self._doomed = self._doomed, []
        members = [name[1:] for name in doomed if name.startswith("-")]
        packed = pack("UNLINK", *[name for name in doomed if not name.startswith("-")])
        if members:
            packed += pack("SREM", self.names.subscriptions, *members)
        again = partial(self._doom_again, doomed)
        submit = self.lane.submit_first if first else self.lane.submit
        submit(packed, 2 if members else 1, self._gone, again)

    def _gone(self, _: Sequence[Reply]) -> None:
        if not self.is_open and self in self.lane.guests:
            self.lane.guests.remove(self)

    def _doom_again(self, doomed: list[str], _: str) -> None:
        self._doomed[:0] = [name for name in doomed if not self._is_back(name)]

    def _is_back(self, name: str) -> bool:
        return any(name.endswith(f":{key}") or name == f"-{key}" for key in self.subscriptions)

    def _say(self, packed: bytes) -> None:
        """Something whose answer is of no interest."""
        if self.lane.is_up:
            self.lane.submit(packed, 1, lambda _: None, lambda _: None)

    def _changed(self) -> None:
        wanted = [each for each in self.subscriptions.values() if each.wanted]
        self._index = None
        self._everyone = None if any(each.filters for each in wanted) else wanted

    def matching(self, event: Event) -> list[Subscription]:
        if self._everyone is not None:
            return self._everyone
        if self._index is None:
            self._index = MatchIndex([(each, each.filters) for each in self.subscriptions.values() if each.wanted])
        return self._index.match(event.attributes)

    # Publishing.

    def publish(self, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        lane = self.lane
        if lane.refusal:
            done(Refusal("unavailable", lane.refusal))
            return ()
        if lane.pending_bytes > lane.settings.max_pending_bytes:
            done(Refusal("full", f"events of {lane.settings.max_pending_bytes} bytes wait to be sent to {self.shown}"))
            return ()
        if len(events) == 1 and self._is_plain:
            return self._publish_one(events[0], done)
        matched = [self.matching(event) for event in events]
        where = [subscription for found in matched for subscription in found]
        bound = int(self.options.get("max_length") or 0)
        if bound and (full := self._full(where, bound)):
            done(Refusal("full", f"{full} has {bound} events waiting, as many as maxLength allows"))
            return ()
        self._store(events, matched, done)
        self._call_readers(where)
        return tuple([subscription.key for subscription in matched[-1]]) if matched else ()

    def _publish_one(self, event: Event, done: Done) -> tuple[str, ...]:
        """The hot path: one event, mostly for one subscription."""
        where = self._everyone if self._everyone is not None else self.matching(event)
        if len(where) != 1:
            self._store((event,), (where,), done)
            self._call_readers(where)
            return tuple([subscription.key for subscription in where])
        subscription = where[0]
        tail = add_tail(event, self.lane.clock.now_ns())
        subscription.adding += 1
        op = Publish(self.lane, [(subscription, event)], done)
        self.lane.store((subscription.commands.add, tail), len(tail), op)
        self._call_readers(where)
        return (subscription.key,)

    def _full(self, where: Sequence[Subscription], bound: int) -> str:
        coming: dict[Subscription, int] = {}
        for each in where:
            coming[each] = coming.get(each, 0) + 1
        return next((each.key for each, more in coming.items() if each.length + each.adding + more > bound), "")

    def _store(self, events: Sequence[Event], matched: Sequence[Sequence[Subscription]], done: Done) -> None:
        lane = self.lane
        now_ns = lane.clock.now_ns()
        kept = self._kept_head(now_ns) if self.options.get("retention_s") else b""
        parts: list[bytes] = []
        stored: list[tuple[Subscription | None, Event]] = []
        for event, found in zip(events, matched, strict=True):
            if not (found or kept):
                continue
            tail = add_tail(event, now_ns)
            if kept:
                parts += (kept, tail)
                stored.append((None, event))
            for subscription in found:
                parts += (subscription.commands.add, tail)
                stored.append((subscription, event))
                subscription.adding += 1
        if len(stored) > 1:
            parts = [_MULTI, *parts, _EXEC]
        if not parts and lane.is_idle:
            done(None)
        else:
            lane.store(parts, sum(map(len, parts)), Publish(lane, stored, done))

    def _call_readers(self, where: Sequence[Subscription]) -> None:
        """Those here read with the same batch, as far as they have room; for the others other processes are told."""
        tells = self.lane.hears and not self._alone
        for subscription in where:
            subscription.more()
            if tells and subscription.room <= 0:
                self._rings.add(subscription.key)
                self.lane.mark(self)

    def compose(self) -> None:
        rings, self._rings = self._rings, set()
        if rings:
            self._say(pack("PUBLISH", self.names.bell, "\n".join([self.consumer, *rings])))

    def rung(self, channel: bytes, message: bytes) -> None:
        if channel == self.names.bell.encode():
            sender, *keys = message.decode().split("\n")
            if sender != self.consumer:
                for key in keys:
                    if key in self.subscriptions:
                        self.subscriptions[key].more()

    def _kept_head(self, now_ns: int) -> bytes:
        """The head of the XADD that keeps an event for replay, and forgets those that are older than that."""
        oldest_ms = (now_ns - int(float(self.options["retention_s"]) * 1e9)) // 1_000_000
        return b"*14\r\n$4\r\nXADD\r\n%b$5\r\nMINID\r\n$1\r\n~\r\n%b$1\r\n*\r\n" % (
            text(self.names.kept.encode()), text(b"%d" % max(oldest_ms, 0)),
        )  # fmt: skip

    # The connection, and the other processes.

    def enter(self) -> None:
        for subscription in self.subscriptions.values():
            subscription.recovered = False
            self.lane.mark(subscription)
        self._doom(first=True)

    async def join(self) -> None:
        lane = self.lane
        if not self.is_open:
            return
        with suppress(CommandError):
            await lane.call("PERSIST", self.names.dead)
        # Before anything is read: who dies right after that is missed by the others.
        now_ms = await self._now_ms()
        if self._is_closed():
            return
        await lane.call("ZADD", self.names.members, now_ms, self.consumer)
        for key in await lane.call("SMEMBERS", self.names.subscriptions):
            self._known(key.decode())
        await asyncio.gather(*[self._begin(subscription) for subscription in self.subscriptions.values()])
        if not self._is_closed():
            # Without the right to listen, another process's surplus is found by the beat.
            self._say(pack("SUBSCRIBE", self.names.bell) + pack("PING"))
        self.joined.set()

    async def _now_ms(self) -> int:
        """The server's clock: all members are told by the same one."""
        seconds, micros = await self.lane.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def _has(self, subscription: Subscription) -> bool:
        return self.subscriptions.get(subscription.key) is subscription

    async def _begin(self, subscription: Subscription) -> None:
        if not self._has(subscription):
            return
        try:
            await self._begin_now(subscription)
        except CommandError:
            # Forgotten meanwhile, it has no stream any more.
            if self._has(subscription):
                raise

    async def _begin_now(self, subscription: Subscription) -> None:
        """Make its stream and group where there are none, find what stands under our name, then read."""
        lane = self.lane
        await make_group(lane, subscription, self.names.subscriptions)
        if subscription.wanted:
            if subscription.exclusive and not await self._hold(subscription):
                return
            subscription.owned = True
            await recover(lane, subscription, self.consumer, fresh=not subscription.joined)
            others = await other_readers(lane, subscription, self.consumer) if subscription.exclusive else self._formers
            if not subscription.joined:
                for name in others:
                    await take_over(lane, subscription, self.consumer, dead=name)
            subscription.joined = subscription.recovered = True
        await self._look(subscription)
        if self._has(subscription):
            subscription.more()

    async def _hold(self, subscription: Subscription) -> bool:
        owned = await hold(
            self.lane, self.names.owner(subscription.key), self.consumer, dead_s=self.lane.settings.dead_s
        )
        if not owned:
            subscription.owned = subscription.joined = subscription.recovered = False
            await self._look(subscription)
        return owned

    async def _look(self, subscription: Subscription) -> None:
        """How much waits, since when."""
        subscription.sized(await self.lane.call("XLEN", subscription.stream))
        if subscription.length:
            subscription.begins(await self.lane.call("XRANGE", subscription.stream, "-", "+", "COUNT", 1))

    def beat(self, now_ms: int) -> None:
        """Show that we live; see how much waits; take over from the dead."""
        if not self.is_open:
            return
        lane, names = self.lane, self.names
        now = lane.clock.monotonic()
        if self._seen_at and now - self._seen_at > lane.settings.dead_s:
            # We stood still for so long that others may have taken what is ours.
            self._rejoin()
        self._seen_at = now
        dead_ms = now_ms - int(lane.settings.dead_s * 1000)
        packed = pack("ZADD", names.members, now_ms, self.consumer)
        packed += pack("ZRANGE", names.members, 0, -1, "WITHSCORES")
        lane.submit(packed, 2, partial(self._heard, now_ms, dead_ms), lambda _: None)
        for subscription in self.subscriptions.values():
            lane.submit(subscription.commands.length, 1, partial(self._sized, subscription), lambda _: None)
            if subscription.exclusive and subscription.wanted and subscription.deliver is not None:
                lane.spawn(self._keep_hold(subscription))

    def _rejoin(self) -> None:
        for subscription in self.subscriptions.values():
            if subscription.joined:
                subscription.recovered = False
                self.lane.spawn(self._begin(subscription))

    async def _keep_hold(self, subscription: Subscription) -> None:
        if not subscription.joined:
            await self._begin(subscription)
        else:
            await self._hold(subscription)

    def _sized(self, subscription: Subscription, replies: Sequence[Reply]) -> None:
        if is_error(replies[0]):
            return
        subscription.sized(replies[0])
        if subscription.length and subscription.is_still:
            first = pack("XRANGE", subscription.stream, "-", "+", "COUNT", 1)
            self.lane.submit(first, 1, lambda found: subscription.begins(found[0]), lambda _: None)

    def _heard(self, now_ms: int, dead_ms: int, replies: Sequence[Reply]) -> None:
        if is_error(replies[1]):
            self.trouble("redis refused", {"why": str(replies[1])})
            return
        members = {bytes(name): float(score) for name, score in _scores(replies[1])}
        self._alone = len(members) == 1
        for name, score in members.items():
            if score >= dead_ms or name.decode() == self.consumer:
                continue
            if score < now_ms - _FORGOTTEN_MS:
                self._say(pack("ZREM", self.names.members, name))
            heirs = [each for each in self.subscriptions.values() if each.may_inherit(name, score)]
            if heirs:
                self.lane.spawn(self._inherit(name.decode(), heirs))

    async def _inherit(self, dead: str, heirs: Sequence[Subscription]) -> None:
        """Another process is no more: what it had in hand is ours."""
        taken = 0
        for subscription in heirs:
            try:
                taken += await take_over(self.lane, subscription, self.consumer, dead=dead)
            except (NotConnectedError, CommandError):
                subscription.inherit_again(dead)
                raise
            subscription.more()
        if taken:
            self.trouble("deliveries taken over", {"from": dead, "count": taken})

    async def farewell(self) -> None:
        """We stop: the others need not wait until they take us for dead."""
        for subscription in self.subscriptions.values():
            self._let_go(subscription)
        with suppress(NotConnectedError, CommandError):
            dead_ms = await self._now_ms() - int(self.lane.settings.dead_s * 1000)
            await self.lane.call("ZADD", self.names.members, dead_ms - 1, self.consumer)

    def states(self) -> list[SubscriptionState]:
        return [each.state(counted=self._share[0] == 0) for each in self.subscriptions.values()]


def _scores(reply: Reply) -> list[tuple[bytes, float]]:
    """RESP 3 gives pairs, RESP 2 a flat list."""
    if reply and not isinstance(reply[0], list):
        return list(zip(reply[::2], reply[1::2], strict=False))
    return [(name, score) for name, score in reply]
