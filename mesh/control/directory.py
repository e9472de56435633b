"""World 1: a local directory of YAML and JSON files. Why an edit is, or is not, picked up.

All `*.yaml`, `*.yml` and `*.json` below each folder count, except in hidden folders (`.git`, `.knit`, `.status`), in
`node_modules` and in a mesh's data folder. Folders are watched one by one and not as trees, so that the busy store in a
data folder wakes nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from mesh.control.memory import FILE_NAME
from mesh.errors import SettingsError
from mesh.runtime.clock import Clock

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES = 16 * 1024**2
MAX_FILES = 20_000
"""Of one folder given. More is most likely the wrong folder."""

_SKIPPED = frozenset({"node_modules", FILE_NAME})
_QUIET_S = 0.1
"""A change is taken once the files have not changed for so long: editors replace a file in steps, and a file half written
could look as if its objects were deleted."""
_MAX_ROUNDS = 6
_STEP_MS = 50
_DEBOUNCE_MS = 300
_LOOK_AGAIN_MS = 10_000
"""Without any notice all is looked at this often: some network file systems send none."""
_POLL_S = 0.5
"""Where there are no notices at all. Our own look, because that of the library knows whole seconds only."""
_RACY_NS = 2 * 10**9
"""A file changed less than this ago may change again without a new time stamp: its content is read once more."""

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class FileText:
    """A file as it is now. digest: of its bytes. error: why it cannot be read, and then `text` is ""."""

    path: str
    digest: str
    text: str = field(default="", compare=False, repr=False)
    error: str = ""


@dataclass(slots=True)
class _Seen:
    stamp: Stamp | None
    file: FileText


class DirectoryWorld:
    """The files below some folders, and single files. `namespace` is where objects belong that name none.

    Raises:
        SettingsError: a path is not there at the start.
    """

    def __init__(self, paths: Sequence[Path], *, namespace: str = "default", clock: Clock) -> None:
        for path in paths:
            if not path.exists():
                raise SettingsError(f"{path}: there is no such file or folder")
        self.namespace = namespace
        self._paths = list(paths)
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._of_root: dict[Path, list[str]] = {}
        self._folders: dict[str, tuple[int, int]] = {}

    def scan(self) -> tuple[FileText, ...]:
        """All files now, sorted by path. A file that did not change is not read again."""
        found: dict[str, FileText] = {}
        self._folders = {}
        files: set[tuple[int, int]] = set()
        for root in self._paths:
            found |= self._scan_root(root, files)
        self._seen = {path: seen for path, seen in self._seen.items() if path in found}
        return tuple(found[path] for path in sorted(found))

    async def changes(self) -> AsyncIterator[tuple[FileText, ...]]:
        """All files: at once, and again after each change, until cancelled."""
        last: tuple[FileText, ...] | None = None
        while True:
            last_folders = await asyncio.to_thread(self._find_folders)
            with _watch(list(last_folders)) as notify:
                # Looked at only now: what changes from here on is noticed.
                while True:
                    files = await self.settled(last)
                    if files != last:
                        last = files
                        yield files
                    if self._folders != last_folders:
                        break
                    await _notice(notify)

    def _find_folders(self) -> dict[str, tuple[int, int]]:
        self.scan()
        return self._folders

    async def settled(self, last: tuple[FileText, ...] | None = None) -> tuple[FileText, ...]:
        """All files, once they stand still; the first time too, since a file that is just being written looks as if its objects
        were deleted. `last`: what they were before, to return at once where nothing changed."""
        files = await asyncio.to_thread(self.scan)
        for _ in range(_MAX_ROUNDS):
            if files == last:
                return files
            await asyncio.sleep(_QUIET_S)
            again = await asyncio.to_thread(self.scan)
            if again == files:
                return files
            files = again
        return files

    def _scan_root(self, root: Path, files: set[tuple[int, int]]) -> dict[str, FileText]:
        if not root.exists():
            # A volume that is not mounted for a moment must not look like the deletion of everything.
            kept = {path: self._seen[path].file for path in self._of_root.get(root, ()) if path in self._seen}
            return kept | {str(root): FileText(str(root), "", error="it is gone; what was last read from it runs on")}
        found: dict[str, FileText] = {}
        for path, status in self._candidates(root):
            identity = status.st_dev, status.st_ino
            if identity in files:
                continue
            files.add(identity)
            if len(found) >= MAX_FILES:
                found[str(root)] = FileText(str(root), "", error=f"it holds more than {MAX_FILES} YAML and JSON files")
                break
            file = self._read(path, status)
            if file is not None:
                found[path] = file
        self._of_root[root] = list(found)
        return found

    def _candidates(self, root: Path) -> Iterator[tuple[str, os.stat_result]]:
        if root.is_dir():
            yield from self._walk(str(root), set())
            return
        parent = root.absolute().parent
        status = parent.stat()
        self._folders[str(parent)] = status.st_dev, status.st_ino
        yield str(root), root.stat()

    def _walk(self, folder: str, above: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result]]:
        """Files below a folder, links followed; `above` are the folders on the way here, so that a link's loop ends."""
        try:
            status = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            return
        identity = status.st_dev, status.st_ino
        if identity in above or (above and any(entry.name == FILE_NAME for entry in entries)):
            return  # a loop, or a data folder; a folder that was asked for is never passed over
        self._folders[folder] = identity
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            if entry.is_dir():
                yield from self._walk(entry.path, above | {identity})
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                try:
                    yield os.path.normpath(entry.path), entry.stat()
                except FileNotFoundError:
                    continue  # deleted a moment ago, or a link to nothing

    def _read(self, path: str, status: os.stat_result) -> FileText | None:
        stamp: Stamp = status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
        seen = self._seen.get(path)
        if seen is not None and seen.stamp == stamp:
            return seen.file
        try:
            file = _file_text(path, status.st_size)
        except FileNotFoundError:
            return None
        if seen is not None and seen.file == file:
            file = seen.file
        is_racy = self._clock.now_ns() - status.st_mtime_ns < _RACY_NS
        self._seen[path] = _Seen(None if is_racy else stamp, file)
        return file


def _file_text(path: str, size: int) -> FileText:
    if size > MAX_FILE_BYTES:
        return FileText(path, f"{size}", error=f"{size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as exc:
        return FileText(path, "", error=f"cannot be read: {exc.strerror}")
    digest = hashlib.sha256(raw).hexdigest()
    try:
        return FileText(path, digest, raw.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        return FileText(path, digest, error=f"no UTF-8 text: byte {exc.start} is 0x{raw[exc.start]:02x}")


def _watch(folders: Sequence[str]) -> AbstractContextManager[RustNotify | None]:
    """Notices for these folders, not for what is below them; None where the system has none left to give."""
    if os.environ.get("WATCHFILES_FORCE_POLLING"):
        return nullcontext()
    try:
        return RustNotify(list(folders), False, False, 0, False, True)  # noqa: FBT003 - its arguments have no names
    except (OSError, WatchfilesRustInternalError):  # also where a folder went away meanwhile
        return nullcontext()


async def _notice(notify: RustNotify | None) -> None:
    """Return after a change, and after a while in any case."""
    if notify is None:
        await asyncio.sleep(_POLL_S)
        return
    stop = threading.Event()
    waiting = asyncio.get_running_loop().run_in_executor(
        None, notify.watch, _DEBOUNCE_MS, _STEP_MS, _LOOK_AGAIN_MS, stop
    )
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        # The thread looks at `stop` every step; leaving earlier would close what it still uses.
        stop.set()
        await waiting
        raise
