"""The loop of `knit send`: requests at a rate, a bounded number under way, what became of each, and the sum."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import click

from mesh.cli.readevents import as_request
from mesh.console.display import visible
from mesh.delivery.outcome import Answer, Outcome
from mesh.errors import EventError, SettingsError
from mesh.events.event import Event
from mesh.http.client import Endpoint, Sender
from mesh.runtime.clock import SystemClock
from mesh.settings import HttpSettings

_BATCH = 100
"""Events in one request of mode `batch`."""
_SHOWN = 20
"""With more events than this a progress bar stands in for a line each; what was refused is still told, this many times."""
_USER_AGENT = b"user-agent: knit-send\r\n"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Where and how. rate: requests a second, 0 for no limit. parallel: requests under way at a time."""

    url: str
    mode: str
    rate: float = 0.0
    parallel: int = 1
    timeout_s: float = 60.0


@dataclass(slots=True)
class Sent:
    """statuses: how many events ended so, such as `202` or `no answer`."""

    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)


def deliver(outgoing: Outgoing, events: Iterator[Event], *, total: int | None, quiet: bool) -> Sent:
    """Send all, telling what becomes of them on standard output. total: how many there are, where that is known.

    Raises:
        SettingsError: the URL is none.
        EventError: the next event of `events` is not valid; those before it were sent.
    """
    with _Report(total, quiet=quiet) as report:
        return asyncio.run(_deliver(outgoing, events, report))


async def _deliver(outgoing: Outgoing, events: Iterator[Event], report: _Report) -> Sent:
    clock = SystemClock()
    sender = Sender(HttpSettings(), clock, asyncio.get_running_loop())
    began = clock.monotonic()
    try:
        try:
            endpoint = sender.endpoint(outgoing.url)
        except ValueError as exc:
            raise SettingsError(f"{exc}; a URL is wanted, such as http://127.0.0.1:8080/default/default") from exc
        await _send_all(outgoing, events, endpoint, report)
    finally:
        report.sent.seconds = clock.monotonic() - began
        await sender.aclose()
    return report.sent


async def _send_all(outgoing: Outgoing, events: Iterator[Event], endpoint: Endpoint, report: _Report) -> None:
    clock = SystemClock()
    free = asyncio.Semaphore(outgoing.parallel)
    due = clock.monotonic()
    size = _BATCH if outgoing.mode == "batch" else 1
    invalid: EventError | None = None
    async with asyncio.TaskGroup() as group:
        while invalid is None:
            batch, invalid = _take(events, size)
            if not batch:
                break
            if outgoing.rate:
                await asyncio.sleep(max(0.0, due - clock.monotonic()))
                due += 1 / outgoing.rate
            await free.acquire()
            group.create_task(_send(outgoing, batch, endpoint, free, report))
    if invalid is not None:
        raise invalid


def _take(events: Iterator[Event], size: int) -> tuple[list[Event], EventError | None]:
    """The next events, and the error that ends them: what came before it is still sent."""
    batch: list[Event] = []
    try:
        batch.extend(islice(events, size))
    except EventError as exc:
        return batch, exc
    return batch, None


async def _send(
    outgoing: Outgoing, events: list[Event], endpoint: Endpoint, free: asyncio.Semaphore, report: _Report
) -> None:
    clock = SystemClock()
    answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def on_outcome(outcome: Outcome) -> None:
        if not answered.done():
            answered.set_result(outcome)

    try:
        lines, body = as_request(events, outgoing.mode)
        began = clock.monotonic()
        endpoint.send(_USER_AGENT, lines, body, on_outcome, timeout_s=outgoing.timeout_s)
        report.take(events, await answered, clock.monotonic() - began)
    finally:
        free.release()


class _Report:
    """What is printed: a line each for a few events, a progress bar for many; and the sum."""

    def __init__(self, total: int | None, *, quiet: bool) -> None:
        self.sent = Sent()
        self._total = total
        self._quiet = quiet
        self._told = 0
        self._advance: Callable[[int], object] = lambda _: None
        self._close: Callable[[], object] = lambda: None

    def __enter__(self) -> _Report:
        if not self._quiet and (self._total or 0) > _SHOWN and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True), transient=True)
            task = bar.add_task("sending", total=self._total)
            self._advance = lambda count: bar.advance(task, count)
            self._close = bar.stop
            bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        sent = self.sent
        ended = sent.accepted + sent.refused
        if ended > 1 or (ended and self._quiet):
            statuses = ", ".join(f"{count} × {status}" for status, count in sorted(sent.statuses.items()))
            rate = ended / sent.seconds if sent.seconds else 0.0
            click.echo(
                f"{sent.accepted} accepted, {sent.refused} refused in {sent.seconds:.2f} s, {rate:.0f}/s ({statuses})"
            )

    def take(self, events: list[Event], outcome: Outcome, seconds: float) -> None:
        """One request ended."""
        is_accepted = isinstance(outcome, Answer) and 200 <= outcome.status < 300
        status = str(outcome.status) if isinstance(outcome, Answer) else "no answer"
        self.sent.statuses[status] += len(events)
        if is_accepted:
            self.sent.accepted += len(events)
        else:
            self.sent.refused += len(events)
        self._advance(len(events))
        self._tell(events, outcome, seconds, is_accepted=is_accepted)

    def _tell(self, events: list[Event], outcome: Outcome, seconds: float, *, is_accepted: bool) -> None:
        is_many = self._total is None or self._total > _SHOWN
        if (is_accepted and (self._quiet or is_many)) or self._told >= _SHOWN:
            return
        self._told += 1
        first = events[0]
        what = f"id {visible(first.id)}" if len(events) == 1 else f"{len(events)} events from id {visible(first.id)}"
        line = f"{_status(outcome)}  {what}  type {visible(first.type)}  {seconds * 1000:.1f} ms"
        click.echo(line, err=not is_accepted)


def _status(outcome: Outcome) -> str:
    if not isinstance(outcome, Answer):
        return click.style(f"no answer ({outcome.why})", fg="red")
    words = visible(outcome.body[:300].decode("utf-8", "replace").strip())
    if 200 <= outcome.status < 300:
        return click.style(str(outcome.status), fg="green") + (f" {words}" if words else "")
    return click.style(str(outcome.status), fg="red") + (f" {words}" if words else "")
