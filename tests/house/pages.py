"""The documents of the project, taken apart: fenced blocks, commands with what they show, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("console", "yaml", "text", "python", "toml")
"""console: `$ ` begins a command, what follows is what it shows. yaml: resources. text: looked at by nobody.
python, toml: what `tests/contract/test_example.py` and `tests/integration/test_plugin_channel.py` make a package of."""
ANYTHING = "…"
"""In what a command shows: any text; alone on a line, any number of lines."""

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:mesh|channels|sources|tests|loadtest|examples|docs)/[\w./-]*)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a console block, and the lines below it."""

    line: int
    command: str
    shows: tuple[str, ...]


def documents() -> list[Path]:
    """Every page of the project."""
    return [
        path for folder in (".", "docs", "loadtest", "tests/chaos") for path in sorted((ROOT / folder).glob("*.md"))
    ]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in _FENCE.finditer(text)]


def steps(page: Path) -> Iterator[Step]:
    """All commands of a page, in order."""
    for block in blocks(page):
        if block.language != "console":
            continue
        lines = block.text.splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
        if starts[:1] != [0]:
            raise ValueError(f"{page.name}:{block.line}: a console block begins with a command, `$ …`")
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            yield Step(block.line + start, lines[start][2:], tuple(lines[start + 1 : end]))


def shown(output: str, expected: tuple[str, ...]) -> bool:
    """Whether a command's output is what the document shows; how many spaces stand between columns does not matter."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == ANYTHING else _spaces(re.escape(line)).replace(re.escape(ANYTHING), ".*") + "\n"
        for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{_squeezed(line)}\n" for line in output.splitlines())) is not None


def _spaces(escaped: str) -> str:
    return re.sub(r"(\\ )+", r"\\ ", escaped.removesuffix("\\ "))


def _squeezed(line: str) -> str:
    return re.sub(r" +", " ", line.rstrip())


def links(page: Path) -> list[str]:
    """What the page links to, outside of code."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def paths(page: Path) -> set[str]:
    """Files and folders of the project that the page names, in backticks; `NAME` stands for one that is still to be written."""
    return {path for path in _PATH.findall(page.read_text(encoding="utf-8")) if "NAME" not in path}


def anchors(page: Path) -> set[str]:
    """The names its headings can be linked by."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
