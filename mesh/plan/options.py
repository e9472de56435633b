"""What compiling has to know of the process around it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ScheduleCheck = Callable[[str, str], tuple[str, str] | None]
"""(schedule, timezone) → (`schedule` or `timezone`, message) of what cannot be read, or None."""


def _any_schedule(_schedule: str, _timezone: str) -> tuple[str, str] | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """ingress_url, admin_url: without a trailing slash; an empty admin_url means that there is no built-in subscriber.

    default_backend: `log` or `memory`, where no ConfigMap says which channel stands behind a Broker or Channel.
    backends: those that are installed; a PluginChannel may name any of them.
    parallelism: deliveries in flight per Trigger or Subscription where no annotation says otherwise.
    """

    ingress_url: str
    admin_url: str = ""
    default_backend: str = "log"
    parallelism: int = 100
    check_schedule: ScheduleCheck = _any_schedule
    backends: frozenset[str] = frozenset({"log", "memory", "redis", "redis-sink"})
    cluster_domain: str = "cluster.local"
    system_namespace: str = "knative-eventing"
