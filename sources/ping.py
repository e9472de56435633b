"""PingSource: an event at every firing of a cron schedule. Knative `sources.knative.dev/v1`; v1beta2 is the same by then.

A firing happens at its second. Upstream adds a random pause of up to half a second, to spread the load of many sources with
one schedule; here one process sends a thousand of them in less than that, and a punctual tick is what people expect to see.

A firing that is missed, because nothing ran or the machine slept, is not caught up: the first one that is overdue is sent
late, the others are left out. A sink that is slow or down delays no firing (see `Outbox`).
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from mesh.errors import ResourceError
from mesh.events.event import Event, encode_block
from mesh.plan.model import SourceSpec
from mesh.resources.sources import DEFAULT_SCHEDULE
from mesh.runtime.clock import Clock
from sources.api import Emit, EmitLimits
from sources.cron import parse
from sources.emitter import Outbox

EVENT_TYPE = "dev.knative.sources.ping"
_SLICE_S = 30.0
"""The wall clock is looked at this often at least: it may be set while we wait. A wake-up costs some ten microseconds."""
_SET_BACK_NS = 60 * 10**9
"""A clock that goes back by less was only corrected; to follow it would send the last firing a second time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PingSource:
    """Options of its SourceSpec: `schedule`, `timezone`, `contentType`, `data`, `dataBase64`, as in the resource."""

    def __init__(
        self,
        spec: SourceSpec,
        clock: Clock,
        limits: EmitLimits,
        *,
        new_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        """Raises ResourceError where an option cannot be read; `path` names it."""
        self._schedule = parse(spec.options.get("schedule") or DEFAULT_SCHEDULE, spec.options.get("timezone", ""))
        self._body = _body(spec)
        self._attributes = {
            "specversion": "1.0",
            "type": EVENT_TYPE,
            "source": f"/apis/v1/namespaces/{spec.namespace}/pingsources/{spec.name}",
        }
        content_type = spec.options.get("contentType", "")
        if self._body and content_type:
            self._attributes["datacontenttype"] = content_type
        self._clock = clock
        self._limits = limits
        self._new_id = new_id

    async def run(self, emit: Emit) -> None:
        """Emit one event at each firing, until cancelled."""
        async with asyncio.TaskGroup() as group:
            outbox = Outbox(group, emit, limit=self._limits.under_way)
            try:
                await self._fire(outbox)
            finally:
                await outbox.drain(self._limits.drain_s)

    async def _fire(self, outbox: Outbox) -> None:
        while (due_ns := self._next_ns(self._clock.now_ns())) is not None:
            if await sleep_until(self._clock, due_ns):
                outbox.put(self._event(self._clock.now_ns()))
        # 30 February: nothing to do, until the schedule is changed.
        await asyncio.get_running_loop().create_future()

    def _next_ns(self, now_ns: int) -> int | None:
        due = self._schedule.next_after(_EPOCH + timedelta(microseconds=now_ns // 1000))
        return None if due is None else (due - _EPOCH) // timedelta(seconds=1) * 10**9

    def _event(self, now_ns: int) -> Event:
        attributes = {**self._attributes, "id": self._new_id(), "time": _rfc3339(now_ns)}
        return Event(encode_block(attributes), self._body, attributes=attributes)


async def sleep_until(clock: Clock, due_ns: int) -> bool:
    """Wait until the wall clock shows `due_ns`. False: the clock was set back, so what is due has to be asked again."""
    now_ns = clock.now_ns()
    while now_ns < due_ns:
        await asyncio.sleep(min((due_ns - now_ns) / 1e9, _SLICE_S))
        before_ns, now_ns = now_ns, clock.now_ns()
        if before_ns - now_ns > _SET_BACK_NS:
            return False
    return True


def _body(spec: SourceSpec) -> bytes:
    # Line breaks and indentation of a YAML block are no part of the text.
    encoded = "".join(spec.options.get("dataBase64", "").split())
    if not encoded:
        return spec.options.get("data", "").encode()
    try:
        return b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ResourceError(f"expected base64, but {error}", path="dataBase64") from error


def _rfc3339(ns: int) -> str:
    """UTC with as many digits of the second as there are, as Go writes it."""
    seconds, fraction = divmod(ns, 10**9)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{digits}Z"
