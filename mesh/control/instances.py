"""Which meshes run on this machine: one small file each, so that `knit get` finds the one that is meant.

A file belongs to the process whose number is its name; those of processes that are gone are ignored and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """admin, ingress: URLs without a trailing slash. dirs: absolute paths of what it runs."""

    pid: int
    admin: str
    ingress: str
    dirs: tuple[str, ...] = ()


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the files are: below XDG_RUNTIME_DIR, which ends with the login; else below the user's cache."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "knit" / "instances"
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "knit" / "instances"


@contextlib.contextmanager
def announce(instance: Instance, *, where: Path | None = None) -> Iterator[None]:
    """Let others find it while the context is open. Where no file can be written nobody finds it, and nothing else happens."""
    path = (where or folder()) / f"{instance.pid}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(instance)), encoding="utf-8")
        part.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def find(*, where: Path | None = None, cwd: Path | None = None) -> list[Instance]:
    """Those that run now; first the ones whose folders hold `cwd`, the closest first, then the youngest files."""
    found: list[tuple[int, float, Instance]] = []
    for path in (where or folder()).glob("*.json"):
        try:
            instance = _read(path)
            age = -path.stat().st_mtime
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if _is_alive(instance.pid):
            found.append((-_closeness(instance, cwd or Path.cwd()), age, instance))
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return [instance for _, _, instance in sorted(found, key=lambda row: row[:2])]


def _read(path: Path) -> Instance:
    value = json.loads(path.read_text(encoding="utf-8"))
    return Instance(
        pid=int(value["pid"]), admin=str(value["admin"]), ingress=str(value["ingress"]), dirs=tuple(value["dirs"])
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _closeness(instance: Instance, cwd: Path) -> int:
    """How many parts the closest of its folders shares with `cwd`; 0 where `cwd` is in none of them."""
    inside = [len(Path(path).parts) for path in instance.dirs if cwd.is_relative_to(path)]
    return max(inside, default=0)
