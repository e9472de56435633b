"""Salvage a damaged store: what is whole goes into a new data file, the damaged one is kept beside it.

Reads the pages by itself (`pages.py`), never through LMDB, which trusts its file. First what the trees still reach; where
that is not everything, every page of the file, also freed ones: each row proves itself by its checksum, and what every
position has settled is left out again. What cannot be decided is delivered once more rather than lost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import lmdb

from channels.log import record
from channels.log.pages import PageFile, find_damage, leaves, trees_leaves, whole_rows
from channels.log.store import DATABASES, Database, Store
from mesh.errors import StoreError


@dataclass(slots=True)
class Report:
    """What a repair found. kept: where the damaged file lies now, None where nothing was damaged."""

    path: Path
    damage: str = ""
    events: int = 0
    subscriptions: int = 0
    dead_letters: int = 0
    rows_lost: int = 0
    searched_all_pages: bool = False
    kept: Path | None = None


_COUNTERS = {b"next_seq": 8, b"next_dead": 8, b"next_id": 4}


@dataclass(slots=True)
class _Salvage:
    """Rows by kind. Of several copies of a row the one that got further counts."""

    events: dict[int, bytes] = field(default_factory=dict)
    heads: dict[int, record.Head] = field(default_factory=dict)
    names: dict[int, bytes] = field(default_factory=dict)
    positions: dict[int, record.PositionRow] = field(default_factory=dict)
    waits: dict[tuple[int, int], record.WaitRow] = field(default_factory=dict)
    dead: dict[int, bytes] = field(default_factory=dict)
    lost: int = 0
    has_format: bool = False

    def take(self, key: bytes, row: bytes) -> None:
        """Sort a row in by its shape, if its checksum holds."""
        try:
            if key == b"format":
                self.has_format = row == record.FORMAT
            elif key in _COUNTERS:
                self.lost += len(row) != _COUNTERS[key]
            elif len(key) == 4:
                self._take_small(record.ID_KEY.unpack(key)[0], row)
            elif len(key) == 12:
                at = record.WAIT_KEY.unpack(key)
                wait = record.decode_wait(row)
                if at not in self.waits or wait.attempt >= self.waits[at].attempt:
                    self.waits[at] = wait
            elif len(key) == 8 and len(row) > 8 and not _is_free_list(row):
                self._take_large(record.KEY.unpack(key)[0], row)
        except (record.DamagedError, UnicodeDecodeError):
            self.lost += 1

    def _take_small(self, ident: int, row: bytes) -> None:
        if row[4:5] == b"N":
            record.decode_name(row)
            self.names[ident] = row
            return
        position = record.decode_position(row)
        known = self.positions.get(ident)
        if known is None or (position.frontier, position.settled) >= (known.frontier, known.settled):
            self.positions[ident] = position

    def damage(self) -> str:
        """What is wrong with the rows themselves, or ""."""
        if self.lost:
            return f"{self.lost} rows do not match their checksum"
        if not self.has_format:
            return "there is no word of its format"
        for ident, row in self.names.items():
            name = record.decode_name(row)
            if name.topic and ident not in self.positions:
                return f"the subscription {name.key} has no position"
        return ""

    def _take_large(self, number: int, row: bytes) -> None:
        """An event or a dead letter: what it proves to be. No single byte tells, since an event begins with its checksum."""
        try:
            head = record.decode_head(row, number)
        except record.DamagedError:
            record.decode_dead(row)
            self.dead[number] = row
            return
        record.decode_event(row)
        self.events[number], self.heads[number] = row, head

    def waits_for(self, ident: int, seq: int) -> bool:
        if ident not in self.names:
            return False
        position = self.positions.get(ident)
        if position is None or seq >= position.frontier or (ident, seq) in self.waits:
            return True
        return any(seq == flying for flying, _ in position.in_flight)


def _is_free_list(row: bytes) -> bool:
    """LMDB's own list of free pages, which a search of all pages comes across: a small count, then as many numbers."""
    return len(row) % 8 == 0 and 8 * int.from_bytes(row[:8], "little") < len(row)


def repair(path: Path, out: Callable[[str], None]) -> Report:
    """Make the store at `path` one that opens. Says what it does through `out`, a line at a time. May be run again.

    Raises:
        StoreError: a process has the store open, or there is no store here.
    """
    data = path / "data.mdb"
    if not path.is_dir() or not (data.exists() or (path / "format").exists()):
        raise StoreError(f"{path}: there is no store here")
    store = Store(path, 0)
    store.lock()
    try:
        report = Report(path, damage=find_damage(data, DATABASES))
        found = _read(data, report)
        report.damage = report.damage or found.damage()
        if not report.damage:
            out(f"{path}: nothing is damaged")
            return report
        out(f"{path}: {report.damage}")
        _write(path, found, report)
    finally:
        store.close()
    out(
        f"{path}: saved {report.events} events of {report.subscriptions} subscriptions, {report.dead_letters} dead letters"
    )
    out(f"{path}: {report.rows_lost} rows could not be saved; the damaged file is {report.kept}")
    return report


def _read(data: Path, report: Report) -> _Salvage:
    found = _Salvage()
    try:
        file = PageFile(data, salvage=True)
    except (OSError, ValueError):
        return found
    try:
        pages, whole = trees_leaves(file)
        for page in pages:
            for key, row in whole_rows(file, page):
                found.take(key, row)
        if report.damage or not whole:
            report.searched_all_pages = True
            for page in leaves(file):
                for key, row in whole_rows(file, page):
                    found.take(key, row)
    finally:
        file.close()
    return found


def _write(path: Path, found: _Salvage, report: Report) -> None:
    fresh = path / "repair"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    needed = {
        seq: row
        for seq, row in sorted(found.events.items())
        if any(found.waits_for(ident, seq) for ident in found.heads[seq].ids)
    }
    size = sum(map(len, needed.values())) + sum(map(len, found.dead.values()))
    env = lmdb.open(str(fresh), map_size=4 * size + 64 * 1024**2, max_dbs=len(DATABASES))
    dbs = {name: env.open_db(name.encode()) for name in DATABASES}
    with env.begin(write=True) as txn:
        for seq, row in needed.items():
            txn.put(record.KEY.pack(seq), row, db=dbs["events"], append=True)
        for ident, name in found.names.items():
            for table in ("names", "meta"):
                txn.put(record.ID_KEY.pack(ident), name, db=dbs[table])
            if record.decode_name(name).topic:
                txn.put(record.ID_KEY.pack(ident), _position(ident, needed, found), db=dbs["positions"])
        for (ident, seq), wait in found.waits.items():
            if ident in found.names and seq in needed:
                txn.put(record.WAIT_KEY.pack(ident, seq), record.encode_wait(wait), db=dbs["waits"])
        for number, row in found.dead.items():
            txn.put(record.KEY.pack(number), row, db=dbs["dead"])
        _write_meta(txn, dbs["meta"], found)
    env.close()
    report.events, report.dead_letters, report.rows_lost = len(needed), len(found.dead), found.lost
    report.subscriptions = sum(1 for name in found.names.values() if record.decode_name(name).topic)
    report.kept = _exchange(path, fresh)


def _position(ident: int, needed: dict[int, bytes], found: _Salvage) -> bytes:
    """The position with its counters made to agree with what was saved."""
    known = found.positions.get(ident) or record.PositionRow(0, 0, 0, [])
    in_flight = [
        (seq, attempt) for seq, attempt in known.in_flight if seq in needed and (ident, seq) not in found.waits
    ]
    waiting = sum(1 for seq in needed if ident in found.heads[seq].ids and found.waits_for(ident, seq))
    return record.encode_position(
        known.frontier,
        matched=known.settled + waiting,
        settled=known.settled,
        seqs=[seq for seq, _ in in_flight],
        attempts=[attempt for _, attempt in in_flight],
    )


def _write_meta(txn: lmdb.Transaction[bytes], db: Database, found: _Salvage) -> None:
    # Far beyond anything that was ever given out, so that no number is given out twice.
    frontiers = [position.frontier for position in found.positions.values()]
    next_seq = max([*found.events, *frontiers], default=0) + 1_000_000
    used_ids = [ident for head in found.heads.values() for ident in (head.topic, *head.ids)]
    next_id = max([*found.names, *used_ids], default=0) + 1000
    txn.put(b"format", record.FORMAT, db=db)
    txn.put(b"next_seq", record.KEY.pack(next_seq), db=db)
    txn.put(b"next_id", record.ID_KEY.pack(next_id), db=db)
    txn.put(b"sweep", b"1", db=db)


def _exchange(path: Path, fresh: Path) -> Path | None:
    """Put the new file in place of the damaged one at a stroke; a crash leaves one or the other."""
    data = path / "data.mdb"
    kept: Path | None = None
    if data.exists():
        kept = next(name for n in count(1) if not (name := path / f"data.mdb.damaged-{n}").exists())
        os.link(data, kept)
    os.replace(fresh / "data.mdb", data)
    (path / "format").write_bytes(record.FORMAT + b"\n")
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    shutil.rmtree(fresh)
    return kept
