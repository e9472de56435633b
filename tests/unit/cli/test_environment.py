"""KNIT_* variables: every field of the settings, numbers only, typos told with the nearest name."""

from __future__ import annotations

import pytest

from mesh.cli.environment import names, read_settings
from mesh.errors import SettingsError
from mesh.settings import Settings


def test_every_setting_has_its_variable() -> None:
    assert names()["KNIT_HTTP_MAX_EVENT_BYTES"] == ("http", "max_event_bytes")
    assert names()["KNIT_RUN_DRAIN_S"] == ("run", "drain_s")
    assert {group for group, _ in names().values()} == set(Settings.__dataclass_fields__)


def test_without_variables_the_defaults_hold() -> None:
    assert read_settings({"PATH": "/bin", "XKNIT_HTTP": "1"}) == Settings()


def test_what_is_given_stands_over_the_defaults() -> None:
    settings = read_settings(
        {"KNIT_HTTP_MAX_EVENT_BYTES": "4194304", "KNIT_RUN_DRAIN_S": "2.5", "KNIT_RUN_PARALLELISM": "7"}
    )
    assert settings.http.max_event_bytes == 4194304
    assert settings.http.max_headers == Settings().http.max_headers
    assert (settings.run.drain_s, settings.run.parallelism) == (2.5, 7)


@pytest.mark.parametrize("variable", sorted(names()))
def test_every_variable_takes_its_own_default(variable: str) -> None:
    group, field = names()[variable]
    default = getattr(getattr(Settings(), group), field)
    assert read_settings({variable: str(default)}) == Settings()


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("KNIT_HTTP_MAX_EVENT_BYTE", "KNIT_HTTP_MAX_EVENT_BYTES"),
        ("KNIT_DRAIN_S", "KNIT_RUN_DRAIN_S"),
        ("KNIT_ADMN", "KNIT_ADMIN"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(variable: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=rf"{variable} is no setting; did you mean {nearest}\?"):
        read_settings({variable: "1"})


@pytest.mark.parametrize("text", ["", "many", "1.5", "-1", "0", "nan", "1e3"])
def test_what_is_no_whole_number_above_zero_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="KNIT_HTTP_MAX_HEADERS: expected a whole number"):
        read_settings({"KNIT_HTTP_MAX_HEADERS": text})


@pytest.mark.parametrize("text", ["inf", "nan", "-0.1", "soon"])
def test_a_time_is_a_finite_number(text: str) -> None:
    with pytest.raises(SettingsError, match="KNIT_RUN_DRAIN_S"):
        read_settings({"KNIT_RUN_DRAIN_S": text})


def test_a_drain_of_no_time_is_allowed() -> None:
    assert read_settings({"KNIT_RUN_DRAIN_S": "0"}).run.drain_s == 0


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"KNIT_A": "1", "KNIT_RUN_PARALLELISM": "x"})
    assert "KNIT_A is no setting" in str(caught.value)
    assert "KNIT_RUN_PARALLELISM" in str(caught.value)


@pytest.mark.parametrize(
    "variable",
    [
        "KNIT_ADMIN",
        "KNIT_SERVICE_HOST",
        "KNIT_SERVICE_PORT_HTTP",
        "KNIT_PORT",
        "KNIT_PORT_8080_TCP",
        "KNIT_PORT_8080_TCP_ADDR",
        "KNIT_INGRESS_SERVICE_PORT",
        "KNIT_INGRESS_PORT_80_TCP_PROTO",
    ],
)
def test_what_kubernetes_puts_beside_a_service_called_knit_is_no_typo(variable: str) -> None:
    assert read_settings({variable: "tcp://10.0.0.1:80"}) == Settings()
