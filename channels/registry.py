"""Backends by name: one line each. `mesh/app.py` is who asks."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from channels.api import Channel, TopicHealth, TopicSpec
from channels.kafka import KafkaChannel
from channels.log import LogChannel
from channels.memory import MemoryChannel
from channels.redis_streams import RedisChannel, RedisSinks
from channels.redis_streams.probe import probe
from mesh.errors import SettingsError
from mesh.runtime.clock import Clock
from mesh.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a worker offers its backends. path: a folder of the worker's own, and for another package's backend of that alone; adopt: folders of workers that are no more."""

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


def _redis(site: Site) -> Channel:
    return RedisChannel(
        _own_name(site.path), settings=site.settings.redis, clock=site.clock, share=site.share,
        formers=[_own_name(path) for path in site.adopt], on_trouble=site.on_trouble,
    )  # fmt: skip


def _redis_sink(site: Site) -> Channel:
    return RedisSinks(settings=site.settings.redis, clock=site.clock, on_trouble=site.on_trouble)


def _own_name(folder: Path) -> str:
    """The name of a worker in a backend that many machines share: made once, kept in the worker's own folder."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "name"
    if not kept.exists():
        kept.write_text(f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}")
    return kept.read_text().strip()


def _probe_redis(spec: TopicSpec, settings: Settings, clock: Clock) -> Awaitable[TopicHealth]:
    return probe(spec, settings.redis, clock)


PROBES: Mapping[str, Callable[[TopicSpec, Settings, Clock], Awaitable[TopicHealth]]] = {
    "redis": _probe_redis,
    "redis-sink": _probe_redis,
}
"""Backends whose server can be asked whether it can be used."""

BACKENDS: Mapping[str, Callable[[Site], Channel]] = {
    "memory": _memory,
    "log": _log,
    "kafka": _kafka,
    "redis": _redis,
    "redis-sink": _redis_sink,
}
"""The names are those of `Topic.backend` in the plan."""

GROUP = "knit.channels"


def backends() -> Mapping[str, Callable[[Site], Channel]]:
    """Ours, and what other packages bring in the entry-point group `knit.channels`; a name of ours stays ours."""
    return {each.name: _Plugin(each) for each in entry_points(group=GROUP)} | dict(BACKENDS)


class _Plugin:
    """A backend of another package, loaded when a worker starts."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry

    def __call__(self, site: Site) -> Channel:
        path = site.path / self._entry.name
        path.mkdir(parents=True, exist_ok=True)
        try:
            make = self._entry.load()
        except (ImportError, AttributeError) as exc:
            raise SettingsError(
                f"the channel backend {self._entry.name} cannot be loaded ({self._entry.value}): {exc}"
            ) from exc
        channel: Channel = make(replace(site, path=path))
        return channel
