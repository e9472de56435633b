"""`knit completion SHELL`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mesh.cli.command import Command


@click.command(
    cls=Command,
    examples="""
        knit completion bash > ~/.local/share/bash-completion/completions/knit
        knit completion zsh > ~/.zfunc/_knit
        knit completion fish > ~/.config/fish/completions/knit.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for a SHELL."""
    from mesh.cli.main import cli

    completion = get_completion_class(shell)
    assert completion is not None  # click knows these three
    click.echo(completion(cli, {}, "knit", "_KNIT_COMPLETE").source())
