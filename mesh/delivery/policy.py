"""How often and with which pauses a delivery is tried again. Pure. Knative DeliverySpec; see `pauses` for the series."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """A DeliverySpec with its defaults applied, times in seconds.

    retries: attempts after the first one. backoff: `linear`, `exponential` or "" (no policy given).
    series: `go` (MTChannelBasedBroker, InMemoryChannel, LogChannel) or `kafka`: the same words mean different pauses there.
    timeout_s: limit of one request; 0 means the process's default. retry_after_max_s: None = a Retry-After is not heeded.
    """

    retries: int = 0
    backoff: str = ""
    delay_s: float = 0.0
    timeout_s: float = 0.0
    retry_after_max_s: float | None = None
    series: str = "go"
