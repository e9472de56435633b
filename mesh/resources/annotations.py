"""Annotations that Knit reads: `*.knit.dev/…`, and Knative's booleans. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mesh.resources.core import BUILTINS, SERVICE_BUILTIN, SERVICE_URL
from mesh.resources.duck import Flaw, uri_flaws
from mesh.resources.duration import hint_for, parse_duration
from mesh.resources.messaging import ASYNC_HANDLER
from mesh.resources.problem import did_you_mean

PARALLELISM = "delivery.knit.dev/parallelism"
IGNORE_INVALID_REPLY = "delivery.knit.dev/ignore-invalid-reply"
REPLY_ON_200_ONLY = "delivery.knit.dev/reply-on-200-only"
RETENTION = "log.knit.dev/retention"
KNOWN = (PARALLELISM, IGNORE_INVALID_REPLY, REPLY_ON_200_ONLY, RETENTION, SERVICE_URL, SERVICE_BUILTIN)
MAX_PARALLELISM = 10_000

_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the annotations of one object say of deliveries; None: nothing."""

    parallelism: int | None = None
    ignore_invalid_reply: bool | None = None
    reply_on_200_only: bool | None = None

    def over(self, other: Tuning) -> Tuning:
        """These, and the other's where these say nothing."""
        return Tuning(
            other.parallelism if self.parallelism is None else self.parallelism,
            other.ignore_invalid_reply if self.ignore_invalid_reply is None else self.ignore_invalid_reply,
            other.reply_on_200_only if self.reply_on_200_only is None else self.reply_on_200_only,
        )


def parse_bool(text: str) -> bool | None:
    """The spellings Go's strconv.ParseBool takes; None for all others."""
    return _BOOLS.get(text)


def tuning(annotations: Mapping[str, str]) -> Tuning:
    """Read annotations that passed `annotation_flaws`."""
    number = annotations.get(PARALLELISM)
    return Tuning(
        int(number) if number is not None else None,
        _BOOLS.get(annotations.get(IGNORE_INVALID_REPLY, "")),
        _BOOLS.get(annotations.get(REPLY_ON_200_ONLY, "")),
    )


def retention_s(annotations: Mapping[str, str]) -> float | None:
    """Seconds that a log keeps settled events; None where nothing is said."""
    text = annotations.get(RETENTION)
    return None if text is None else parse_duration(text)


def annotation_flaws(annotations: Mapping[str, str]) -> Iterator[Flaw]:
    """Values that cannot be read, of our annotations and of Knative's that we read on more than one kind."""
    for name in (IGNORE_INVALID_REPLY, REPLY_ON_200_ONLY, ASYNC_HANDLER):
        if name in annotations and annotations[name] not in _BOOLS:
            yield Flaw(_path(name), f'expected "true" or "false", got "{annotations[name]}"')
    number = annotations.get(PARALLELISM)
    if number is not None and not _is_parallelism(number):
        yield Flaw(_path(PARALLELISM), f'expected an integer from 1 to {MAX_PARALLELISM}, got "{number}"')
    if RETENTION in annotations:
        yield from _retention_flaws(annotations[RETENTION])
    if SERVICE_URL in annotations:
        yield from uri_flaws(annotations[SERVICE_URL], _path(SERVICE_URL))
    builtin = annotations.get(SERVICE_BUILTIN)
    if builtin is not None and builtin not in BUILTINS:
        yield Flaw(_path(SERVICE_BUILTIN), f'"{builtin}" is not built in', f"there is {', '.join(BUILTINS)}")


def unknown_annotations(annotations: Mapping[str, str]) -> Iterator[Flaw]:
    """Annotations of our domain that nothing reads: most likely misspelt."""
    for name in annotations:
        domain = name.partition("/")[0]
        if (domain == "knit.dev" or domain.endswith(".knit.dev")) and name not in KNOWN:
            yield Flaw(_path(name), f'unknown annotation "{name}": nothing reads it', did_you_mean(name, KNOWN))


def _is_parallelism(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_PARALLELISM


def _retention_flaws(text: str) -> Iterator[Flaw]:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        yield Flaw(_path(RETENTION), str(error), hint_for(text))
        return
    if seconds < 0:
        yield Flaw(_path(RETENTION), f'invalid value "{text}": it must not be negative')


def _path(name: str) -> str:
    return f"metadata.annotations.{name}"
