"""What `knit run` shows in the terminal: the first screen, then what comes in and whom it matched, and log lines.

The screen goes to standard output, log lines to standard error: JSON where that is no terminal, or asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from rich.console import Console
from rich.markup import escape

from mesh.console.display import visible
from mesh.control.reconcile import Snapshot
from mesh.resources.problem import Problem

LiveLine = tuple[int, str, str, str, str, str]
_COLOURS = {
    "accepted": "cyan",
    "delivered": "green",
    "replied": "green",
    "dead-lettered": "yellow",
    "recovered": "yellow",
}


class Screen:
    """log_format: `json`, `console`, or `auto` (console on a terminal)."""

    def __init__(self, *, log_format: str = "auto", out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = Console(file=out or sys.stdout, highlight=False, soft_wrap=True)
        stream = err or sys.stderr
        as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
        renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                renderer,
            ],
            logger_factory=structlog.PrintLoggerFactory(stream),
            cache_logger_on_first_use=True,
        )
        self._log = structlog.get_logger()

    def log(self, level: str, what: str, fields: Mapping[str, Any]) -> None:
        """`what` is constant; everything that varies is a field."""
        getattr(self._log, level)(what, **fields)

    def say(self, text: str) -> None:
        self._out.print(text)

    def first(self, snapshot: Snapshot, *, ingress: str, admin: str, version: str, workers: int, data: str) -> None:
        """What was loaded, what was ignored and why, the URLs, and one curl that works."""
        loaded = snapshot.loaded
        kinds = ", ".join(f"{count} {kind}" for kind, count in loaded.kinds.items()) or "nothing"
        self.say(f"[bold]Knit {version}[/]  {workers} worker{'s' * (workers != 1)}, data in {escape(data)}")
        self.say(f"loaded    {escape(kinds)} from {loaded.files} file{'s' * (loaded.files != 1)}")
        self.problems(snapshot)
        self.say(f"ingress   {ingress}/NAMESPACE/BROKER")
        self.say(f"admin     {admin}")
        paths = [path for ingress_ in snapshot.plan.ingresses if ingress_.topic for path in ingress_.paths]
        if paths:
            self.say(f"\nsend an event:\n\n  {escape(curl(ingress + paths[0], snapshot))}\n")
        self.say("then:  [bold]knit story order-1[/]  tells where it went and why.  Ctrl-C drains and ends.\n")

    def problems(self, snapshot: Snapshot) -> None:
        for problem in snapshot.ignored:
            self.say(f"[dim]ignored   {escape(told(problem))}[/]")
        for problem in snapshot.problems:
            colour = "red" if problem.severity == "error" else "yellow"
            self.say(f"[{colour}]{problem.severity:<9}[/] {escape(told(problem))}")

    def live(self, lines: Sequence[LiveLine], *, more: bool) -> None:
        """What happened in a worker since it told last; `more`: so much that only the newest are shown.

        Written without rich's markup: under load this runs many times a second beside the workers.
        """
        rows = []
        for at_ns, what, where, event_id, event_type, text in lines:
            time = datetime.fromtimestamp(at_ns / 1e9, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
            arrow = "→ " if what == "accepted" else ""
            told = self._styled(f"{what:<13}", _COLOURS.get(what, "31"))
            about = f"{visible(event_type)}  id {visible(event_id)}"
            rows.append(f"{time} {told} {about}  {self._styled(where, '2')}  {arrow}{visible(text)}\n")
        if more:
            rows.append(self._styled("… and more than can be shown; /metrics counts them all\n", "2"))
        self._out.file.write("".join(rows))
        self._out.file.flush()

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._out.is_terminal else text

    def display(self, name: str, text: str) -> None:
        """An event that the built-in event display of this name got."""
        self.say(f"[bold]{escape(name)}[/]\n{escape(text)}")


def curl(url: str, snapshot: Snapshot) -> str:
    """A command that works as it stands."""
    event_type = "com.example.order.created"
    return (
        f"curl -i {url} -H 'ce-specversion: 1.0' -H 'ce-id: order-1' -H 'ce-source: /shop' "
        f"-H 'ce-type: {event_type}' -H 'content-type: application/json' -d '{{\"item\": \"pen\"}}'"
    )


def told(problem: Problem) -> str:
    place = f"{problem.file}:{problem.line}: " if problem.file else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    path = f"{problem.path}: " if problem.path else ""
    who = f"{problem.resource}: " if problem.resource else ""
    return f"{place}{who}{path}{problem.message}{hint}"
