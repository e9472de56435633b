"""What becomes of events that are over: the sweep after a forget, and the end of a topic's retention. Little by little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from channels.log import record
from channels.log.positions import Batch
from channels.log.store import Store
from mesh.runtime.clock import Clock

_TURN_S = 0.002
"""How long one step may read."""
_SWEEP_PAUSE_S = 0.01
_TRIM_PAUSE_S = 1.0
_TRIM_STEP = 512
"""Events deleted at a time."""
_FORCED_PART = 20
"""Where room is needed, a twentieth of the store is freed at a time."""


class Host(Protocol):
    """The partition, as far as sweeping goes."""

    store: Store
    gathering: Batch

    @property
    def is_stopped(self) -> bool: ...
    def schedule(self) -> None: ...
    def is_settled(self, seq: int, ids: Sequence[int]) -> bool: ...
    def release(self, seq: int, topic: int, arrived_ns: int) -> None: ...


class Sweeper:
    """Timers of its own, none per event."""

    def __init__(self, host: Host, *, clock: Clock, on_trouble: Callable[[str, dict[str, object]], None]) -> None:
        self._host = host
        self._clock = clock
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._sweep_at: int | None = None
        self.has_kept = False
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def sweep(self) -> None:
        """Look through all records for those that nobody needs any more, a little at a time."""
        under_way = self._sweep_at is not None
        self._sweep_at = 0
        if not under_way:
            self._timers["sweep"] = self._loop.call_later(_SWEEP_PAUSE_S, self._sweep_on)

    def _sweep_on(self) -> None:
        if self._sweep_at is None:
            return
        if not self._host.is_stopped and not self._sweep_some(self._sweep_at):
            self._sweep_at = None
            self._host.gathering.meta[b"sweep"] = b""
        else:
            self._timers["sweep"] = self._loop.call_later(_SWEEP_PAUSE_S, self._sweep_on)
        self._host.schedule()

    def _sweep_some(self, start: int) -> bool:
        end, read = self._clock.monotonic() + _TURN_S, 0
        with self._host.store.reading() as view:
            for seq, row in view.events(start):
                read += 1
                if not read & 63 and self._clock.monotonic() > end:
                    self._sweep_at = seq
                    return True
                try:
                    head = record.decode_head(row, seq)
                except record.DamagedError:
                    continue  # told when it is read; left where it is for a repair
                if self._host.is_settled(seq, head.ids):
                    self._host.release(seq, head.topic, head.arrived_ns)
        return False

    def expect_kept(self) -> None:
        """There are settled events that wait for the end of their topic's retention."""
        if not self.has_kept:
            self.has_kept = True
            self._timers["trim"] = self._loop.call_later(_TRIM_PAUSE_S, self._trim_on)

    def _trim_on(self) -> None:
        if not self._host.is_stopped:
            self.trim(by_force=False)
        if self.has_kept:
            self._timers["trim"] = self._loop.call_later(_TRIM_PAUSE_S, self._trim_on)

    def trim(self, *, by_force: bool) -> None:
        """Delete settled events whose time is over; by force the oldest ones, since room is needed."""
        now_ns, dropped, freed, empty = self._clock.now_ns(), 0, 0, True
        enough = self._host.store.max_bytes // _FORCED_PART
        with self._host.store.reading() as view:
            for key, _ in view.rows("kept"):
                expires_ns, seq = record.KEPT_KEY.unpack(key)
                empty = False
                if dropped >= _TRIM_STEP or freed > enough or (expires_ns > now_ns and not by_force):
                    break
                row = view.event(seq)
                freed += len(row) if row is not None and by_force else 0
                dropped += 1
                self._host.gathering.kept[key] = None
                self._host.gathering.deletes.append(seq)
        if dropped and by_force:
            self._on_trouble("retention cut short", {"path": str(self._host.store.path), "events": dropped})
        if empty and not self._host.gathering.kept:
            self.has_kept = False
        self._host.schedule()
