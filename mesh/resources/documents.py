"""Text → documents with the line of every field. Pure. YAML as Kubernetes reads it (its 1.1 booleans, no dates), and JSON.

A document that cannot be read does not take its neighbours with it: the text is cut at the document markers first, which
YAML allows nowhere inside a value. Values are built from the parser's events, so that depth and the growth through
aliases are bounded before memory is.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from mesh.resources.problem import Problem

MAX_DEPTH = 100
MAX_NODES = 200_000
"""Values of one document with every alias written out. A ConfigMap of 1 MiB has far fewer."""

_MARKER = re.compile(r"^(---|\.\.\.)(?=\s|$)", re.MULTILINE)
_ITEM = re.compile(r"items\[(\d+)\]")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_BASED = re.compile(r"[-+]?0(b[01_]+|o?[0-7_]+|x[0-9a-fA-F_]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NAMED_FLOATS = frozenset({".inf", ".Inf", ".INF", "+.inf", "-.inf", "-.Inf", "-.INF", ".nan", ".NaN", ".NAN"})


@dataclass(frozen=True)
class Document:
    """One Kubernetes object as it was written. `line` is where it begins, counted from 1."""

    file: str
    line: int
    value: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    def line_of(self, path: str) -> int:
        """The line of the field at `path` (`spec.filters[0].exact`), or of its nearest parent that is written down."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = re.sub(r"(\.?[^.\[\]]+|\[[^\[\]]*\])$", "", path) if path[-1] != "." else path[:-1]
        return self.line


class _UnreadableError(Exception):
    def __init__(self, message: str, line: int, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.line, self.hint = message, line, hint


def read_documents(text: str, *, file: str) -> tuple[list[Document], list[Problem]]:
    """Read all documents of a file; lists (`kind: List`) are taken apart. What cannot be read becomes a Problem with its line."""
    documents: list[Document] = []
    problems: list[Problem] = []
    text = text.removeprefix("\ufeff")
    for start, part in _parts(text, file):
        try:
            value, lines = _read_json(part) if _is_json(part, file) else _read_yaml(part)
            documents += _objects(value, lines, file=file, offset=start)
        except _UnreadableError as error:
            problems.append(
                Problem("error", error.message, hint=error.hint, file=file, line=max(error.line, 1) + start)
            )
    return documents, problems


def _parts(text: str, file: str) -> Iterator[tuple[int, str]]:
    """The text of each document and how many lines stand before it."""
    if file.endswith(".json"):
        if text.strip():
            yield 0, text
        return
    cuts = [0, *(match.start() for match in _MARKER.finditer(text)), len(text)]
    line = 0
    for begin, end in itertools.pairwise(cuts):
        part = text[begin:end]
        if part.startswith("..."):
            part = "   " + part[3:]
        if not _is_blank(part):
            yield line, part
        line += part.count("\n")


def _is_blank(part: str) -> bool:
    lines = part.removeprefix("---").splitlines()
    return all(not line.strip() or line.lstrip().startswith("#") or line.startswith("%") for line in lines)


def _is_json(part: str, file: str) -> bool:
    return file.endswith(".json") or (part.lstrip().startswith("{") and "\t" in part)


def _objects(value: object, lines: dict[str, int], *, file: str, offset: int) -> list[Document]:
    first = lines.get("", 1) + offset
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "plain text"
        raise _UnreadableError(
            f"expected a mapping with apiVersion, kind and metadata, got {what}",
            lines.get("", 1),
            "put `---` between objects, or use `kind: List` with `items`" if what == "a list" else "",
        )
    items = value.get("items")
    if not (isinstance(items, list) and str(value.get("kind", "")).endswith("List")):
        moved = {path: line + offset for path, line in lines.items()}
        return [Document(file, first, value, moved)]
    documents = []
    own_lines = _lines_of_items(lines, offset)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise _UnreadableError(f"items[{index}]: expected a mapping", lines.get(f"items[{index}]", 1))
        own = own_lines.get(index, {})
        documents.append(Document(file, own.get("", first), item, own))
    return documents


def _lines_of_items(lines: dict[str, int], offset: int) -> dict[int, dict[str, int]]:
    """The lines within each item of a list, by its number."""
    items: dict[int, dict[str, int]] = {}
    for path, line in lines.items():
        match = _ITEM.match(path)
        if match is not None:
            items.setdefault(int(match[1]), {})[path[match.end() :].removeprefix(".")] = line + offset
    return items


def _read_json(text: str) -> tuple[object, dict[str, int]]:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _UnreadableError(f"no valid JSON: {error.msg}", error.lineno) from None
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        raise _UnreadableError("no valid JSON: a number is too long, or it is nested too deeply", 1) from None
    return value, _json_lines(text)


def _json_lines(text: str) -> dict[str, int]:
    """The lines, read as YAML: JSON is that except for tabs, which cannot stand in its texts, and some escapes."""
    try:
        return _read_yaml(text.replace("\t", " "))[1]
    except _UnreadableError:
        return {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _UnreadableError(f'the key "{key}" is there twice', 1)
        result[key] = value
    return result


def _read_yaml(text: str) -> tuple[object, dict[str, int]]:
    reader = _Reader(text)
    try:
        return reader.read(), reader.lines
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error, text) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        position = getattr(error, "position", 0)
        raise _UnreadableError(f"no valid YAML: {error}".splitlines()[0], text.count("\n", 0, position) + 1) from None


def _unreadable(error: yaml.MarkedYAMLError, text: str) -> _UnreadableError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    indent = written[: len(written) - len(written.lstrip())]
    hint = "a tab stands where YAML wants spaces" if "\t" in indent else ""
    context = f"{error.context}: " if error.context else ""
    return _UnreadableError(f"no valid YAML: {context}{error.problem}", line, hint)


class _Reader:
    """Builds one document from the parser's events and remembers the line of each path."""

    def __init__(self, text: str) -> None:
        self._events = iter(yaml.parse(text, Loader=_LOADER))
        self.lines: dict[str, int] = {}
        self._anchors: dict[str, tuple[object, int]] = {}
        self._open: set[str] = set()
        self._nodes = 0

    def read(self) -> object:
        while not isinstance(next(self._events), yaml.DocumentStartEvent):
            pass
        value = self._node(next(self._events), "", 0)
        for _ in self._events:
            pass  # so that the parser complains of what follows the value
        return value

    def _node(self, event: yaml.Event, path: str, depth: int) -> object:
        line = _line(event)
        self.lines.setdefault(path, line)
        self._count(1, line)
        if depth > MAX_DEPTH:
            raise _UnreadableError(f"nested deeper than {MAX_DEPTH} levels", line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        anchor: str | None = event.anchor  # type: ignore[attr-defined]  # every node event has one
        before = self._nodes
        if anchor:
            self._open.add(anchor)
        value = self._value(event, path, depth)
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = value, self._nodes - before + 1
        return value

    def _value(self, event: yaml.Event, path: str, depth: int) -> object:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[object] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
            return items
        return self._mapping(path, depth)

    def _mapping(self, path: str, depth: int) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            key = self._key(event, line)
            where = f"{path}.{key}" if path else key
            self.lines[where] = line
            value = self._node(next(self._events), where, depth + 1)
            if key == "<<" and not getattr(event, "style", None):  # quoted, it is a name like any other
                self._merge(merged, value, line)
            elif key in own:
                raise _UnreadableError(f'the key "{key}" is there twice', line, "remove one of the two")
            else:
                own[key] = value
        return {**merged, **own} if merged else own

    def _merge(self, merged: dict[str, object], value: object, line: int) -> None:
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise _UnreadableError("`<<` takes a mapping, or a list of mappings", line)
            for key, inner in part.items():
                merged.setdefault(key, inner)

    def _key(self, event: yaml.Event, line: int) -> str:
        if isinstance(event, yaml.AliasEvent):
            value = self._alias(event, line)
        elif isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        else:
            raise _UnreadableError("a key must be a plain text", line, "is a text that begins with { or [ not quoted?")
        if isinstance(value, str):
            return value
        return json.dumps(value)

    def _alias(self, event: yaml.AliasEvent, line: int) -> object:
        if event.anchor in self._open:
            raise _UnreadableError(f"*{event.anchor} stands inside &{event.anchor}", line)
        if event.anchor not in self._anchors:
            raise _UnreadableError(f"*{event.anchor} has no anchor &{event.anchor} before it", line)
        value, size = self._anchors[event.anchor]
        self._count(size, line)
        return value

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _UnreadableError(f"more than {MAX_NODES} values with all aliases written out", line)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> object:
    if event.tag and not event.implicit[0]:
        return _tagged(event)
    if not event.implicit[0]:
        return event.value
    return _plain(event.value)


def _tagged(event: yaml.ScalarEvent) -> object:
    match (event.tag or "").removeprefix("tag:yaml.org,2002:"):
        case "str" | "!" | "binary":
            return event.value
        case "int" | "float" | "bool" | "null":
            return _plain(event.value)
        case _:
            raise _UnreadableError(f"the tag {event.tag} is not allowed", _line(event))


def _plain(text: str) -> object:
    if text in _NULLS:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] in "+-.0123456789":
        return _number(text)
    return text


def _number(text: str) -> float | int | str:
    if len(text) > 300:
        return text
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if _BASED.fullmatch(text):
        return _based(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text)
    if text in _NAMED_FLOATS:
        return float(text.replace(".", ""))
    return text


def _based(text: str) -> int | str:
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-")
    base = {"b": 2, "x": 16}.get(digits[1], 8)
    number = digits[2:] if digits[1] in "box" else digits[1:]
    return sign * int(number, base) if number else text
