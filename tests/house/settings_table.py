"""The table of settings in docs/operations.md, made from mesh/settings.py. `python -m tests.house.settings_table` writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import mesh.settings
from mesh.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
_PLACE = re.compile(r"(<!-- settings: .*? -->\n).*?(<!-- /settings -->)", re.DOTALL)


def table() -> str:
    """One row a setting: its variable, its default, what its docstring says."""
    rows = [
        f"| `KNIT_{group}_{name}`".upper() + f" | {_shown(default)} | {text} |"
        for group, name, default, text in settings()
    ]
    return "\n".join(["| variable | default | |", "|---|---|---|", *rows]) + "\n"


def settings() -> Iterator[tuple[str, str, object, str]]:
    """Group, name, default and text of each setting."""
    docs = _docstrings()
    for group in fields(Settings):
        values = getattr(Settings(), group.name)
        for setting in fields(values):
            text = docs[type(values).__name__, setting.name]
            yield group.name, setting.name, getattr(values, setting.name), text


def page_with_table(page: str) -> str:
    """The page with the table of now.

    Raises:
        ValueError: the page has no place for it.
    """
    written, places = _PLACE.subn(lambda place: place[1] + table() + place[2], page)
    if places != 1:
        raise ValueError(f"expected one place for the table of settings, found {places}")
    return written


def _docstrings() -> dict[tuple[str, str], str]:
    """(class, field) → the text that stands below the field, on one line."""
    tree = ast.parse(Path(mesh.settings.__file__).read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for field, below in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    assert isinstance(field.target, ast.Name)
                    found[node.name, field.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def _shown(default: object) -> str:
    if isinstance(default, str):
        return f"`{default}`"
    return f"{default:g}" if isinstance(default, float) else f"{default}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
