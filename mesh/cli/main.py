"""`knit`: finds the subcommand, and turns errors into words and exit codes (0 fine, 1 found problems, 2 usage or settings).

Imports click only: `knit --help` is there at once, a subcommand's module is loaded when it is called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import click

from mesh.cli.failure import Failure
from mesh.errors import KnitError, SettingsError

COMMANDS = {
    "run": "Run a mesh from folders of YAML.",
    "check": "Check folders of YAML without running them.",
    "get": "List resources and their status, like kubectl.",
    "send": "Send events, from flags or from a file.",
    "listen": "Receive events and print them; fail on demand.",
    "story": "Tell where an event went, and why.",
    "repair": "Salvage what is whole in a damaged store.",
    "completion": "Print the completion script for a shell.",
    "version": "Print the version.",
}
"""Name → what the list of commands says. The module has the same name and holds `command`."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"mesh.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean `knit {close[0]}`?" if close else "`knit --help` lists the commands"
            raise click.UsageError(f"there is no command `{args[0]}`; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(
            "\nExamples:\n"
            "  knit run examples/quickstart                      # a mesh on http://127.0.0.1:8080\n"
            "  knit send --broker default --type order.new --data '{\"id\": 1}'\n"
            "  knit get triggers\n"
            "  knit COMMAND --help                               # each with examples\n"
        )


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "--version", package_name="knit-mesh", prog_name="knit", message="%(prog)s %(version)s")
def cli() -> None:
    """Knit: a Knative-compatible event mesh. The same YAML, one command, nothing lost."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the command; always exits."""
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are told on standard error."""
    try:
        result = cli.main(args=None if argv is None else list(argv), prog_name="knit", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SettingsError as exc:
        Failure(str(exc)).show()
        return 2
    except KnitError as exc:
        Failure(str(exc)).show()
        return 1
    return result if isinstance(result, int) else 0
