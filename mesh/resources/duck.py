"""Shapes that many kinds have in common: KReference, Destination, DeliverySpec. Pure. Eventing reference §1.1, §1.2, §3.1.

Models check the shape; `problems()` of a model checks what Knative's webhook checks beyond it. Field names are Knative's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from mesh.resources.duration import hint_for, parse_duration

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Flaw:
    """A rule that a well-shaped value breaks."""

    path: str
    message: str
    hint: str = ""


class Spec(BaseModel):
    """A part of a resource. Fields it does not know are refused, or warned about where Knative's schema keeps them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    def flaws(self, path: str) -> Iterator[Flaw]:
        """What is wrong beyond the shape. `path` is where this part stands."""
        yield from ()


class KReference(Spec):
    """A reference to an object; `apiVersion` may be left out where `group` stands (feature kreference-group)."""

    kind: str = ""
    name: str = ""
    apiVersion: str = ""  # noqa: N815  # Knative's name
    group: str = ""
    namespace: str = ""
    address: str = ""

    def flaws(self, path: str) -> Iterator[Flaw]:
        """What is missing."""
        for field in ("kind", "name"):
            if not getattr(self, field):
                yield Flaw(f"{path}.{field}", "missing field")
        if not self.apiVersion and not self.group:
            yield Flaw(f"{path}.apiVersion", "missing field")

    @property
    def api_group(self) -> str:
        """The group that is meant; "" is the core group."""
        if self.group and not self.apiVersion:
            return self.group
        return self.apiVersion.rpartition("/")[0]


class Destination(Spec):
    """Where events go: `ref`, or an absolute `uri`, or a `ref` with a `uri` relative to its address."""

    ref: KReference | None = None
    uri: str | None = None
    CACerts: str = ""
    audience: str = ""

    def flaws(self, path: str) -> Iterator[Flaw]:
        """What Knative's webhook refuses, and addresses that nothing can be sent to."""
        if self.ref is None and not self.uri:
            yield Flaw(path, "expected at least one, got none: ref, uri")
        elif self.ref is not None:
            yield from self.ref.flaws(f"{path}.ref")
            if self.uri and _is_absolute(self.uri):
                yield Flaw(f"{path}.uri", "absolute URI is not allowed together with ref", "a path, such as /orders")
        if self.uri:
            yield from uri_flaws(self.uri, f"{path}.uri", relative=self.ref is not None)
        if self.CACerts and not _PEM.search(self.CACerts):
            yield Flaw(f"{path}.CACerts", "no PEM certificate", "a text with -----BEGIN CERTIFICATE-----")


def _is_absolute(uri: str) -> bool:
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri))


def uri_flaws(uri: str, path: str, *, relative: bool = False) -> Iterator[Flaw]:
    """What keeps events from being sent to that URI; `relative` allows one without scheme and host."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        yield Flaw(path, f'"{uri}" is no URI: {error}')
        return
    if any(character.isspace() or not character.isprintable() for character in uri):
        yield Flaw(path, f'"{uri}" is no URI: it holds a space or a control character')
    elif relative and not _is_absolute(uri):
        return
    elif not parts.scheme or not parts.netloc:
        yield Flaw(path, f'"{uri}" is no absolute URI with a host', "such as http://localhost:9000/orders")
    elif parts.scheme.lower() not in ("http", "https"):
        yield Flaw(path, f'"{uri}": only http and https are served')
    elif not parts.hostname or port == 0:
        yield Flaw(path, f'"{uri}" has no host, or a port that does not exist')


class DeliverySpec(Spec):
    """How often a delivery is tried and where it goes then. Durations as written; `seconds` reads one."""

    model_config = ConfigDict(extra="allow")

    deadLetterSink: Destination | None = None  # noqa: N815
    retry: int | None = Field(default=None, ge=0, le=2**31 - 1)
    backoffPolicy: Literal["linear", "exponential"] | None = None  # noqa: N815
    backoffDelay: str | None = None  # noqa: N815
    timeout: str | None = None
    retryAfterMax: str | None = None  # noqa: N815
    format: Literal["json", "binary"] | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Durations that cannot be read or do not make sense, and a dead-letter sink that is none."""
        for field in ("backoffDelay", "timeout", "retryAfterMax"):
            text = getattr(self, field)
            if text is not None:
                yield from _duration_flaws(text, f"{path}.{field}", positive=field == "timeout")
        if self.deadLetterSink is not None:
            yield from self.deadLetterSink.flaws(f"{path}.deadLetterSink")

    def seconds(self, field: str) -> float | None:
        """The duration of a field that passed `flaws`; None where it is not set."""
        text = getattr(self, field)
        return None if text is None else parse_duration(text)


def _duration_flaws(text: str, path: str, *, positive: bool) -> Iterator[Flaw]:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        yield Flaw(path, str(error), hint_for(text))
        return
    if positive and seconds <= 0:
        yield Flaw(path, f'invalid value "{text}": it must be longer than zero', "ISO 8601, for example PT5S")
    elif seconds < 0:
        yield Flaw(path, f'invalid value "{text}": it must not be negative', "ISO 8601, for example PT5S")


def unknown_fields(model: Spec, path: str) -> Iterator[tuple[str, str, list[str]]]:
    """The fields that were kept though nobody knows them: (path of the parent, name, known names)."""
    for name in model.model_extra or {}:
        yield path, name, list(type(model).model_fields)
    for name in type(model).model_fields:
        value = getattr(model, name)
        for index, inner in enumerate(value) if isinstance(value, list) else [(-1, value)]:
            if isinstance(inner, Spec):
                yield from unknown_fields(inner, f"{path}.{name}" + (f"[{index}]" if index >= 0 else ""))


def drop_nulls(value: object) -> object:
    """A field that is null is a field that is not there, as for the API server. Nulls in lists stay, to be refused."""
    if isinstance(value, dict):
        return {key: drop_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [drop_nulls(inner) for inner in value]
    return value
