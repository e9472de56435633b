"""Knative's table of retries (`data/delivery_retry.yaml`): which answers, how many attempts, which pauses, Retry-After."""

from __future__ import annotations

from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.delivery.decide import Done, RetryIn, decide
from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.delivery.policy import DeliveryPolicy
from mesh.resources.duration import parse_duration

VECTORS: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    (Path(__file__).parent / "data" / "delivery_retry.yaml").read_text(encoding="utf-8")
)
NOW_S = 1_790_000_000.0
ACCEPTED = [row for row in VECTORS["backoff"] if row["expect"] != "rejected"]
REJECTED = [row for row in VECTORS["backoff"] if row["expect"] == "rejected"]


def name(row: dict[str, Any]) -> str:
    return " ".join(str(value) for value in row.values())


def outcome_of(answer: int | str) -> Outcome:
    return Answer(answer) if isinstance(answer, int) else Unreachable("reset", answer)


def policy_of(delivery: dict[str, Any], *, series: str) -> DeliveryPolicy:
    limit = delivery.get("retryAfterMax")
    return DeliveryPolicy(
        retries=delivery["retry"],
        backoff=delivery["backoffPolicy"],
        delay_s=parse_duration(delivery["backoffDelay"]),
        timeout_s=parse_duration(delivery.get("timeout", "PT0S")),
        retry_after_max_s=None if limit is None else parse_duration(limit),
        series=series,
    )


@pytest.mark.parametrize("row", VECTORS["retry"], ids=name)
def test_answers_fall_into_the_same_classes(row: dict[str, Any]) -> None:
    decision = decide(DeliveryPolicy(retries=1), outcome_of(row["answer"]), 1)
    assert isinstance(decision, RetryIn) == row["retry"]
    assert isinstance(decision, Done) == row["delivered"]


@pytest.mark.parametrize("row", REJECTED, ids=name)
def test_durations_that_are_no_iso_8601_are_refused(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no ISO 8601 duration"):
        parse_duration(row["delivery"]["backoffDelay"])


@pytest.mark.parametrize("row", ACCEPTED, ids=name)
def test_as_many_attempts_are_made(row: dict[str, Any]) -> None:
    policy = policy_of(row["delivery"], series="go")
    attempt = 1
    while isinstance(decide(policy, Answer(500), attempt), RetryIn):
        attempt += 1
    assert attempt == row["expect"]["deliveries_at_most"]


@pytest.mark.parametrize(("series", "first"), [("go", 0), ("kafka", 1)])
@pytest.mark.parametrize("row", ACCEPTED, ids=name)
def test_pauses_follow_the_series(row: dict[str, Any], series: str, first: int) -> None:
    """The table counts failures from one, as the Kafka sender does; the Go sender counts them from zero."""
    policy = policy_of(row["delivery"], series=series)
    expected = row["expect"]["delay_after_failure"]
    found = [policy.pause_s(attempt) for attempt in range(1, len(expected) + 1)]
    if first == 0 and expected:
        before = 0.0 if policy.backoff == "linear" else policy.delay_s
        expected = [before, *expected[:-1]]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("row", VECTORS["retry_after"], ids=name)
def test_a_named_pause_is_heeded_within_its_limit(row: dict[str, Any]) -> None:
    limit = row["retry_after_max"]
    own_s = row["own_backoff_s"]
    policy = DeliveryPolicy(
        retries=1,
        backoff="exponential",
        delay_s=own_s,
        retry_after_max_s=None if limit is None else parse_duration(limit),
    )
    value = row["retry_after"]
    if value == "date+30":
        value = formatdate(NOW_S + 30, usegmt=True)
    headers = () if value is None else ((b"retry-after", value.encode()),)
    decision = decide(policy, Answer(row["answer"], headers), 1, now_s=NOW_S)
    assert isinstance(decision, RetryIn)
    assert decision.delay_s == pytest.approx(row["wait_s"], abs=1.0)
