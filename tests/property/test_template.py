"""A head that a template recognises means what the ordinary way says of it; whatever else comes, the template stays away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import EventError
from mesh.events.event import Event
from mesh.events.http import read
from mesh.events.template import LEARNT_AFTER, MAX_TEMPLATES, Learner, Template

NAMES = ["Host", "ce-specversion", "ce-id", "ce-source", "Ce-Type", "ce-time", "ce-subject", "content-type", "traceparent",
         "X-Custom", "Content-Length"]  # fmt: skip
GOOD = ["h:1", "1.0", "1", "/s", "t", "2024-05-06T07:08:09.5Z", "a b", "application/json", "00-ab-cd-01", "x%20y", "2"]
TEMPLATE = Template(NAMES)


def request(
    values: list[str], *, names: list[str] | None = None, body: bytes = b"{}", start: str = "POST /ns/b HTTP/1.1"
) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in zip(names or NAMES, values, strict=True)]
    return f"{start}\r\n{''.join(lines)}\r\n".encode() + body


def ordinary(data: bytes) -> list[Event] | None:
    """The headers as a parser gives them, read in the ordinary way; None where the event is refused."""
    head, _, body = data.partition(b"\r\n\r\n")
    pairs = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    try:
        return read([(name.lower(), value.strip()) for name, _, value in pairs], body)
    except EventError:
        return None


def test_the_usual_head_is_recognised() -> None:
    data = request(GOOD)
    found = TEMPLATE.recognise(data)
    assert found is not None
    target, attributes, block, passed, start, head = found
    (event,) = ordinary(data) or ()
    assert target == "/ns/b"
    assert attributes == dict(event.attributes)
    assert dict(Event(block, b"").attributes) == attributes
    assert passed == event.passed == b"traceparent: 00-ab-cd-01\r\n"
    assert data[start:] == b"{}"
    assert head.encode() == data[:start]


CHANGES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=12)


@given(index=st.integers(0, len(NAMES) - 1), change=CHANGES, append=st.booleans())
def test_what_is_recognised_is_a_good_event_and_the_same_one(*, index: int, change: str, append: bool) -> None:
    values = list(GOOD)
    values[index] = values[index] + change if append else change
    try:
        data = request(values)
    except UnicodeEncodeError:
        return
    found = TEMPLATE.recognise(data)
    if found is None:
        return
    events = ordinary(data)
    assert events is not None, "the template took what the ordinary way refuses"
    assert found[1] == dict(events[0].attributes)
    assert dict(Event(found[2], b"").attributes) == found[1]


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 30))
def test_damaged_bytes_are_never_taken_for_something_else(junk: bytes, at: int, cut: int) -> None:
    data = request(GOOD)
    damaged = data[:at] + junk + data[at + cut :]
    found = TEMPLATE.recognise(damaged)
    if found is not None:
        events = ordinary(damaged)
        assert events is not None
        assert found[1] == dict(events[0].attributes)
        assert (
            len(damaged) - found[4] == int(dict(zip(NAMES, GOOD, strict=True))["Content-Length"]) or b"ontent-" in junk
        )


def test_attributes_need_not_stand_together() -> None:
    order = [4, 0, 10, 2, 3, 7, 1, 8, 9, 5, 6]
    names, values = [NAMES[i] for i in order], [GOOD[i] for i in order]
    data = request(values, names=names)
    found = Template(names).recognise(data)
    (event,) = ordinary(data) or ()
    assert found is not None
    assert found[1] == dict(event.attributes) == dict(Event(found[2], b"").attributes)
    assert found[3] == event.passed


def test_odd_requests_go_the_ordinary_way() -> None:
    good = request(GOOD)
    assert TEMPLATE.recognise(good + b"x") is None  # a second request behind it
    assert TEMPLATE.recognise(good[:-1]) is None  # the body is not all there
    assert TEMPLATE.recognise(good.replace(b"HTTP/1.1", b"HTTP/1.0")) is None
    assert TEMPLATE.recognise(good.replace(b"POST", b"PUT")) is None
    assert TEMPLATE.recognise(good.replace(b": t\r\n", b": t \r\n")) is None
    assert TEMPLATE.recognise(good.replace(b"ce-id: 1\r\n", b"ce-id: 1\r\nce-id: 2\r\n")) is None
    assert TEMPLATE.recognise(good.replace(b"application/json", b"application/cloudevents+json")) is None
    assert TEMPLATE.recognise(good.replace(b"\r\n", b"\n")) is None


def test_only_plain_requests_are_learnt_and_not_without_end() -> None:
    learner = Learner()
    lines = [(name.encode(), value.encode()) for name, value in zip(NAMES, GOOD, strict=True)]
    assert [learner.template(lines) is not None for _ in range(LEARNT_AFTER)] == [False] * (LEARNT_AFTER - 1) + [True]
    for odd in ((b"Transfer-Encoding", b"chunked"), (b"Expect", b"100-continue"), (b"host", b"twice"), (b"ce-bad-name", b"x"),
                (b"ce-knativebrokerttl", b"3"), (b"Upgrade", b"h2c")):  # fmt: skip
        assert all(learner.template([*lines, odd]) is None for _ in range(2 * LEARNT_AFTER)), odd
    for number in range(2 * MAX_TEMPLATES):
        for _ in range(LEARNT_AFTER):
            learner.template([*lines, (f"x-{number}".encode(), b"1")])
    assert len(learner._templates) <= MAX_TEMPLATES
