"""The pause series: Knative's Go senders, its Kafka sender, and ours where none is given."""

from __future__ import annotations

from math import nan

import pytest

from mesh.delivery.policy import DeliveryPolicy


def pauses(count: int, *, backoff: str = "", delay_s: float = 0.0, series: str = "go") -> list[float]:
    policy = DeliveryPolicy(retries=count, backoff=backoff, delay_s=delay_s, series=series)
    return [round(pause, 6) for pause in policy.pauses_s()]


@pytest.mark.parametrize(
    ("series", "backoff", "expected"),
    [
        ("go", "linear", [0, 0.1, 0.2, 0.3]),
        ("go", "exponential", [0.1, 0.2, 0.4, 0.8]),
        ("kafka", "linear", [0.1, 0.2, 0.3, 0.4]),
        ("kafka", "exponential", [0.2, 0.4, 0.8, 1.6]),
        ("kafka", "", [0.2, 0.4, 0.8, 1.6]),
    ],
)
def test_series_are_those_of_the_running_senders(series: str, backoff: str, expected: list[float]) -> None:
    assert pauses(4, backoff=backoff, delay_s=0.1, series=series) == expected


@pytest.mark.parametrize(("backoff", "delay_s"), [("", 0.0), ("", 5.0), ("linear", 0.0), ("exponential", 0.0)])
def test_retries_without_a_pause_are_no_hot_loop(backoff: str, delay_s: float) -> None:
    assert pauses(6, backoff=backoff, delay_s=delay_s) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_kafka_fills_in_its_own_delay() -> None:
    assert pauses(3, series="kafka") == [0.4, 0.8, 1.6]
    assert pauses(3, backoff="linear", series="kafka") == [0.2, 0.4, 0.6]


def test_the_schedule_for_people_is_short() -> None:
    assert len(DeliveryPolicy(retries=2**31).pauses_s()) == 20
    assert DeliveryPolicy().pauses_s() == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"delay_s": -0.1},
        {"delay_s": nan},
        {"timeout_s": -1.0},
        {"backoff": "cubic"},
        {"series": "nats"},
    ],
)
def test_a_policy_is_valid_from_birth(wrong: dict[str, int | float | str]) -> None:
    with pytest.raises(ValueError, match="DeliveryPolicy"):
        DeliveryPolicy(**wrong)  # type: ignore[arg-type]  # the point of the test
