"""KNIT_* variables → Settings. KNIT_HTTP_MAX_EVENT_BYTES is the field `max_event_bytes` of the group `http`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from mesh.errors import SettingsError
from mesh.settings import Settings

PREFIX = "KNIT_"
OTHERS = frozenset({"KNIT_ADMIN", "KNIT_VECTORS"})
"""Read elsewhere: by commands that ask a running mesh, and by tests."""

# What Kubernetes puts into every container of a namespace that has a Service called knit or knit-….
_OF_KUBERNETES = re.compile(
    r"KNIT(_\w+)?_SERVICE_(HOST|PORT(_\w+)?)|KNIT(_\w+)?_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
_MAY_BE_ZERO = frozenset({"KNIT_RUN_DRAIN_S", "KNIT_RUN_STORY_EVENTS", "KNIT_RUN_MAX_EVENT_TYPES"})


def names() -> dict[str, tuple[str, str]]:
    """Variable → (group, field)."""
    return {
        f"{PREFIX}{group.name}_{setting.name}".upper(): (group.name, setting.name)
        for group in fields(Settings)
        for setting in fields(getattr(Settings(), group.name))
    }


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings, with what the environment says over the defaults.

    Raises:
        SettingsError: a KNIT_ variable is not known, or its value is no such number. All of them are told at once.
    """
    known = names()
    given: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in OTHERS:
            continue
        if variable in known:
            group, setting = known[variable]
            try:
                given.setdefault(group, {})[setting] = _value(variable, text, _default(group, setting))
            except ValueError as exc:
                wrong.append(str(exc))
        elif not _OF_KUBERNETES.fullmatch(variable):
            wrong.append(_unknown(variable, known))
    if wrong:
        raise SettingsError("; ".join(wrong))
    defaults = Settings()
    return Settings(**{group: type(getattr(defaults, group))(**values) for group, values in given.items()})


def _default(group: str, setting: str) -> float | str:
    value: float | str = getattr(getattr(Settings(), group), setting)
    return value


def _value(variable: str, text: str, default: float | str) -> float | str:
    if isinstance(default, str):
        return text
    is_whole = isinstance(default, int)
    kind = "a whole number" if is_whole else "a number"
    try:
        value = int(text) if is_whole else float(text)
    except ValueError:
        raise ValueError(f'{variable}: expected {kind}, got "{text}"') from None
    if not math.isfinite(value) or value < 0 or (value == 0 and variable not in _MAY_BE_ZERO):
        raise ValueError(f'{variable}: expected {kind} above zero, got "{text}"')
    return value


def _unknown(variable: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(variable, [*known, *OTHERS], n=1, cutoff=0.5)
    hint = (
        f"did you mean {close[0]}?"
        if close
        else "settings are KNIT_HTTP_…, KNIT_LOG_…, KNIT_MEMORY_…, KNIT_REDIS_… and KNIT_RUN_…"
    )
    return f"{variable} is no setting; {hint}"
