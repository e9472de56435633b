"""How often and with which pauses a delivery is tried again. Pure. Knative DeliverySpec: retry, backoffPolicy, backoffDelay."""

from __future__ import annotations

from dataclasses import dataclass

FLOOR_S = 0.1
"""First pause where a policy names none. Knative's Go dispatcher retries at once then: a hot loop against a subscriber
that is down. Ours doubles from here up to FLOOR_MAX_S, so that a short hiccup is still bridged in a blink."""
FLOOR_MAX_S = 1.0
"""Where the doubling of FLOOR_S ends: who asked for no pause does not expect minutes."""
MAX_PAUSE_S = 10 * 365.25 * 86_400
"""Ten years. Series are not capped otherwise, as upstream, where the sum overflows and turns negative near 292 years."""
KAFKA_DELAY_S = 0.2
"""What Knative's Kafka controller fills in where `retry` is set without `backoffDelay`; its policy is exponential then."""

# 2^64 times a nanosecond is already longer than MAX_PAUSE_S, so further doubling changes nothing and cannot overflow.
_MAX_DOUBLINGS = 64
_BACKOFFS = ("", "linear", "exponential")
_SERIES = ("go", "kafka")


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

    def __post_init__(self) -> None:
        if self.retries < 0 or not self.delay_s >= 0 or not self.timeout_s >= 0:
            raise ValueError(f"retries and times are never negative: {self}")
        if self.backoff not in _BACKOFFS or self.series not in _SERIES:
            raise ValueError(f"backoff is one of {_BACKOFFS}, series one of {_SERIES}: {self}")

    def pause_s(self, attempt: int) -> float:
        """Return the seconds between failed attempt number `attempt` (the first is 1) and the next one.

        | series  | linear    | exponential | none given              |
        |---------|-----------|-------------|-------------------------|
        | `go`    | 0, d, 2d… | d, 2d, 4d…  | FLOOR_S, doubling, to FLOOR_MAX_S |
        | `kafka` | d, 2d, 3d…| 2d, 4d, 8d… | exponential, KAFKA_DELAY_S        |

        These are the series of the running senders, which users' YAML was tuned on; Knative's type documentation counts
        from one and its specification has a third reading. No jitter, as there. A delay of zero counts as none given.
        """
        if self.series == "kafka":
            return self._kafka_pause_s(attempt)
        if not self.backoff or not self.delay_s:
            return min(_doubled(FLOOR_S, attempt - 1), FLOOR_MAX_S)
        if self.backoff == "linear":
            return _linear(self.delay_s, attempt - 1)
        return _doubled(self.delay_s, attempt - 1)

    def _kafka_pause_s(self, attempt: int) -> float:
        delay_s = self.delay_s or KAFKA_DELAY_S
        return _linear(delay_s, attempt) if self.backoff == "linear" else _doubled(delay_s, attempt)

    def pauses_s(self) -> tuple[float, ...]:
        """The effective schedule, for people to look at: the pause before each retry, at most the first 20."""
        return tuple(self.pause_s(attempt) for attempt in range(1, min(self.retries, 20) + 1))


def _linear(delay_s: float, times: int) -> float:
    return min(delay_s * times, MAX_PAUSE_S)


def _doubled(delay_s: float, times: int) -> float:
    return min(delay_s * 2.0 ** min(times, _MAX_DOUBLINGS), MAX_PAUSE_S)
