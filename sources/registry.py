"""Kind → source, one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesh.errors import ResourceError
from mesh.plan.model import SourceSpec
from mesh.runtime.clock import Clock
from sources.api import EmitLimits, Source
from sources.ping import PingSource

Make = Callable[[SourceSpec, Clock, EmitLimits], Source]

KINDS: Mapping[str, Make] = {
    "PingSource": PingSource,
}


def source_for(spec: SourceSpec, clock: Clock, *, limits: EmitLimits, kinds: Mapping[str, Make] = KINDS) -> Source:
    """Make the source of this spec.

    Raises:
        ResourceError: there is no such kind, or its options cannot be read.
    """
    make = kinds.get(spec.kind)
    if make is None:
        raise ResourceError(f"no source of kind {spec.kind}, expected one of {', '.join(sorted(kinds))}", path="kind")
    return make(spec, clock, limits)
