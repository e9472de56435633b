"""One connection and its batches: what gathers while the last batch is on its way is the next one. No timer, no pool.

A lane belongs to one Redis and one user; a cluster has one for each topic. It connects again by itself, with growing
pauses. While it is gone, publishing is refused at once; settling waits in the subscriptions and is said again later.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol

from channels.api import TopicHealth
from channels.redis_streams.health import durability, explain
from channels.redis_streams.keys import pack
from channels.redis_streams.locate import Access, locate, tls_of
from channels.redis_streams.wire import Reply, ReplyError, Wire, is_error, open_wire
from mesh.errors import KnitError, NotConnectedError
from mesh.runtime.clock import Clock
from mesh.settings import RedisSettings

Trouble = Callable[[str, dict[str, object]], None]
_MOVED = ("READONLY", "LOADING", "MASTERDOWN", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "NOAUTH")
"""Refusals that speak of the connection and not of the command: somebody else must be asked, or later."""
_PAUSES_S = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)


class CommandError(KnitError):
    """Redis refused a command; the text is its own. Stays inside this package."""


class Composer(Protocol):
    """Something that has commands to send with the next batch."""

    def compose(self) -> None: ...


class Guest(Protocol):
    """A topic on a lane."""

    def enter(self) -> None:
        """The connection is made, or made anew: say what must come before all that waits."""

    async def join(self) -> None:
        """After that: find out where everything stands."""

    def beat(self, now_ms: int) -> None:
        """Now and then: show that we live, look at how much waits, look for the dead."""

    def rung(self, channel: bytes, message: bytes) -> None:
        """Pub/Sub brought something."""


class Op(Protocol):
    """Commands that stand together: who hears of their replies. Exactly one of the two is called, once."""

    count: int
    """How many replies they have."""

    def take(self, replies: Sequence[Reply], at: int) -> None:
        """Its replies are the `count` from `at` on."""

    def lost(self, why: str) -> None:
        """The connection is gone: nothing is known of them."""


class Calls:
    """An Op for what is not said for every event. answered: gets its own replies only."""

    __slots__ = ("answered", "count", "lost")

    def __init__(self, count: int, answered: Callable[[Sequence[Reply]], None], lost: Callable[[str], None]) -> None:
        self.count = count
        self.answered = answered
        self.lost = lost

    def take(self, replies: Sequence[Reply], at: int) -> None:
        self.answered(replies[at : at + self.count])


class Lane:
    """See the module. `key`: what a cluster finds the node by."""

    def __init__(self, access: Access, key: str, *, settings: RedisSettings, clock: Clock, on_trouble: Trouble) -> None:
        self.access = access
        self.settings = settings
        self.clock = clock
        self.guests: list[Guest] = []
        self.is_up = False
        self.refusal = ""
        """Why publishing is refused now; "" while it is taken, be it only to wait for the first connection."""
        self.peer = ("", 0)
        self.pending_bytes = 0
        self.replicated = True
        """Whether the batch that is being answered reached as many replicas as were asked for."""
        self.facts: dict[str, str] = {}
        self.since_ns = clock.now_ns()
        self.why = "not connected yet"
        """Why it is not up."""
        self.hears = False
        """Whether this user may use Pub/Sub. Without it the beat finds what other processes have no room for."""
        self._key = key
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._buffer: list[bytes] = []
        self._ops: list[Op] = []
        self._in_flight: list[Op] = []
        self._stores = False
        self._waits = False
        self._sent_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._dirty: dict[Composer, None] = {}
        self._scheduled = False
        self._closed = False
        self._told = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried = asyncio.Event()
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._idlers: list[asyncio.Future[None]] = []

    def open(self) -> None:
        """Begin to connect."""
        self.spawn(self._run())

    async def tried(self) -> None:
        """Return when the first attempt to connect has ended, well or not, and what is set there has been asked."""
        await self._tried.wait()

    # -- what is sent -------------------------------------------------------------------------------------------

    def submit(
        self, packed: bytes, count: int, answered: Callable[[Sequence[Reply]], None], lost: Callable[[str], None]
    ) -> None:
        """Send with the next batch. Only while it is up, or while it may still come up."""
        self._buffer.append(packed)
        self._ops.append(Calls(count, answered, lost))
        self.pending_bytes += len(packed)
        self.want()

    def submit_first(
        self, packed: bytes, count: int, answered: Callable[[Sequence[Reply]], None], lost: Callable[[str], None]
    ) -> None:
        """Send before everything that waits."""
        self._buffer.insert(0, packed)
        self._ops.insert(0, Calls(count, answered, lost))
        self.want()

    def store(self, packed: Sequence[bytes], size: int, op: Op) -> None:
        """Like `submit`, for events: what `wait_replicas` is about. size: bytes of the packed commands, roughly."""
        self._stores = True
        self._buffer += packed
        self._ops.append(op)
        self.pending_bytes += size
        if not self._scheduled:
            self.want()

    def call(self, *arguments: str | bytes | int | float) -> asyncio.Future[Reply]:
        """One command, for what is not the hot path. Raises CommandError, NotConnectedError."""
        reply: asyncio.Future[Reply] = self._loop.create_future()

        def answered(replies: Sequence[Reply]) -> None:
            if reply.done():
                return
            if is_error(replies[0]):
                reply.set_exception(CommandError(str(replies[0])))
            else:
                reply.set_result(replies[0])

        def lost(why: str) -> None:
            if not reply.done():
                reply.set_exception(NotConnectedError(why))

        if self.is_up:
            self.submit(pack(*arguments), 1, answered, lost)
        else:
            lost(self.refusal or "not connected yet")
        return reply

    def mark(self, composer: Composer) -> None:
        """It has something to send with the next batch."""
        self._dirty[composer] = None
        self.want()

    def want(self) -> None:
        if not self._scheduled and self.is_up and not self._in_flight:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._in_flight or not self.is_up or self._wire is None:
            return
        dirty, self._dirty = self._dirty, {}
        for composer in dirty:
            composer.compose()
        if not self._ops:
            self._wake_idlers()
            return
        if self._stores and self.access.wait_replicas:
            limit_ms = int(self.settings.answer_timeout_s * 500)
            self._buffer.append(pack("WAIT", self.access.wait_replicas, limit_ms))
            self._waits = True
        self._stores = False
        data = b"".join(self._buffer)
        expected = sum([op.count for op in self._ops]) + self._waits
        self._in_flight, self._ops = self._ops, []
        self._buffer, self.pending_bytes = [], 0
        if not data:
            # Nobody wants what was published: it only had to be answered in its turn.
            self._replied([])
            return
        self._sent_at = self.clock.monotonic()
        if self._watch is None:
            self._watch = self._loop.call_later(self.settings.answer_timeout_s, self._look)
        self._wire.send(data, expected)

    def _look(self) -> None:
        """No answer for too long: whoever is there is not going to answer."""
        self._watch = None
        if not self._in_flight or self._wire is None:
            return
        left = self._sent_at + self.settings.answer_timeout_s - self.clock.monotonic()
        if left > 0.001:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._wire.abort(f"no answer in {self.settings.answer_timeout_s:g} s")

    def _replied(self, replies: list[Reply]) -> None:
        if self._waits:
            self._waits = False
            copies = replies.pop()
            self.replicated = isinstance(copies, int) and copies >= self.access.wait_replicas
        at = 0
        for op in self._in_flight:
            op.take(replies, at)
            at += op.count
        # Busy until here: what the answers led to is gathered, and goes as one batch.
        self._in_flight = []
        self.replicated = True
        for reply in replies:
            if type(reply) is ReplyError and str(reply).startswith(_MOVED) and self._wire is not None:
                self._wire.abort(str(reply))
                return
        self._flush()

    @property
    def is_idle(self) -> bool:
        return not (self._in_flight or self._ops or self._dirty)

    # -- the connection -----------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something of this lane's; what it raises is told."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        if isinstance(error, NotConnectedError):
            return
        self._on_trouble("redis refused", {"address": self.access.address.shown(), "why": str(error) or repr(error)})

    async def _run(self) -> None:
        failures = 0
        while not self._closed:
            self._over = self._loop.create_future()
            try:
                async with asyncio.timeout(self.settings.connect_timeout_s):
                    self._wire = await self._connect()
            except (OSError, ssl.SSLError, ValueError, CommandError, NotConnectedError, TimeoutError) as exc:
                self._refuse(explain(exc, timeout_s=self.settings.connect_timeout_s))
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)] or _PAUSES_S[1])
                failures += 1
                continue
            self._enter()
            why = await self._over
            failures = 0
            self._leave(why)

    async def _connect(self) -> Wire:
        address = self.access.address
        tls = tls_of(self.access)
        host, port = self.peer = await locate(self.access, self._key, timeout_s=self.settings.connect_timeout_s)
        greeting: asyncio.Future[list[Reply]] = self._loop.create_future()

        def replies(found: list[Reply]) -> None:
            if greeting.done():
                self._replied(found)
            else:
                greeting.set_result(found)

        def lost(why: str) -> None:
            if not greeting.done():
                greeting.set_exception(NotConnectedError(why))
            elif not self._over.done():
                self._over.set_result(why)

        wire = await open_wire(host, port, tls=tls, make=lambda: Wire(replies, self._pushed, lost))
        try:
            login = ["AUTH", address.username or "default", address.password] if address.password else []
            commands: list[tuple[str | int, ...]] = [
                ("HELLO", 3, *login),
                ("CLIENT", "SETNAME", "knit"),
                ("SELECT", address.database),
            ]
            if address.mode == "cluster":
                commands.pop()
            wire.send(b"".join(pack(*command) for command in commands), len(commands))
            _all_well(await greeting)
        except BaseException:
            wire.close()
            raise
        return wire

    def _enter(self) -> None:
        self.is_up = True
        self.refusal = self._told = self.why = ""
        self.since_ns = self.clock.now_ns()
        self._in_flight = []
        self.hears = False
        self.spawn(self._learn())
        for guest in list(self.guests):
            guest.enter()
            self.spawn(guest.join())
        self.want()
        self.spawn(self._beat(self._over))

    def _leave(self, why: str) -> None:
        """It is gone: who waits for an answer is told so. What was stored nevertheless may so arrive twice."""
        self.is_up = False
        self.why, self.since_ns = why, self.clock.now_ns()
        self._wire = None
        self._waits = False
        flying, self._in_flight = self._in_flight, []
        for op in flying:
            op.lost(why)
        self._wake_idlers()
        if not self._closed:
            self._tell(why)

    def _refuse(self, why: str) -> None:
        """Connecting failed: refuse what waits for it, and from now on at once."""
        self.why = why
        self.refusal = f"{self.access.address.shown()}: {why}"
        ops, self._ops, self._buffer, self.pending_bytes = self._ops, [], [], 0
        for op in ops:
            op.lost(why)
        self._tell(why)
        self._tried.set()

    def _tell(self, why: str) -> None:
        if why != self._told:
            self._told = why
            self._on_trouble("redis not reachable", {"address": self.access.address.shown(), "why": why})

    async def _learn(self) -> None:
        """What Redis is set to, as far as it may be asked."""
        found: dict[str, str] = {}
        for name in ("appendonly", "appendfsync", "maxmemory-policy"):
            with suppress(CommandError):
                reply = await self.call("CONFIG", "GET", name)
                found |= {key.decode(): value.decode() for key, value in dict(reply).items()}
        self.facts = found
        self._tried.set()

    def health(self) -> TopicHealth:
        """For the condition of whatever is kept there."""
        address = self.access.address.shown()
        if not self.is_up:
            return TopicHealth(
                is_up=False, reason="NotConnected", message=f"{address}: {self.why}", since_ns=self.since_ns
            )
        reason, message = durability(self.facts, wait_replicas=self.access.wait_replicas)
        return TopicHealth(is_up=True, reason=reason, message=f"{address}: {message}", since_ns=self.since_ns)

    async def _beat(self, over: asyncio.Future[str]) -> None:
        while not over.done():
            seconds, micros = await self.call("TIME")
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            for guest in self.guests:
                guest.beat(now_ms)
            await asyncio.wait([over], timeout=self.settings.beat_s)

    def _pushed(self, message: Reply) -> None:
        if is_error(message):
            return
        if message[0] == b"subscribe":
            self.hears = True
        elif message[0] == b"message":
            for guest in self.guests:
                guest.rung(message[1], message[2])

    async def aclose(self) -> None:
        """Send what is owed, as far as that is possible at once, and end."""
        if self.is_up:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.answer_timeout_s):
                    await self.idle()
        self.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Return when nothing is left to send, or nothing can be sent."""
        while self.is_up and not self.is_idle:
            await self.next_idle()

    def next_idle(self) -> asyncio.Future[None]:
        """Done the next time that there is nothing to send."""
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._idlers.append(waiting)
        self.want()
        return waiting

    def _wake_idlers(self) -> None:
        idlers, self._idlers = self._idlers, []
        for waiting in idlers:
            if not waiting.done():
                waiting.set_result(None)

    def kill(self) -> None:
        """End at once, as a killed process would: nothing more is sent."""
        self._closed = True
        self.is_up = False
        self.refusal = "the channel was stopped"
        if self._wire is not None:
            self._wire.close()
        if self._watch is not None:
            self._watch.cancel()
        for task in self._tasks:
            task.cancel()
        for op in [*self._in_flight, *self._ops]:
            op.lost("the channel was stopped")
        self._in_flight, self._ops = [], []
        self._wake_idlers()


def _all_well(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if is_error(reply):
            raise CommandError(str(reply))
