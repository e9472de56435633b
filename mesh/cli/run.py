"""`knit run`: flags and environment → RunOptions; the mesh itself is `mesh/app`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mesh.cli.command import Command

_DIR = click.Path(exists=True, path_type=Path)


@click.command(
    cls=Command,
    examples="""
        knit run examples/quickstart
        knit run my-events --port 9000 --data-dir /var/lib/knit
        # Another port for each, printed on the first screen and written to a file once events are taken:
        knit run my-events --port 0 --admin-port 0 --ready-file ready.json
        # Reachable from other machines; the admin API stays on this one:
        knit run my-events --host 0.0.0.0
        KNIT_HTTP_MAX_EVENT_BYTES=4194304 knit run my-events
    """,
)
@click.argument("dirs", nargs=-1, type=_DIR, metavar="[DIR]...")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Ingress; 0: a free one.")
@click.option(
    "--admin-port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="Admin API; 0: a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the ingress listens on.")
@click.option("--workers", type=click.IntRange(0, 256), default=0, help="Processes.  [default: one per core]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where events and positions are kept.  [default: .knit in the first DIR]",
)
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Written once events are taken: JSON with the addresses.",
)
@click.option("--namespace", default="default", show_default=True, help="Of resources that name none.")
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), default="auto", show_default=True)
def command(  # noqa: PLR0913 - one argument a flag
    *,
    dirs: tuple[Path, ...],
    port: int,
    admin_port: int,
    host: str,
    workers: int,
    data_dir: Path | None,
    ready_file: Path | None,
    namespace: str,
    log_format: str,
) -> int:
    """Run a mesh from the YAML and JSON files below each DIR (or single files).

    Edits take effect within a second. An edit that is not valid changes nothing: the last good version of the file runs
    on, and `knit get` says why. Without DIR there is a Broker named default. Ctrl-C drains and ends; a second one ends at
    once. Settings are KNIT_* variables, such as KNIT_HTTP_MAX_EVENT_BYTES.
    """
    from mesh.app.options import RunOptions
    from mesh.app.parent import run
    from mesh.cli.environment import read_settings

    return run(
        RunOptions(
            dirs=dirs,
            port=port,
            admin_port=admin_port,
            host=host,
            workers=workers,
            data_dir=data_dir,
            ready_file=ready_file,
            namespace=namespace,
            log_format=log_format,
            settings=read_settings(os.environ),
        )
    )
