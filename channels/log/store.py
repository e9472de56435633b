"""One LMDB environment on disk: opening it (or refusing), one batch as one transaction, reading. The owner of lmdb.

Folder: `data.mdb` and `lock.mdb` (LMDB's), `owner` (locked by the process that has it open, with its pid), `format`
(written once the store was made: where it stands, an absent or unreadable `data.mdb` is damage, never a fresh start).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

import lmdb

from channels.log import pages, record
from channels.log.positions import Batch
from mesh.errors import StoreError

DATABASES = ("events", "positions", "waits", "dead", "kept", "names", "meta")
FULL_AT = 0.95
"""Events may fill this part of the map; the rest is for settling them, which needs pages too (copy on write)."""
_MIN_BYTES = 1024 * 1024

StoreTrouble = lmdb.Error
Database = lmdb._Database  # noqa: SLF001 the only name its type has
MapFullError = lmdb.MapFullError


class Store:
    """The files of one worker. Opening and reading happen on the loop's thread, `apply` on the writer's."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max(max_bytes, _MIN_BYTES)
        self.used = 0
        """Bytes of pages in use after the last commit."""
        self._env: lmdb.Environment | None = None
        self._dbs: dict[str, Database] = {}
        self._owner: int | None = None

    @property
    def is_open(self) -> bool:
        return self._env is not None

    def open(self) -> None:
        """Lock and open, making a new store only where there has never been one.

        Raises:
            StoreError: another process has it, or what is there cannot be read.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock()
        except OSError as exc:
            raise StoreError(f"{self.path}: cannot be used as a store: {exc}") from exc
        try:
            self._recognise()
            self.reopen()
            self._stamp()
        except BaseException:
            self.close()
            raise

    def lock(self) -> None:
        """Take the folder for this process.

        Raises:
            StoreError: another one has it.
        """
        owner = os.open(self.path / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            pid = os.read(owner, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(owner)
            raise StoreError(f"{self.path}: this store is in use by process {pid}; stop it first") from exc
        os.ftruncate(owner, 0)
        os.write(owner, str(os.getpid()).encode())
        self._owner = owner

    def _recognise(self) -> None:
        """Refuse what is damaged; clear away what a crash left of a store that was never finished."""
        data, stamp = self.path / "data.mdb", self.path / "format"
        if stamp.exists():
            if stamp.read_bytes().strip() not in (record.FORMAT, b""):
                raise StoreError(f"{self.path}: written by another version of knit ({stamp.read_bytes()[:40]!r})")
            why = pages.find_damage(data, DATABASES)
            if why:
                raise unreadable(self.path, why)
        elif data.exists() and pages.find_damage(data, DATABASES):
            # No stamp: opening it the first time was cut short, and nothing was ever accepted into it.
            data.unlink()

    def reopen(self) -> None:
        """Open the environment anew, as LMDB wants it after an IO error.

        Raises:
            StoreError: it cannot be opened or is no store of ours.
        """
        self._close_environment()
        try:
            self._env = lmdb.open(
                str(self.path), map_size=self.max_bytes, max_dbs=len(DATABASES), meminit=False, max_readers=64, mode=0o600
            )  # fmt: skip
            # A finished store has all its tables: one that is missing is damage, not to be made anew in silence.
            is_new = not (self.path / "format").exists()
            self._dbs = {name: self._env.open_db(name.encode(), create=is_new) for name in DATABASES}
            with self._env.begin(write=True) as txn:
                kind = txn.get(b"format", db=self._dbs["meta"])
                if kind is None and is_new:
                    txn.put(b"format", record.FORMAT, db=self._dbs["meta"])
                elif kind != record.FORMAT:
                    raise unreadable(  # noqa: TRY301 the clause below closes what was opened
                        self.path, f"expected format {record.FORMAT!r}, found {kind!r}"
                    )
                self.used = self._pages_in_use(txn)
        except lmdb.Error as exc:
            self._close_environment()
            raise unreadable(self.path, str(exc)) from exc
        except BaseException:
            self._close_environment()
            raise

    def _stamp(self) -> None:
        stamp = self.path / "format"
        if stamp.exists() and stamp.stat().st_size:
            return
        with stamp.open("wb") as file:
            file.write(record.FORMAT + b"\n")
            file.flush()
            os.fsync(file.fileno())
        for folder in (self.path, self.path.parent):
            entry = os.open(folder, os.O_RDONLY)
            os.fsync(entry)
            os.close(entry)

    def _opened(self) -> lmdb.Environment:
        if self._env is None:
            raise lmdb.Error("the store is not open")
        return self._env

    def _close_environment(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env = None

    def close(self) -> None:
        self._close_environment()
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def remove(self) -> None:
        """Delete the files. The stamp goes first, so that a half-removed store is not taken for a damaged one."""
        self._close_environment()
        (self.path / "format").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def _pages_in_use(self, txn: lmdb.Transaction[bytes]) -> int:
        size = 0
        for name in ("events", "dead", "kept", "waits"):
            stat = txn.stat(self._dbs[name])
            size += stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
        return size

    def apply(self, batch: Batch) -> None:
        """Write a batch as one transaction and wait until the disk has it. Called on the writer's thread.

        Raises:
            lmdb.Error: nothing of it is written, or (EIO at the very end) all of it; writing it again is right in both.
        """
        dbs = self._dbs
        with self._opened().begin(write=True) as txn:
            if batch.entries:
                pack = record.KEY.pack
                rows = [
                    (pack(each.seq), record.encode_event(each.event, each.seq, each.arrived_ns, each.topic, each.ids()))
                    for each in batch.entries
                ]
                txn.cursor(dbs["events"]).putmulti(rows, append=True)
                txn.put(b"next_seq", pack(batch.next_seq), db=dbs["meta"])
            for key, row in batch.positions.items():
                txn.put(key, row, db=dbs["positions"])
            if batch.deletes:
                _delete_events(txn.cursor(dbs["events"]), batch.deletes)
            _put_or_delete(txn, dbs["waits"], batch.waits)
            if batch.dead or batch.kept or batch.names or batch.forgotten or batch.meta:
                self._apply_rare(txn, batch)
            used = self._pages_in_use(txn)
        self.used = used

    def _apply_rare(self, txn: lmdb.Transaction[bytes], batch: Batch) -> None:
        _put_or_delete(txn, self._dbs["dead"], batch.dead)
        _put_or_delete(txn, self._dbs["kept"], batch.kept)
        for key, row in batch.names.items():
            txn.put(key, row, db=self._dbs["names"])
            # Once more on a page that each commit writes anew: a repair without names could not tell whose an event is.
            txn.put(key, row, db=self._dbs["meta"])
        for key, row in batch.meta.items():
            txn.put(key, row, db=self._dbs["meta"])
        for ident in batch.forgotten:
            key = record.ID_KEY.pack(ident)
            txn.delete(key, db=self._dbs["names"])
            txn.delete(key, db=self._dbs["meta"])
            txn.delete(key, db=self._dbs["positions"])
            cursor = txn.cursor(self._dbs["waits"])
            more = cursor.set_range(key)
            while more and cursor.key()[:4] == key:
                more = cursor.delete() and bool(cursor.key())

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """A view of the last commit. Keep it short: pages freed meanwhile cannot be used again."""
        # The binding keeps an ended read transaction and renews it here: no reader slot is taken each time.
        with self._opened().begin(buffers=True) as txn:
            yield Reading(txn, self._dbs)


class Reading:
    """Rows as memoryviews, valid until the view is left."""

    __slots__ = ("_dbs", "_txn")

    def __init__(self, txn: lmdb.Transaction[memoryview], dbs: dict[str, Database]) -> None:
        self._txn = txn
        self._dbs = dbs

    def event(self, seq: int) -> memoryview | None:
        row: memoryview | None = self._txn.get(record.KEY.pack(seq), db=self._dbs["events"])
        return row

    def events(self, seq: int) -> Iterator[tuple[int, memoryview]]:
        """Records from `seq` on, in order."""
        cursor = self._txn.cursor(self._dbs["events"])
        if cursor.set_range(record.KEY.pack(seq)):
            unpack = record.KEY.unpack
            for key, row in cursor:
                yield unpack(key)[0], row

    def rows(self, name: str) -> Iterator[tuple[bytes, memoryview]]:
        for key, row in self._txn.cursor(self._dbs[name]):
            yield bytes(key), row

    def rows_before(self, name: str, key: bytes | None) -> Iterator[tuple[bytes, memoryview]]:
        """Rows before `key`, the last one first; None begins at the end."""
        cursor = self._txn.cursor(self._dbs[name])
        more = cursor.last() if key is None or not cursor.set_range(key) else cursor.prev()
        while more:
            yield bytes(cursor.key()), cursor.value()
            more = cursor.prev()

    def row(self, name: str, key: bytes) -> memoryview | None:
        found: memoryview | None = self._txn.get(key, db=self._dbs[name])
        return found

    def count(self, name: str) -> int:
        return int(self._txn.stat(self._dbs[name])["entries"])

    def last_key(self, name: str) -> bytes | None:
        cursor = self._txn.cursor(self._dbs[name])
        return bytes(cursor.key()) if cursor.last() else None


def unreadable(path: Path, why: str) -> StoreError:
    return StoreError(f"{path}: the store cannot be read: {why}. Salvage what is whole with: knit repair {path}")


def _delete_events(cursor: lmdb.Cursor[bytes], seqs: list[int]) -> None:
    """Delete these records; absent ones are passed over. Neighbours are found without a search of their own."""
    seqs.sort()
    pack = record.KEY.pack
    before = -2
    for seq in seqs:
        key = pack(seq)
        if (seq == before + 1 and cursor.key() == key) or cursor.set_key(key):
            cursor.delete()
            before = seq
        else:
            before = -2


def _put_or_delete(txn: lmdb.Transaction[bytes], db: Database, rows: dict[bytes, bytes | None]) -> None:
    for key, row in rows.items():
        if row is None:
            txn.delete(key, db=db)
        else:
            txn.put(key, row, db=db)


Report = Callable[[Batch, Exception | None], None]


class BatchWriter(Protocol):
    """Writes one batch at a time and reports each: the next comes only after the report."""

    def write(self, batch: Batch) -> None: ...
    def stop(self) -> None: ...


WriterFactory = Callable[[Store, Report], BatchWriter]


class Writer:
    """The one thread that writes a store. A batch goes in, the report comes back as one call on the loop's thread."""

    def __init__(self, store: Store, report: Report) -> None:
        self._store = store
        self._report = report
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=f"log-writer-{store.path.name}", daemon=True)
        self._thread.start()

    def write(self, batch: Batch) -> None:
        """Hand a batch over; the next one only after the report on this one."""
        self._queue.put(batch)

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            failure: Exception | None = None
            try:
                self._store.apply(batch)
            except Exception as exc:  # noqa: BLE001 the thread must report whatever it is; the partition judges it
                failure = exc
            self._report(batch, failure)
