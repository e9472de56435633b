"""`knit check DIR`: compile without running, and tell everything that is wrong, at once."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from channels.api import TopicSpec
from channels.registry import PROBES, backends
from mesh.cli.command import Command
from mesh.cli.environment import read_settings
from mesh.control.directory import DirectoryWorld
from mesh.control.memory import Memory
from mesh.control.reconcile import Reconciler, Snapshot
from mesh.plan.compile import compile_plan
from mesh.plan.options import CompileOptions
from mesh.resources.problem import Problem
from mesh.runtime.clock import SystemClock
from sources.cron import check_schedule


@click.command(
    cls=Command,
    examples="""
        knit check examples/quickstart
        # In CI: exit code 1 where there is an error, and the list as JSON
        knit check my-events -o json
        knit check my-events --strict
    """,
)
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[DIR]...")
@click.option("--namespace", default="default", show_default=True, help="Of resources that name none.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--connect", is_flag=True, help="Also ask each server that events are kept on, such as Redis.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(*, paths: tuple[Path, ...], namespace: str, strict: bool, connect: bool, output: str) -> int:
    """Check the YAML and JSON files below each DIR (by default the current one) without running anything.

    Every error and warning is told at once, with file and line, the field, and what would work. Exit code 1 where there is
    an error.
    """
    snapshot = examine(paths or (Path(),), namespace=namespace)
    reached = asyncio.run(_ask_servers(snapshot)) if connect else []
    problems = sorted(
        (*snapshot.problems, *snapshot.ignored, *reached), key=lambda p: (p.file, p.line, p.path, p.message)
    )
    errors = sum(problem.severity == "error" for problem in problems)
    if output == "json":
        loaded = asdict(snapshot.loaded)
        click.echo(
            json.dumps({"problems": [asdict(p) for p in problems], "loaded": loaded}, indent=2, ensure_ascii=False)
        )
    else:
        for problem in problems:
            click.echo(_line(problem))
        click.echo(_sum(snapshot, errors, len(problems) - errors))
    return 1 if errors or (strict and problems) else 0


def examine(paths: tuple[Path, ...], *, namespace: str) -> Snapshot:
    """The files as a mesh would take them on its first start."""
    clock = SystemClock()
    options = CompileOptions(
        ingress_url="http://127.0.0.1:8080",
        admin_url="http://127.0.0.1:8081",
        check_schedule=check_schedule,
        backends=frozenset(backends()),
    )
    reconciler = Reconciler(
        lambda resources: compile_plan(resources, options), memory=Memory(None), clock=clock, namespace=namespace
    )
    return reconciler.reconcile(DirectoryWorld(paths, namespace=namespace, clock=clock).scan())


async def _ask_servers(snapshot: Snapshot) -> list[Problem]:
    """What is wrong with the servers that the topics are kept on; what is weak about one is a warning."""
    settings, clock = read_settings(os.environ), SystemClock()
    found = []
    for topic in snapshot.plan.topics:
        probe = PROBES.get(topic.backend)
        if probe is None:
            continue
        health = await probe(TopicSpec(topic.key, topic.options), settings, clock)
        if not health.is_up or health.reason != "Durable":
            severity: Literal["error", "warning"] = "warning" if health.is_up else "error"
            found.append(
                Problem(severity, health.message, "", "", "", 0, f"{topic.kind} {topic.namespace}/{topic.name}")
            )
    return found


def _line(problem: Problem) -> str:
    """`file:line: error: Trigger default/one: spec.filter.attributes: message`, the hint on a line of its own."""
    place = f"{problem.file}:{problem.line}: " if problem.line else f"{problem.file}: " if problem.file else ""
    severity = click.style(problem.severity, fg="red" if problem.severity == "error" else "yellow")
    words = [part for part in (problem.resource, problem.path, problem.message) if part]
    hint = f"\n    {click.style('hint', fg='cyan')}: {problem.hint}" if problem.hint else ""
    return f"{place}{severity}: {': '.join(words)}{hint}"


def _sum(snapshot: Snapshot, errors: int, warnings: int) -> str:
    loaded = snapshot.loaded
    kinds = ", ".join(f"{count} {kind}" for kind, count in loaded.kinds.items())
    found = (
        f"{loaded.documents} resource{'s' * (loaded.documents != 1)} in {loaded.files} file{'s' * (loaded.files != 1)}"
    )
    said = f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
    return f"{found}{f' ({kinds})' if kinds else ''}: {said}"
