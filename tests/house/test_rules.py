"""Rules of the house that no linter has."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.pages import ROOT

LIMIT = 450
LARGE = {
    "channels/contract/suite.py": "every promise of one Protocol",
    "channels/log/channel.py": "one Protocol, one class; what could part (partition, feeder, sweeper, positions) has parted",
    "channels/log/partition.py": "the hot path of the log in one piece",
    "mesh/http/inbound.py": "one connection's state machine, whose states would be scattered otherwise",
    "mesh/plan/hubs.py": "one builder for each kind that holds or takes events",
    "mesh/resources/decode.py": "one reader for each kind",
    "tests/integration/test_http_client.py": "every fault of one peer",
    "tests/integration/test_http_server.py": "every fault of one peer",
    "tests/unit/plan/test_flows.py": "two kinds that compile alike",
    "tests/unit/resources/test_decode.py": "one table of what is refused and how",
}
"""Files beyond LIMIT lines, and why."""
NO_NAMES = {"utils", "util", "helpers", "common", "misc"}
HEAVY = (
    "redis",
    "pytest",
    "pydantic",
    "yaml",
    "aiohttp",
    "rich",
    "click",
    "lark",
    "structlog",
    "prometheus_client",
    "watchfiles",
)
PUBLIC = {
    "channels.contract": {"Harness"},
    "channels.kafka": {"KafkaChannel"},
    "channels.log": {"LogChannel"},
    "channels.redis_streams": {"RedisChannel", "RedisSinks"},
    "mesh.filters.cesql": {"Expression", "ParseError", "Problem", "compile_expression"},
}
"""What packages hand out. A change here is a line in CHANGELOG.md."""

# Put together here, so that this file does not hold what it looks for.
MACHINE = re.compile(
    "|".join(["/" + "work/", "/" + "root/", "/" + "tmp/" + "lab", "/" + r"(home|Users)/\w+/", r"\." + "library"])
)


def tracked(pattern: str = "*") -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", pattern], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


MODULES = tracked("*.py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_are_small_or_say_why() -> None:
    large = {name_of(path) for path in MODULES if path.read_bytes().count(b"\n") > LIMIT}
    assert large == set(LARGE)


def test_no_file_is_named_for_having_no_subject() -> None:
    parts = {part for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not parts & NO_NAMES


@pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in tracked("*__init__.py")])
def test_packages_hold_no_code(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_dunder = isinstance(node, ast.Assign) and all(
            isinstance(target, ast.Name) and target.id in ("__all__", "__version__") for target in node.targets
        )
        assert is_docstring or is_dunder or isinstance(node, ast.ImportFrom), ast.unparse(node)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in MODULES
        if (tree := ast.parse(path.read_text(encoding="utf-8"))).body and not ast.get_docstring(tree)
    ]
    assert silent == []


def test_nothing_speaks_of_the_machine_it_was_written_on() -> None:
    told = []
    for path in tracked():
        text = path.read_bytes().decode("utf-8", "replace")
        told += [f"{name_of(path)}: {found[0]}" for found in MACHINE.finditer(text)]
    assert told == []


def test_a_worker_imports_nothing_heavy() -> None:
    program = f"import sys, mesh.app.dataplane; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_packages_hand_out_what_is_agreed() -> None:
    packages = [path.parent for path in tracked("*__init__.py") if path.relative_to(ROOT).parts[0] != "tests"]
    handed_out = {}
    for package in packages:
        name = ".".join(package.relative_to(ROOT).parts)
        names = getattr(importlib.import_module(name), "__all__", None)
        if names is not None:
            handed_out[name] = set(names)
    assert handed_out == PUBLIC
