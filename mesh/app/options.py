"""What the parent was asked for, and what it tells a worker first. Light: both sides import it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mesh.settings import Settings

DATAPLANE = "mesh.app.dataplane"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `knit run` was asked for. workers 0: one per core; data_dir None: `.knit` in the first DIR, or in the current one."""

    dirs: tuple[Path, ...] = ()
    port: int = 8080
    admin_port: int = 8081
    host: str = "127.0.0.1"
    workers: int = 0
    data_dir: Path | None = None
    ready_file: Path | None = None
    namespace: str = "default"
    log_format: str = "auto"
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker is told first. `count`: how many there are; `adopt`: stores of workers that are no more."""

    index: int
    count: int
    host: str
    port: int
    data_dir: Path
    settings: Settings
    adopt: tuple[Path, ...] = ()
    live: bool = False
    tag_event_types: bool = True
