"""Every example in a document runs: YAML is checked, commands are typed into a shell beside a running mesh."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mesh.cli.check import examine
from mesh.cli.main import cli
from tests.house.pages import LANGUAGES, ROOT, Step, anchors, blocks, documents, links, paths, shown, steps
from tests.support.mesh import Mesh

QUICKSTART = ROOT / "examples" / "quickstart"
README = ROOT / "README.md"
PAGES = [pytest.param(page, id=page.name) for page in documents()]
UNTIL_CTRL_C = ("knit run", "knit listen")
"""These run until they are ended: their arguments are read, no more. So are those of a repair, which wants the mesh stopped."""
ONLY_READ = (*UNTIL_CTRL_C, "knit repair")
NOT_INSTALLED = 'no backend named "sqlite" is installed'
"""The backend that docs/write-a-channel.md has the reader write."""
TYPED_ONCE = ("knit send", "curl -i")
"""These change something; all others are asked again until they show what they should, since an event takes its time."""


def is_typed(step: Step) -> bool:
    return not step.command.startswith(("make ", *ONLY_READ))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= set(LANGUAGES), [(b.line, b.language) for b in blocks(page)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: Path) -> None:
    assert [path for path in paths(page) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.id != "README.md"])
def test_yaml_of_a_page_is_in_order(page: Path, tmp_path: Path) -> None:
    write_world(page, tmp_path)
    snapshot = examine((tmp_path,), namespace="default")
    problems = [problem for problem in snapshot.problems if NOT_INSTALLED not in problem.message]
    assert [*problems, *snapshot.ignored] == []


def test_yaml_of_the_readme_is_that_of_the_example() -> None:
    example = [document for path in sorted(QUICKSTART.glob("*.yaml")) for document in read_yaml(path.read_text())]
    shown_there = [
        document for block in blocks(README) if block.language == "yaml" for document in read_yaml(block.text)
    ]
    assert shown_there
    for document in shown_there:
        assert document in example


def read_yaml(text: str) -> list[object]:
    return list(yaml.safe_load_all(text))


def write_world(page: Path, folder: Path) -> bool:
    """The YAML of a page as files; False where it has none."""
    found = [block for block in blocks(page) if block.language == "yaml"]
    for block in found:
        (folder / f"line-{block.line}.yaml").write_text(block.text, encoding="utf-8")
    return bool(found)


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_typed_are_right(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-events" / ".knit" / "worker-0").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for step in steps(page):
        if step.command.startswith("make "):
            made = subprocess.run(["make", "-n", *step.command.split()[1:]], cwd=ROOT, capture_output=True, check=False)
            assert made.returncode == 0, made.stderr
        elif not is_typed(step):
            _, name, *arguments = shlex.split(step.command)
            command = cli.get_command(cli.make_context("knit", [name]), name)
            assert command is not None
            command.make_context(name, arguments)


TYPED = [page for page in PAGES if any(is_typed(step) for page in page.values for step in steps(page))]  # type: ignore[arg-type]


@pytest.mark.parametrize("page", TYPED)
def test_commands_show_what_the_page_says(page: Path, tmp_path: Path) -> None:
    world = tmp_path / "dir"
    world.mkdir()
    if page == README or not write_world(page, world):
        shutil.copytree(QUICKSTART, world, dirs_exist_ok=True)
    with Mesh(folder=tmp_path) as mesh:
        shell = Shell(mesh, tmp_path)
        for step in steps(page):
            if is_typed(step):
                shell.follow(step, page)


class Shell:
    """Where the commands of a page are typed: `knit` and `curl` are there, and the mesh seems to be at its usual ports."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self._mesh = mesh
        self._folder = folder
        (folder / "examples").symlink_to(ROOT / "examples")
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        script(bin_folder / "knit", "mesh")
        if shutil.which("curl") is None:
            script(bin_folder / "curl", "tests.support.curl")
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        self._env = {**os.environ, "PATH": path, "KNIT_ADMIN": mesh.admin, "PYTHONPATH": str(ROOT)}

    def follow(self, step: Step, page: Path) -> None:
        where = f"{page.name}:{step.line}: {step.command}"
        said = [(0, "")]

        def holds() -> bool:
            said[0] = code, output = self._type(step.command)
            fails = bool(step.shows) and step.shows[0].startswith("Error: ")
            return bool(code) == fails and (not step.shows or shown(output, step.shows))

        if step.command.startswith(TYPED_ONCE):
            assert holds(), f"{where}\n{said[0]}"
            return
        try:
            self._mesh.wait_for(holds)
        except AssertionError as never:
            raise AssertionError(f"{where}\n{said[0][0]}\n{said[0][1]}") from never

    def _type(self, command: str) -> tuple[int, str]:
        """The exit code, and what came on standard output and standard error."""
        mesh = self._mesh
        command = command.replace("http://127.0.0.1:8080", mesh.ingress).replace("http://127.0.0.1:8081", mesh.admin)
        ended = subprocess.run(
            ["/bin/sh", "-c", command], cwd=self._folder, env=self._env, check=False, text=True, timeout=30,
            capture_output=True,
        )  # fmt: skip
        # curl's progress on standard error is no part of what the page shows.
        output = ended.stdout + (ended.stderr if command.startswith("knit ") else "")
        output = output.replace(mesh.ingress, "http://127.0.0.1:8080").replace(mesh.admin, "http://127.0.0.1:8081")
        return ended.returncode, output


def script(path: Path, module: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
    path.chmod(0o755)


def test_where_there_is_no_curl_the_stand_in_does(tmp_path: Path) -> None:
    with Mesh((QUICKSTART / "1-broker.yaml").read_text(), folder=tmp_path) as mesh:
        stand_in = [sys.executable, "-m", "tests.support.curl"]
        headers = ["-H", "content-type: application/cloudevents+json"]
        event = '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}'
        sent = subprocess.run(
            [*stand_in, "-i", f"{mesh.ingress}/default/default", *headers, "-d", event],
            cwd=ROOT, check=True, text=True, capture_output=True,
        )  # fmt: skip
        asked = subprocess.run(
            [*stand_in, "-s", f"{mesh.admin}/api/v1/stories/1?source=/s"],
            cwd=ROOT, check=True, text=True, capture_output=True,
        )  # fmt: skip
    assert sent.stdout.startswith("HTTP/1.1 202 Accepted\n")
    assert '"accepted"' in asked.stdout


@pytest.mark.parametrize(
    ("output", "expected", "is_shown"),
    [
        ("a  b\nc\n", ("a b", "c"), True),
        ("a b\nc\nd\n", ("a …", "…"), True),
        ("x\na b\n", ("…", "a b"), True),
        ("a c\n", ("a b",), False),
        ("a b\nc\n", ("a b",), False),
        ("", ("a b",), False),
    ],
)
def test_what_counts_as_shown(output: str, expected: tuple[str, ...], *, is_shown: bool) -> None:
    assert shown(output, expected) is is_shown
