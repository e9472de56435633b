"""The only file that asks the time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""


class SystemClock:
    """The real one."""

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)
