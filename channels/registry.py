"""Backends by name: one line each. `mesh/app.py` is who asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from channels.api import Channel
from channels.kafka import KafkaChannel
from channels.log import LogChannel
from channels.memory import MemoryChannel
from mesh.runtime.clock import Clock
from mesh.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a worker offers its backends. path: the worker's own folder; adopt: folders of workers that are no more."""

    settings: Settings
    clock: Clock
    path: Path
    share: tuple[int, int] = (0, 1)
    adopt: Sequence[Path] = ()
    on_trouble: Callable[[str, dict[str, object]], None]


def _memory(site: Site) -> Channel:
    return MemoryChannel(site.settings.memory, clock=site.clock, share=site.share)


def _log(site: Site) -> Channel:
    return LogChannel(
        site.path, settings=site.settings.log, clock=site.clock, share=site.share, adopt=site.adopt,
        on_trouble=site.on_trouble,
    )  # fmt: skip


def _kafka(site: Site) -> Channel:
    return KafkaChannel(site.settings.kafka, clock=site.clock, share=site.share, on_trouble=site.on_trouble)


BACKENDS: Mapping[str, Callable[[Site], Channel]] = {
    "memory": _memory,
    "log": _log,
    "kafka": _kafka,
}
"""The names are those of `Topic.backend` in the plan."""
