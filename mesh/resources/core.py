"""The core group: ConfigMap, Secret, Service, Namespace, as far as the mesh reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.resources.meta import Resource

SERVICE_URL = "run.knit.dev/url"
"""On a Service: where it is reached from here."""
SERVICE_BUILTIN = "run.knit.dev/builtin"
"""On a Service: a subscriber that Knit brings along; `event-display` is the only one."""
BUILTINS = ("event-display",)


@dataclass(frozen=True, kw_only=True)
class ConfigMap(Resource):
    """Keys that begin with `_` are examples and not read."""

    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Secret(Resource):
    """Values as text, decoded; never shown, told or logged, nor by the admin API."""

    data: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Service(Resource):
    """Only its annotations are read."""


@dataclass(frozen=True, kw_only=True)
class Namespace(Resource):
    """Tolerated; its namespace in the key is ""."""
