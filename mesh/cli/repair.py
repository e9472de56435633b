"""`knit repair PATH`."""

from __future__ import annotations

from pathlib import Path

import click

from mesh.cli.command import Command


@click.command(
    cls=Command,
    examples="""
        # The path is in the message of the mesh that did not start:
        knit repair my-events/.knit/worker-0
    """,
)
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(path: Path) -> int:
    """Salvage what is whole in the damaged store at PATH.

    Stop the mesh first. What is whole goes into a new store in the same place; the damaged file is kept beside it. What
    cannot be decided is delivered once more rather than lost. Exit code 1: something was damaged.
    """
    from channels.log.repair import repair

    report = repair(path, click.echo)
    return 1 if report.kept is not None else 0
