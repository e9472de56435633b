"""A clock that shows the event loop's time, so that under `@pytest.mark.looptime` waiting and the wall clock agree."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime


class LoopClock:
    """`begins` is the wall clock's time at the loop's time zero; `set` moves the wall clock while others wait."""

    def __init__(self, begins: datetime = datetime(2026, 3, 4, 10, 17, 30, tzinfo=UTC)) -> None:
        self.begins = begins
        self._base_ns = int(begins.timestamp()) * 10**9

    def now_ns(self) -> int:
        return self._base_ns + round(self.monotonic() * 1e9)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def set(self, *, by_s: float) -> None:
        """Set the wall clock on (or back, below zero); the monotonic time goes on undisturbed."""
        self._base_ns += round(by_s * 1e9)
