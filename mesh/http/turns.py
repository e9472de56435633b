"""Work that waits for the end of this turn of the loop, so that what arrives together is done together.

Why: the kernel's network code and ours push each other out of the processor's caches. Reading, deciding and writing one event at a
time changes between them four times an event; doing each for all events of a turn changes three times a turn (measured 2026-11-25:
see ARCHITECTURE.md, "where each microsecond goes"). Nothing waits for a timer: the loop runs what was put here before it polls again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

CallSoon = Callable[[Callable[[], None]], object]


class Outbox:
    """Writes of this turn. A transport that closed meanwhile is passed over: who owns it hears of that by itself."""

    __slots__ = ("_call_soon", "_items")

    def __init__(self, call_soon: CallSoon) -> None:
        self._call_soon = call_soon
        self._items: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        self._items.append((transport, data))
        if len(self._items) == 1:
            self._call_soon(self.flush)

    def flush(self) -> None:
        """Write it now."""
        items, self._items = self._items, []
        for transport, data in items:
            if not transport.is_closing():
                transport.write(data)


class Calls:
    """Calls of this turn, each with one argument. An error in one is reported and does not stop the others."""

    __slots__ = ("_call_soon", "_items", "_on_error")

    def __init__(self, call_soon: CallSoon, on_error: Callable[[Exception], None]) -> None:
        self._call_soon = call_soon
        self._on_error = on_error
        self._items: list[tuple[Callable[[Any], None], Any]] = []

    def add(self, call: Callable[[Any], None], argument: object) -> None:
        self._items.append((call, argument))
        if len(self._items) == 1:
            self._call_soon(self.run)

    def run(self) -> None:
        items, self._items = self._items, []
        for call, argument in items:
            try:
                call(argument)
            except Exception as exc:  # noqa: BLE001 - one caller's bug must not cost the others their turn
                self._on_error(exc)
