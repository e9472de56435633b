"""`knit send`: events to a broker, a channel or any URL, with the status of each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from uuid import uuid4

import click

from mesh.cli.admin import Admin, admin_option
from mesh.cli.command import Command
from mesh.cli.failure import Failure
from mesh.cli.readevents import make_event, read_events
from mesh.cli.sending import Outgoing, deliver
from mesh.errors import EventError
from mesh.events.event import Event
from mesh.runtime.clock import SystemClock
from mesh.telemetry.story import timestamp

DEFAULT_SOURCE = "/knit/send"
DEFAULT_TYPE = "dev.knit.send"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f'expected NAME=VALUE, got "{text}"', param_hint="--ext")
    return name, value


@click.command(
    cls=Command,
    examples="""
        knit send --broker default --type order.new --data '{"id": 1}'
        knit send http://127.0.0.1:8080/default/default --type order.new --id order-1 --ext tenant=acme
        knit send --broker shop/orders --data @order.json --mode structured
        # 1000 events, 100 a second, up to 10 at a time:
        knit send --broker default --count 1000 --rate 100 --parallel 10
        # A JSON array or one event a line, from a file or from standard input:
        knit send --broker default --file events.ndjson
        cat events.json | knit send --broker default --file - --mode batch
    """,
)
@click.argument("url", required=False)
@click.option("--broker", metavar="[NS/]NAME", help="A Broker of the running mesh, in place of URL.")
@click.option("--type", "event_type", default=DEFAULT_TYPE, show_default=True)
@click.option("--source", default=DEFAULT_SOURCE, show_default=True)
@click.option(
    "--id", "event_id", default="", help="With --count above 1 a number is added.  [default: a new UUID each]"
)
@click.option("--subject", default="")
@click.option("--data", default="", help="The data; @FILE takes it from a file.")
@click.option("--content-type", default="", help="Of the data.  [default: JSON where it is JSON, else text/plain]")
@click.option("--ext", multiple=True, metavar="NAME=VALUE", help="An extension attribute; may be repeated.")
@click.option(
    "--file", "file", type=click.File("rb"), help="Events as a JSON array or one a line, in place of one from flags."
)
@click.option("--mode", type=click.Choice(["binary", "structured", "batch"]), default="binary", show_default=True)
@click.option(
    "--count", type=click.IntRange(1), default=1, show_default=True, help="How many events to make from the flags."
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Requests a second.  [default: as fast as answered]"
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Requests under way; 1 keeps the order.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds for one answer.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print what was refused and the sum only.")
@admin_option
def command(  # noqa: PLR0913 - one argument a flag
    *,
    url: str | None,
    broker: str | None,
    event_type: str,
    source: str,
    event_id: str,
    subject: str,
    data: str,
    content_type: str,
    ext: tuple[str, ...],
    file: Iterable[bytes] | None,
    mode: str,
    count: int,
    rate: float | None,
    parallel: int,
    timeout: float,
    quiet: bool,
    admin: str | None,
) -> int:
    """Send one event made from flags, or the events of a file, to URL or to a --broker.

    Without either, the one Broker of the running mesh is taken. 202 means that the event is safe: what subscribers answer
    comes back as events to those who want them (a Trigger, `knit listen`), not in the answer to this request. For an answer
    to a request there is Knative's RequestReply. Exit code 1: at least one event was refused.
    """
    if file is not None and (count > 1 or data or event_id):
        raise click.UsageError("--file brings its own events: --count, --data and --id do not go with it")
    target = url or _broker_url(Admin(admin), broker)
    attributes = {"type": event_type, "source": source, "subject": subject, **dict(map(_pair, ext))}
    if file is not None:
        events: Iterator[Event] = read_events(_text(file))
    else:
        events = _from_flags(attributes, _data(data), event_id, content_type=content_type, count=count)
    total = None if file is not None else count
    outgoing = Outgoing(target, mode, rate=rate or 0.0, parallel=parallel, timeout_s=timeout)
    try:
        sent = deliver(outgoing, events, total=total, quiet=quiet)
    except EventError as exc:
        raise Failure(str(exc), "an event needs id, source and type; names of attributes are a-z and 0-9") from exc
    return 1 if sent.refused else 0


def _from_flags(
    attributes: dict[str, str], data: bytes, event_id: str, *, content_type: str, count: int
) -> Iterator[Event]:
    clock = SystemClock()
    for number in range(1, count + 1):
        own_id = f"{event_id}-{number}" if event_id and count > 1 else event_id or str(uuid4())
        at = {"id": own_id, "time": timestamp(clock.now_ns())}
        yield make_event(at | attributes, data, content_type=content_type)


def _data(given: str) -> bytes:
    if not given.startswith("@"):
        return given.encode("utf-8", "surrogateescape")
    try:
        return sys.stdin.buffer.read() if given == "@-" else Path(given[1:]).read_bytes()
    except OSError as exc:
        raise Failure(f"{given[1:]}: {exc.strerror}", "--data @FILE takes the data from a file") from exc


def _text(file: Iterable[bytes]) -> str:
    try:
        return b"".join(file).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise Failure(
            f"the file is no UTF-8 text: byte {exc.start}", "events are JSON, an array or one a line"
        ) from exc


def _broker_url(admin: Admin, broker: str | None) -> str:
    """The address of the Broker that is meant, from the mesh that runs."""
    items = admin.get("/api/v1/resources", kind="Broker")["items"]
    if broker is not None:
        namespace, _, name = broker.rpartition("/")
        items = [item for item in items if item["metadata"]["name"] == name]
        items = [item for item in items if item["metadata"]["namespace"] == (namespace or "default")]
        if not items:
            raise Failure(f"there is no Broker {namespace or 'default'}/{name}", "`knit get brokers -A` lists them")
    if len(items) != 1:
        names = ", ".join(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in islice(items, 10))
        hint = f"say which one: --broker {names}" if items else "give a URL, or declare a Broker"
        raise click.UsageError(f"{'several Brokers run' if items else 'no Broker runs'}; {hint}")
    url = items[0].get("status", {}).get("address", {}).get("url")
    if not url:
        raise Failure("the Broker has no address yet", "`knit get brokers -A -o wide` says why")
    return str(url)
