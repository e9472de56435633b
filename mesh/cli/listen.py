"""`knit listen`: a subscriber for trying things out. It prints what comes, and fails, waits or replies on demand."""

from __future__ import annotations

import click

from mesh.cli.command import Command


@click.command(
    cls=Command,
    examples="""
        knit listen --port 9000
        # Is a failed delivery retried? Refuse the first two attempts of every event:
        knit listen --port 9000 --fail-first 2 --status 503
        # A slow subscriber; a subscriber that answers with an event:
        knit listen --port 9000 --delay 2.5
        knit listen --port 9000 --reply-type order.confirmed
        # Count only; end after 1000 events:
        knit listen --port 9000 --quiet --count 1000
    """,
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0: a free one, which is printed."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--fail-first", type=click.IntRange(0), default=0, help="Refuse the first N attempts of every event.")
@click.option(
    "--status",
    type=click.IntRange(200, 599),
    default=503,
    show_default=True,
    help="What a refused attempt is answered.",
)
@click.option("--delay", type=click.FloatRange(0), default=0.0, help="Seconds until each answer.")
@click.option("--reply-type", default="", help="Answer with an event of this type that carries the same data.")
@click.option("--count", type=click.IntRange(1), help="End after this many events.")
@click.option("-q", "--quiet", is_flag=True, help="Count, do not print events.")
def command(
    *,
    port: int,
    host: str,
    fail_first: int,
    status: int,
    delay: float,
    reply_type: str,
    count: int | None,
    quiet: bool,
) -> int:
    """Receive events on a port and print them, until Ctrl-C.

    Point the subscriber of a Trigger or Subscription at it: `uri: http://127.0.0.1:9000`.
    """
    from mesh.cli.listener import Behaviour, serve

    behaviour = Behaviour(
        fail_first=fail_first, status=status, delay_s=delay, reply_type=reply_type, count=count or 0, is_quiet=quiet
    )
    return serve(host, port, behaviour)
