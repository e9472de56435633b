"""The command itself: help at once, examples in every help, errors in words, exit codes."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mesh.cli.command import Command
from mesh.cli.main import COMMANDS, run
from mesh.errors import SettingsError, StoreError

Captured = pytest.CaptureFixture[str]


def command(name: str) -> Command:
    found = importlib.import_module(f"mesh.cli.{name}").command
    assert isinstance(found, Command)
    return found


def test_help_loads_click_and_nothing_of_the_mesh() -> None:
    code = (
        "import sys\nfrom mesh.cli.main import run\nrun(['--help'])\n"
        "heavy = {'pydantic', 'yaml', 'aiohttp', 'asyncio', 'rich', 'lmdb', 'prometheus_client', 'mesh.app'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    text = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert text.endswith("loaded: []\n")
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_teaches_by_example(name: str, capsys: Captured) -> None:
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"  knit {name}" in text


def examples() -> list[tuple[str, str]]:
    return [
        (name, line.partition("knit " + name)[2].partition(">")[0].partition("|")[0])
        for name in COMMANDS
        for line in command(name).examples.splitlines()
        if f"knit {name}" in line
    ]


@pytest.mark.parametrize(("name", "arguments"), examples())
def test_every_example_is_understood(
    name: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags and values; paths in the examples are made first."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(arguments)
    for word in words:
        if word.endswith((".json", ".ndjson")):
            Path(word.lstrip("@")).write_text("{}")
        elif not word.startswith("-") and word.startswith(("examples/", "my-events")):
            Path(word).mkdir(parents=True, exist_ok=True)
    with command(name).make_context(name, words) as context:
        assert context.args == []


def test_an_unknown_command_is_told_the_nearest(capsys: Captured) -> None:
    assert run(["chek", "."]) == 2
    assert "did you mean `knit check`?" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: Captured) -> None:
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "Commands:" in captured.out + captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("port 8080 is taken"), 2),
        (StoreError("the store cannot be read"), 1),
        (click.UsageError("no"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_words_and_exit_codes(
    error: BaseException, code: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(command("version"), "callback", fail)
    assert run(["version"]) == code
    captured = capsys.readouterr()
    assert str(error) in captured.err
    assert "Traceback" not in captured.err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command("version"), "callback", fail)
    with pytest.raises(ZeroDivisionError):
        run(["version"])


def test_both_spellings_of_version_agree(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    short = capsys.readouterr().out.strip()
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith(short)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str, capsys: Captured) -> None:
    assert run(["completion", shell]) == 0
    assert "_KNIT_COMPLETE" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_a_usage_error(capsys: Captured) -> None:
    assert run(["run", "no-such-folder"]) == 2
    assert "no-such-folder" in capsys.readouterr().err


def test_an_unknown_setting_stops_run_before_anything_starts(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNIT_RUN_DRAINS_S", "5")
    assert run(["run", str(tmp_path), "--port", "0", "--admin-port", "0"]) == 2
    assert "did you mean KNIT_RUN_DRAIN_S?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
