"""From a source to its sink: one event as a binary-mode POST, with the source's overrides, retried, and its fate reported.

CloudEvents HTTP binding 3.1; Knative SourceSpec `ceOverrides`. Upstream's sources make five retries within about three seconds
and then write a log line. Here the same retries come first, and then more of them with growing pauses for as long as
`EmitLimits.retry_s` allows; what is given up is reported, not lost in silence.
"""

from __future__ import annotations

import asyncio

from mesh.errors import NotConnectedError
from mesh.events.event import Event
from mesh.plan.model import SourceSpec
from mesh.runtime.clock import Clock
from sources.api import Emission, Emit, EmitLimits, NotTakenError, Post, Report

# What the CloudEvents SDK retries by default. A plain 500 is not among them: a synchronous channel answers it after some of
# its subscribers already have the event.
_RETRIED = frozenset({404, 413, 425, 429, 502, 503, 504})
_FIRST_RETRIES = 5
_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 10.0


def pause_s(attempt: int) -> float:
    """Seconds after failed attempt number `attempt` (the first is 1): 0.1, 0.2, 0.4 and so on up to 10."""
    return min(_FIRST_PAUSE_S * 2.0 ** min(attempt, 32), _MAX_PAUSE_S)


class Emitter:
    """Sends the events of one source to its sink. May be used for many events at a time."""

    def __init__(
        self, spec: SourceSpec, *, post: Post, report: Report, clock: Clock, limits: EmitLimits | None = None
    ) -> None:
        self._spec = spec
        self._overrides = {name.lower(): value for name, value in spec.overrides.items()}
        self._post = post
        self._report = report
        self._clock = clock
        self._limits = limits or EmitLimits()

    async def emit(self, event: Event) -> None:
        """Return when the sink took the event.

        Raises:
            NotTakenError: it did not, for good or for longer than the limits allow.
        """
        event = event.with_attributes(self._overrides)
        tries = _Tries()
        try:
            await self._until_taken(event, tries)
        except NotTakenError as error:
            self._report(Emission(self._spec.key, event, delivered=False, attempts=tries.made, why=str(error)))
            raise
        except asyncio.CancelledError as stopped:
            why = f"{str(stopped) or 'the source was stopped'}; {tries.last}"
            self._report(Emission(self._spec.key, event, delivered=False, attempts=tries.made, why=why))
            raise
        self._report(Emission(self._spec.key, event, delivered=True, attempts=tries.made))

    async def _until_taken(self, event: Event, tries: _Tries) -> None:
        headers = {**_headers(event), "Kn-Namespace": self._spec.namespace}
        started_s = self._clock.monotonic()
        while True:
            tries.made += 1
            passing = await self._attempt(event, headers, tries)
            if passing is None:
                return
            if not passing:
                raise NotTakenError(f"{tries.last}, which is final")
            wait_s = pause_s(tries.made)
            spent_s = self._clock.monotonic() - started_s
            if tries.made > _FIRST_RETRIES and spent_s + wait_s > self._limits.retry_s:
                raise NotTakenError(f"{tries.last}; given up after {tries.made} attempts in {spent_s:.0f} s")
            await asyncio.sleep(wait_s)

    async def _attempt(self, event: Event, headers: dict[str, str], tries: _Tries) -> bool | None:
        """Try once: None = taken, True = may mend, False = final."""
        url, limit_s = self._spec.sink.url, self._limits.request_s
        try:
            async with asyncio.timeout(limit_s):
                status = await self._post(url, headers, event.body)
        except TimeoutError:
            tries.last = f"{url} gave no answer within {limit_s:g} s"
            return True
        except (OSError, NotConnectedError) as error:
            tries.last = f"{url} could not be reached: {str(error) or type(error).__name__}"
            return True
        tries.last = f"{url} answered {status}"
        return None if 200 <= status < 300 else status in _RETRIED


class _Tries:
    """How far an emission has come; kept beside the coroutine, because a cancelled one has to tell it too."""

    def __init__(self) -> None:
        self.made = 0
        self.last = "no answer yet"


class Outbox:
    """What is under way of one source: the next event does not wait for a slow sink, and a dead one does not pile them up.

    At most `limit` at a time. Beyond that the oldest is given up (its emitter reports it): where a sink takes nothing, the
    newest events are the ones worth keeping.
    """

    def __init__(self, group: asyncio.TaskGroup, emit: Emit, *, limit: int) -> None:
        self._group = group
        self._emit = emit
        self._limit = limit
        self._tasks: dict[asyncio.Task[None], None] = {}

    def put(self, event: Event) -> None:
        """Send this event, without waiting."""
        if len(self._tasks) >= self._limit:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            oldest.cancel(f"given up, because {self._limit} later events wait for this sink too")
        task = self._group.create_task(self._send(event))
        self._tasks[task] = None
        task.add_done_callback(lambda ended: self._tasks.pop(ended, None))

    async def _send(self, event: Event) -> None:
        try:
            await self._emit(event)
        except NotTakenError:
            return  # The emitter reported it.

    async def drain(self, limit_s: float) -> None:
        """Wait for what is under way, at most this long; then give it up."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)
        for task in self._tasks:
            task.cancel("the source was stopped before the sink took it")


def _headers(event: Event) -> dict[str, str]:
    """The event's header lines as a mapping. Its values are percent-encoded there already."""
    lines = (event.block + event.passed).decode("utf-8", "replace").split("\r\n")
    return dict(line.split(": ", 1) for line in lines if ": " in line)
