"""`knit story EVENT_ID`: where did my event go, and why?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from mesh.cli.admin import Admin, admin_option
from mesh.cli.command import Command
from mesh.console.display import visible

Step = Mapping[str, Any]

_MARKS = {
    "accepted": ("✔", "cyan"),
    "delivered": ("✔", "green"),
    "replied": ("↩", "green"),
    "not-matched": ("·", "bright_black"),
    "retried": ("↻", "yellow"),
    "recovered": ("↻", "yellow"),
    "unreachable": ("↻", "yellow"),
    "rejected": ("✘", "red"),
    "reply-refused": ("✘", "red"),
    "refused": ("✘", "red"),
    "dead-letter-refused": ("✘", "red"),
    "emitted": ("→", "cyan"),
    "not-emitted": ("✘", "red"),
    "dead-lettered": ("☠", "yellow"),
    "buried": ("☠", "red"),
}


@click.command(
    cls=Command,
    examples="""
        knit story order-1
        # Ids are unique within a source only:
        knit story 42 --source /shop/orders
        knit story order-1 -o json
    """,
)
@click.argument("event_id")
@click.option("--source", default="", help="The event's source, where several send the same id.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@admin_option
def command(*, event_id: str, source: str, output: str, admin: str | None) -> int:
    """Tell what became of the event with this id: who wanted it, who did not and why, each attempt, and how it ended.

    The mesh remembers its recent past only; a story begins anew when the mesh does.
    """
    told = Admin(admin).get(f"/api/v1/stories/{event_id}", source=source)
    if output == "json":
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for line in timeline(told):
            click.echo(line)
    return 0


def timeline(told: Mapping[str, Any]) -> list[str]:
    """The story as lines, with colours: a head for each event of that id, then one line a step."""
    lines = []
    for event in told.get("events", ()):
        head = f"Event {told['id']}  type {event.get('type', '?')}  source {event.get('source', '?')}"
        lines.append(click.style(visible(head), bold=True))
    steps = told["steps"]
    start = _moment(steps[0]["at"])
    width = max((len(_place(step)) for step in steps), default=0)
    lines.append(f"began {steps[0]['at']}")
    lines += [_line(step, start, width) for step in steps]
    ending = _ending(steps)
    if ending:
        lines.append(ending)
    return lines


def _line(step: Step, start: datetime, width: int) -> str:
    mark, colour = _MARKS.get(step["what"], ("•", None))
    after_ms = (_moment(step["at"]) - start).total_seconds() * 1000
    text = visible(str(step.get("text", "")))
    took = f"  ({step['duration_ms']:.1f} ms)" if step.get("duration_ms") else ""
    pause = f"; tried again in {_seconds(step['pause_s'])}" if step.get("pause_s") and "again" not in text else ""
    said = f"{mark} {step['what']:<13}"
    return f"{_after(after_ms):>10}  {click.style(said, fg=colour)} {visible(_place(step)):<{width}}  {text}{pause}{took}".rstrip()


def _place(step: Step) -> str:
    """A step of a flow as people call it; what has a resource of its own by its key."""
    return str(step.get("origin") or step.get("subscription") or step.get("topic") or "")


def _ending(steps: Sequence[Step]) -> str:
    """What an event comes to that nobody got: the question people come with."""
    whats = {step["what"] for step in steps}
    if whats <= {"accepted", "not-matched"}:
        return "Nobody wanted it: no filter lets it through. The reasons are above."
    return ""


def _after(milliseconds: float) -> str:
    return f"+{milliseconds:.1f} ms" if milliseconds < 10_000 else f"+{_seconds(milliseconds / 1000)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def _moment(text: str) -> datetime:
    """RFC 3339 with nanoseconds, which datetime reads to the microsecond."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{head}.{fraction[:6]:0<6}+00:00")
