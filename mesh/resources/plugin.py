"""messaging.knit.dev: PluginChannel, a channel on a backend that another package brings. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from mesh.resources.duck import Flaw
from mesh.resources.messaging import BackingChannel, BackingSpec


class PluginChannelSpec(BackingSpec):
    """backend: its name in the entry-point group `knit.channels`. options go to it as they are."""

    backend: str = ""
    options: dict[str, bool | float | str] = Field(default_factory=dict)

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        yield from super().flaws(path)
        if not self.backend:
            yield Flaw(f"{path}.backend", "missing field")


@dataclass(frozen=True, kw_only=True)
class PluginChannel(BackingChannel):
    """spec is None where it could not be read."""

    spec: PluginChannelSpec | None
