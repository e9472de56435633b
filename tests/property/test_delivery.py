"""Laws of retrying: pauses never shrink, attempts are bounded, a named pause only lengthens."""

from __future__ import annotations

from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st

from mesh.delivery.deadletter import MAX_BODY_BYTES, dead_letter_event
from mesh.delivery.decide import Done, GiveUp, RetryIn, decide
from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.delivery.policy import MAX_PAUSE_S, DeliveryPolicy
from mesh.events.event import Event, encode_block

policies = st.builds(
    DeliveryPolicy,
    retries=st.integers(0, 2**31),
    backoff=st.sampled_from(["", "linear", "exponential"]),
    delay_s=st.floats(0, 1e9),
    retry_after_max_s=st.none() | st.floats(0, 1e9),
    series=st.sampled_from(["go", "kafka"]),
)
headers = st.binary(max_size=40).map(lambda value: ((b"retry-after", value),))
outcomes: st.SearchStrategy[Outcome] = st.builds(Answer, st.integers(100, 999), headers) | st.builds(
    Unreachable, st.just("reset"), st.text()
)


@given(policy=policies, attempt=st.integers(1, 2**31))
def test_pauses_never_shrink_and_are_bounded(policy: DeliveryPolicy, attempt: int) -> None:
    assert 0 <= policy.pause_s(attempt) <= policy.pause_s(attempt + 1) <= MAX_PAUSE_S


@given(policy=policies, outcome=outcomes, attempt=st.integers(1, 2**31), now_s=st.floats(0, 1e10))
def test_every_outcome_has_a_next_step(policy: DeliveryPolicy, outcome: Outcome, attempt: int, now_s: float) -> None:
    match decide(policy, outcome, attempt, now_s=now_s):
        case Done():
            assert isinstance(outcome, Answer)
            assert 200 <= outcome.status <= 299
        case RetryIn(delay_s, why):
            limit_s = max(policy.pause_s(attempt), policy.retry_after_max_s or 0.0)
            assert policy.pause_s(attempt) <= delay_s <= limit_s
            assert attempt <= policy.retries
            assert why
        case GiveUp(why):
            assert why


@given(policy=policies, outcome=outcomes, attempt=st.integers(1, 1000))
def test_whether_to_retry_depends_on_the_outcome_until_retries_are_spent(
    policy: DeliveryPolicy, outcome: Outcome, attempt: int
) -> None:
    again = isinstance(decide(policy, outcome, attempt), RetryIn)
    mends = isinstance(decide(DeliveryPolicy(retries=2**31), outcome, 1), RetryIn)
    assert again == (mends and attempt <= policy.retries)


@given(body=st.binary(max_size=3000))
def test_what_is_kept_of_an_error_body_is_its_beginning(body: bytes) -> None:
    event = Event(encode_block({"specversion": "1.0", "id": "1", "source": "s", "type": "t"}), b"")
    text = dead_letter_event(event, destination="http://a/", code=500, body=body).attributes.get("knativeerrordata", "")
    assert b64decode(text, validate=True) == body[:MAX_BODY_BYTES]
    assert len(text) <= 1024
