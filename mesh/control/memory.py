"""What a directory of files cannot say and an API server would: uid, generation, and since when a condition holds.

Kept in the data folder, so that a restart changes none of them. Eventing reference §17.13.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from mesh.errors import StoreError
from mesh.resources.meta import Condition, Key

FILE_NAME = "knit-resources.json"
"""Also the mark by which a data folder is known: `directory.py` looks for no resources in one."""
_VERSION = 1


@dataclass(slots=True)
class Record:
    """One resource. created and the times: RFC 3339, seconds, UTC. spec: digest of what counts for the generation.
    conditions: type → (status, since when). file: where it was declared. parts: keys of the plan that a resource of several
    parts stood for when it was last valid, so that they are not forgotten while it cannot be read."""

    uid: str
    generation: int
    created: str
    spec: str
    file: str
    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)


class Memory:
    """path None: nothing is kept beyond this process.

    Raises:
        StoreError: the file cannot be read.
    """

    def __init__(self, path: Path | None, *, new_uid: Callable[[], str] = lambda: str(uuid4())) -> None:
        self._path = path
        self._new_uid = new_uid
        self._written = ""
        self.records: dict[Key, Record] = _load(path) if path is not None and path.exists() else {}

    def observe(self, key: Key, *, spec: str, file: str, now: str) -> Record:
        """The record of a resource that is there now; a new spec raises its generation."""
        record = self.records.get(key)
        if record is None:
            record = self.records[key] = Record(self._new_uid(), 1, now, spec, file)
        elif record.spec != spec:
            record.generation += 1
            record.spec = spec
        record.file = file
        return record

    def transitions(self, key: Key, conditions: Sequence[Condition], *, now: str) -> Mapping[str, str]:
        """Condition type → since when it has the status it has now."""
        record = self.records[key]
        before = record.conditions
        record.conditions = {}
        for condition in conditions:
            status, since = before.get(condition.type, ("", now))
            record.conditions[condition.type] = condition.status, since if status == condition.status else now
        return {name: since for name, (_, since) in record.conditions.items()}

    def forget(self, key: Key) -> None:
        """It was deleted; one of the same name that comes later is another one."""
        del self.records[key]

    def save(self) -> None:
        """Write to disk what changed since the last time, as a whole and durably. Raises OSError."""
        if self._path is None:
            return
        rows = [_row(key, record) for key, record in sorted(self.records.items(), key=lambda item: item[0])]
        text = json.dumps({"version": _VERSION, "resources": rows}, separators=(",", ":"))
        if text != self._written:
            write_durably(self._path, text)
            self._written = text


def _row(key: Key, record: Record) -> list[Any]:
    # Not `asdict`, which copies every part: with 2 000 resources that took as long as compiling them.
    fields = {name: getattr(record, name) for name in Record.__slots__}
    return [key.group, key.kind, key.namespace, key.name, fields]


def timestamp(now_ns: int) -> str:
    """RFC 3339 in seconds, UTC."""
    return f"{datetime.fromtimestamp(now_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def write_durably(path: Path, text: str) -> None:
    """Replace a file as a whole, safe against a crash at any moment. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _load(path: Path) -> dict[Key, Record]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        records = {}
        for group, kind, namespace, name, fields in value["resources"]:
            fields["conditions"] = {kind_: (status, since) for kind_, (status, since) in fields["conditions"].items()}
            records[Key(group, kind, namespace, name)] = Record(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise StoreError(
            f"{path} cannot be read ({exc}); it holds uid and generation of each resource. Delete it to give new ones"
        ) from exc
    return records
