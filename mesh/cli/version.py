"""`knit version`."""

from __future__ import annotations

import platform
from importlib.metadata import version

import click

from mesh.cli.command import Command


@click.command(cls=Command, examples="knit version")
def command() -> None:
    """Print the version of Knit and of Python."""
    click.echo(f"knit {version('knit-mesh')} (Python {platform.python_version()}, {platform.system()})")
