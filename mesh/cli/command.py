"""A click command whose help teaches by example."""

from __future__ import annotations

import textwrap
from typing import Any

import click


class Command(click.Command):
    """examples: lines as typed in a shell, comments begin with `#`; shown below the options as they are."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:  # noqa: ANN401 - handed on to click
        super().__init__(*args, **kwargs)
        self.examples = textwrap.dedent(examples).strip()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            formatter.write("\nExamples:\n" + textwrap.indent(self.examples, "  ") + "\n")
