"""What follows an attempt: the classes of answers, the count of attempts, Retry-After."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mesh.delivery.decide import Done, GiveUp, RetryIn, decide
from mesh.delivery.outcome import Answer, Unreachable
from mesh.delivery.policy import MAX_PAUSE_S, DeliveryPolicy

POLICY = DeliveryPolicy(retries=3, backoff="exponential", delay_s=2.0)
HEEDS = DeliveryPolicy(retries=3, backoff="exponential", delay_s=2.0, retry_after_max_s=90.0)
NOW_S = datetime(2026, 11, 6, 8, 49, 7, tzinfo=UTC).timestamp()


def wait_s(value: bytes, *, status: int = 503, policy: DeliveryPolicy = HEEDS) -> float:
    answer = Answer(status, ((b"server", b"x"), (b"retry-after", value)))
    decision = decide(policy, answer, 1, now_s=NOW_S)
    assert isinstance(decision, RetryIn)
    return decision.delay_s


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert decide(POLICY, Answer(status), 1) == Done()


def test_2xx_is_delivered_after_the_last_retry_too() -> None:
    assert decide(POLICY, Answer(200), 4) == Done()


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 501, 503, 599, 700, 999])
def test_passing_troubles_are_retried(status: int) -> None:
    assert decide(POLICY, Answer(status), 1) == RetryIn(2.0, f"answered {status}")


@pytest.mark.parametrize("status", [100, 101, 199, 300, 302, 307, 400, 401, 403, 410, 413, 415, 422, 425, 499])
def test_all_other_answers_are_final_at_once(status: int) -> None:
    assert decide(POLICY, Answer(status), 1) == GiveUp(f"answered {status}, which is final")


@pytest.mark.parametrize("kind", ["refused", "resolve", "tls", "timeout", "reset", "garbage"])
def test_no_answer_is_retried_whatever_the_reason(kind: str) -> None:
    assert decide(POLICY, Unreachable(kind, "connection refused"), 2) == RetryIn(4.0, "connection refused")


def test_no_answer_without_words_names_its_kind() -> None:
    assert decide(POLICY, Unreachable("reset", ""), 1) == RetryIn(2.0, "reset")


@pytest.mark.parametrize(
    ("retries", "attempts", "words"),
    [(0, 1, "no retry is set"), (1, 2, "the one retry is spent"), (3, 4, "all 3 retries are spent")],
)
def test_there_are_as_many_attempts_as_retries_and_one(retries: int, attempts: int, words: str) -> None:
    policy = DeliveryPolicy(retries=retries, backoff="linear", delay_s=1.0)
    before = [decide(policy, Answer(503), attempt) for attempt in range(1, attempts)]
    assert all(isinstance(decision, RetryIn) for decision in before)
    assert decide(policy, Answer(503), attempts) == GiveUp(f"answered 503, and {words}")


def test_an_attempt_beyond_the_last_gives_up_after_a_policy_was_cut() -> None:
    assert isinstance(decide(POLICY, Answer(503), 9), GiveUp)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"30", 30.0),
        (b" 30 ", 30.0),
        (b"0", 2.0),
        (b"1", 2.0),
        (b"91", 90.0),
        (b"9" * 5000, 90.0),
        (b"Fri, 06 Nov 2026 08:49:37 GMT", 30.0),
        (b"Friday, 06-Nov-26 08:49:37 GMT", 30.0),
        (b"Fri Nov  6 08:49:37 2026", 30.0),
        (b"Fri, 06 Nov 2026 08:00:00 GMT", 2.0),
        (b"Fri, 31 Dec 9999 23:59:59 GMT", 90.0),
    ],
)
def test_retry_after_lengthens_the_pause_within_the_limit(value: bytes, expected: float) -> None:
    assert wait_s(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"soon",
        b"-30",
        b"+30",
        b"30.5",
        b"1e3",
        b"0x1e",
        b"30, 40",
        "٣٠".encode(),
        "３０".encode(),
        b"\xff\xfe",
        b"Fri, 06 Nov 2026 08:49:37 CET",
        b"Fri, 32 Nov 2026 08:49:37 GMT",
        b"Fri, 06 Nov 2026 08:49:61 GMT",
        "Fri, 0٦ Nov 2026 08:49:37 GMT".encode(),
    ],
)
def test_retry_after_that_is_garbage_is_ignored(value: bytes) -> None:
    assert wait_s(value) == 2.0


@pytest.mark.parametrize("status", [404, 408, 409, 500, 502, 504])
def test_other_answers_may_not_name_a_pause(status: int) -> None:
    assert wait_s(b"30", status=status) == 2.0


def test_retry_after_is_not_heeded_without_a_limit() -> None:
    assert wait_s(b"30", policy=POLICY) == 2.0


def test_the_first_retry_after_counts() -> None:
    answer = Answer(429, ((b"retry-after", b"7"), (b"retry-after", b"60")))
    assert decide(HEEDS, answer, 1) == RetryIn(7.0, "answered 429 and asked to wait")


@pytest.mark.parametrize("attempt", [1, 64, 1023, 1024, 1100, 2**31])
@pytest.mark.parametrize("backoff", ["", "linear", "exponential"])
@pytest.mark.parametrize("series", ["go", "kafka"])
def test_no_attempt_number_overflows(attempt: int, backoff: str, series: str) -> None:
    policy = DeliveryPolicy(retries=2**31, backoff=backoff, delay_s=86_400.0, series=series)
    decision = decide(policy, Answer(500), attempt)
    assert isinstance(decision, RetryIn)
    assert 0 <= decision.delay_s <= MAX_PAUSE_S
