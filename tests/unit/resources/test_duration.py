"""ISO 8601 durations: what Knative's parser takes and what it refuses."""

from __future__ import annotations

import pytest

from mesh.resources.duration import hint_for, parse_duration

YEAR_S = 365.2425 * 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT5S", 5),
        ("PT0.2S", 0.2),
        ("PT0,2S", 0.2),
        ("PT0S", 0),
        ("PT1M30S", 90),
        ("PT2H", 7200),
        ("P1D", 86_400),
        ("P1DT1H", 90_000),
        ("P2W", 1_209_600),
        ("P1M", YEAR_S / 12),
        ("P1Y", YEAR_S),
        ("P1.5D", 129_600),
        ("-PT5S", -5),
        ("+PT5S", 5),
        ("PT168H", 604_800),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5s",
        "1s",
        "P",
        "PT",
        "-P",
        "P1DT",
        "FOO",
        "PT5",
        "5",
        "PT5s",
        "pt5s",
        "PT5S ",
        "PT-5S",
        "PT1S1M",
        "PT٥S",
        "P" + "9" * 400 + "Y",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid value"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("5s", "PT5S"), ("1.5m", "PT1.5M"), ("2h", "PT2H"), ("200ms", "PT0.2S"), ("FOO", "for example PT5S")],
)
def test_hint_names_what_was_meant(text: str, hint: str) -> None:
    assert hint in hint_for(text)
