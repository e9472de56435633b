"""RedisStreamSink: what is sent to it becomes an entry of a stream, and is answered once it is stored. Reference §9.5.

The data of the event is a JSON array whose items are the arguments of XADD behind `*`: field, value, field, value, …
Knative's answers before it has stored anything, and loses what it cannot store; here that is refused (503, and 400 for what
is no such array). To the data plane it is a channel that nobody can subscribe to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from channels.api import (
    Capabilities,
    DeadLetter,
    Deliver,
    Done,
    Refusal,
    SubscriptionSpec,
    SubscriptionState,
    TopicHealth,
    TopicSpec,
)
from channels.redis_streams.keys import pack
from channels.redis_streams.lane import Calls, Lane, Trouble
from channels.redis_streams.lanes import Lanes
from channels.redis_streams.locate import access_of
from channels.redis_streams.wire import Reply, is_error
from mesh.errors import EventError
from mesh.events.event import Event
from mesh.events.jsonformat import dumps, loads
from mesh.runtime.clock import Clock
from mesh.settings import RedisSettings


class _Sink:
    """One sink on its lane. Needs nothing when the connection is made."""

    def __init__(self, lane: Lane, stream: str) -> None:
        self.lane = lane
        self.stream = stream

    def enter(self) -> None: ...

    async def join(self) -> None: ...

    def beat(self, now_ms: int) -> None: ...

    def rung(self, channel: bytes, message: bytes) -> None: ...

    def publish(self, events: Sequence[Event], done: Done) -> None:
        lane = self.lane
        if lane.refusal:
            done(Refusal("unavailable", lane.refusal))
            return
        if lane.pending_bytes > lane.settings.max_pending_bytes:
            done(Refusal("full", f"events of {lane.settings.max_pending_bytes} bytes wait to be sent"))
            return
        try:
            commands = [pack("XADD", self.stream, "*", *arguments(event)) for event in events]
        except EventError as exc:
            done(Refusal("invalid", str(exc)))
            return
        if not commands:
            done(None)
            return
        if len(commands) > 1:
            commands = [pack("MULTI"), *commands, pack("EXEC")]
        answered, lost = partial(self._stored, done), partial(self._lost, done)
        lane.store(commands, sum(map(len, commands)), Calls(len(commands), answered, lost))

    def _stored(self, done: Done, replies: Sequence[Reply]) -> None:
        last = replies[-1]
        inner = last if isinstance(last, list) else [last]
        error = next((reply for reply in (*replies, *inner) if is_error(reply)), None)
        done(None if error is None else Refusal("unavailable", f"{self.lane.access.address.shown()}: {error}"))

    def _lost(self, done: Done, why: str) -> None:
        done(Refusal("unavailable", f"{self.lane.access.address.shown()}: {why}"))


def arguments(event: Event) -> list[bytes | str]:
    """The fields and values of the entry. Raises EventError where the data is no array of pairs."""
    try:
        items = loads(event.body)
    except (ValueError, EventError):
        items = None
    if not isinstance(items, list) or not items or len(items) % 2:
        raise EventError('a RedisStreamSink takes a JSON array of fields and values in turn: ["field", "value", …]')
    return [item if isinstance(item, str) else dumps(item) for item in items]


class RedisSinks:
    """All RedisStreamSinks of a process. Topic options: as for RedisChannel, and `stream`."""

    capabilities = Capabilities(durable=True, keeps_attempts=False, keeps_dead_letters=False)

    def __init__(self, *, settings: RedisSettings, clock: Clock, on_trouble: Trouble) -> None:
        self._settings = settings
        self._on_trouble = on_trouble
        self._lanes = Lanes(settings=settings, clock=clock, on_trouble=on_trouble)
        self._sinks: dict[str, _Sink] = {}

    async def start(self) -> None:
        """Nothing yet: a connection is made when the first sink says where to."""

    def open_topic(self, spec: TopicSpec) -> None:
        self.close_topic(spec.key)
        try:
            access = access_of(spec.options, self._settings.address)
        except ValueError as exc:
            self._on_trouble("redis address not valid", {"topic": spec.key, "why": str(exc)})
            return
        sink = self._sinks[spec.key] = _Sink(self._lanes.get(spec.key, access), str(spec.options["stream"]))
        sink.lane.guests.append(sink)
        self._lanes.close_unused()

    def close_topic(self, key: str) -> None:
        """The stream is not ours: it stays."""
        sink = self._sinks.pop(key, None)
        if sink is not None:
            sink.lane.guests.remove(sink)

    def publish(self, topic: str, events: Sequence[Event], done: Done) -> tuple[str, ...]:
        sink = self._sinks.get(topic)
        if sink is None:
            done(Refusal("unknown", f"there is no topic {topic}"))
        else:
            sink.publish(events, done)
        return ()

    def subscribe(self, topic: str, spec: SubscriptionSpec, deliver: Deliver) -> None:
        """No plan asks for it."""

    def unsubscribe(self, topic: str, key: str, *, forget: bool) -> None:
        """There is nobody."""

    def matching(self, topic: str, event: Event) -> tuple[str, ...]:
        return ()

    def states(self) -> list[SubscriptionState]:
        return []

    def dead_letters(self) -> Iterable[DeadLetter]:
        return ()

    def health(self) -> Mapping[str, TopicHealth]:
        return {key: sink.lane.health() for key, sink in self._sinks.items()}

    async def drain(self) -> None:
        for lane in self._lanes.all():
            await lane.idle()

    async def aclose(self) -> None:
        self._sinks.clear()
        for lane in self._lanes.all():
            await lane.aclose()
