"""A story as a timeline: every step with its time, place and words."""

from __future__ import annotations

from typing import Any

import click

from mesh.cli.story import timeline


def step(at: str, what: str, **more: object) -> dict[str, Any]:
    return {"at": f"2026-01-01T00:00:{at}Z", "what": what, **more}


def told(*steps: dict[str, Any]) -> list[str]:
    events = [{"source": "/shop", "type": "order.new"}]
    return [click.unstyle(line) for line in timeline({"id": "order-1", "events": events, "steps": list(steps)})]


def test_the_head_names_the_event_and_each_step_its_time_place_and_words() -> None:
    lines = told(
        step(
            "00.000000500", "accepted", topic="broker/default/orders", text="accepted; wanted by trigger/default/mail"
        ),
        step(
            "00.012500500",
            "retried",
            subscription="trigger/default/mail",
            text="answered 503",
            duration_ms=11.2,
            pause_s=0.4,
        ),
        step(
            "30.000000500",
            "delivered",
            subscription="trigger/default/mail",
            text="attempt 2 was answered 200",
            duration_ms=1.0,
        ),
    )
    assert lines[0] == "Event order-1  type order.new  source /shop"
    assert lines[1] == "began 2026-01-01T00:00:00.000000500Z"
    assert lines[2].split(maxsplit=5)[:5] == ["+0.0", "ms", "✔", "accepted", "broker/default/orders"]
    assert "answered 503; tried again in 0.4 s  (11.2 ms)" in lines[3]
    assert lines[3].strip().startswith("+12.5 ms  ↻ retried")
    assert lines[4].strip().startswith("+30 s  ✔ delivered")
    assert len(lines) == 5


def test_an_event_that_nobody_wanted_gets_a_last_word() -> None:
    lines = told(
        step("00.0", "accepted", topic="broker/default/orders", text="accepted; no subscription wants it"),
        step("00.0", "not-matched", subscription="trigger/default/mail", text='type is "a", wanted "b"'),
    )
    assert lines[-1].startswith("Nobody wanted it")


def test_words_of_an_event_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in "".join(told(step("00.0", "refused", text="bad \x1b[2J")))


def test_a_kind_of_step_that_is_not_known_is_told_all_the_same() -> None:
    assert "something-new" in told(step("00.0", "something-new", text="words"))[2]
