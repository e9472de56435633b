"""Why was my event retried? The next step after an attempt at a delivery. Pure.

Knative data plane, "what counts as delivered" and "retries": a 2xx is delivered; 404, 408, 409, 429, every status from 500
up and every attempt without an answer are tried again while retries are left; all else is final at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.delivery.policy import DeliveryPolicy

# The 4xx that speak of the moment, not of the event; the rest cannot mend. 404: a pod that is just becoming ready.
_PASSING = frozenset({404, 408, 409, 429})
# Only these two may name a pause (RFC 9110 section 10.2.3, Knative `retryAfterMax`).
_NAMES_A_PAUSE = frozenset({429, 503})
# RFC 9110 section 5.6.7: the one form to send, and the two old ones a recipient must still read.
_DATE_FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")


@dataclass(frozen=True, slots=True)
class Done:
    """Delivered."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again in `delay_s` seconds."""

    delay_s: float
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """To the dead-letter sink, or nowhere."""

    why: str


Decision = Done | RetryIn | GiveUp


def decide(policy: DeliveryPolicy, outcome: Outcome, attempt: int, *, now_s: float = 0.0) -> Decision:
    """Choose the next step after attempt number `attempt` (the first is 1).

    `now_s` is the wall clock in seconds since 1970; it is only needed to read a Retry-After that is a date.
    """
    match outcome:
        case Answer(status) if 200 <= status < 300:
            return Done()
        case Answer(status):
            why = f"answered {status}"
            if status < 500 and status not in _PASSING:
                return GiveUp(f"{why}, which is final")
        case Unreachable():
            why = outcome.why or outcome.kind
        case _:
            assert_never(outcome)
    if attempt > policy.retries:
        return GiveUp(f"{why}, and {_spent(policy.retries)}")
    own_s = policy.pause_s(attempt)
    asked_s = _asked_pause_s(policy, outcome, now_s)
    if asked_s > own_s:
        return RetryIn(asked_s, f"{why} and asked to wait")
    return RetryIn(own_s, why)


def _spent(retries: int) -> str:
    if retries == 0:
        return "no retry is set"
    return "the one retry is spent" if retries == 1 else f"all {retries} retries are spent"


def _asked_pause_s(policy: DeliveryPolicy, outcome: Outcome, now_s: float) -> float:
    """Seconds the target asks us to wait, within the policy's limit; 0 where it asks nothing we heed.

    Knative's Kafka dispatcher ignores `retryAfterMax`; whoever sets it wants it, so here it holds for every class.
    """
    limit_s = policy.retry_after_max_s
    if limit_s is None or not isinstance(outcome, Answer) or outcome.status not in _NAMES_A_PAUSE:
        return 0.0
    for name, value in outcome.headers:
        if name == b"retry-after":
            return min(_retry_after_s(value, now_s), limit_s)
    return 0.0


def _retry_after_s(value: bytes, now_s: float) -> float:
    """Read a Retry-After value: seconds or an HTTP date. What is neither, or lies in the past, is no wait (0 or less)."""
    if not value.isascii():
        return 0.0
    text = value.decode("ascii").strip()
    if text.isdigit():
        # A float, not an int: any number of digits is fine, the policy's limit cuts it.
        return float(text)
    for form in _DATE_FORMS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() - now_s
        except ValueError:
            continue
    return 0.0
