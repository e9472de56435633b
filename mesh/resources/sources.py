"""sources.knative.dev: PingSource. Pure. Eventing reference §1.4, §8.1."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from mesh.resources.duck import Destination, Flaw, Spec
from mesh.resources.meta import Resource

GROUP = "sources.knative.dev"
DEFAULT_SCHEDULE = "* * * * *"

_NAME = re.compile(r"[A-Za-z0-9]+", re.ASCII)
_CONTEXT = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64")
)


class Overrides(Spec):
    """Attributes that are set on every event of a source."""

    extensions: dict[str, str] = Field(default_factory=dict)

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Names that no event may have. A standard attribute is no extension, as the CloudEvents SDK has it."""
        for name in self.extensions:
            if not _NAME.fullmatch(name):
                yield Flaw(f"{path}.extensions.{name}", f'"{name}" is no legal name: letters and digits only')
            elif name.lower() in _CONTEXT:
                yield Flaw(
                    f"{path}.extensions.{name}",
                    f'"{name}" is a standard attribute and cannot be overridden as an extension',
                )


class PingSourceSpec(Spec):
    """data and dataBase64 exclude each other. The schedule is checked where plans are compiled."""

    schedule: str = DEFAULT_SCHEDULE
    timezone: str = ""
    contentType: str = ""  # noqa: N815  # Knative's names
    data: str | None = None
    dataBase64: str | None = None  # noqa: N815
    sink: Destination | None = None
    ceOverrides: Overrides | None = None  # noqa: N815

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if self.sink is None:
            yield Flaw(f"{path}.sink", "missing field")
        else:
            yield from self.sink.flaws(f"{path}.sink")
        if self.data and self.dataBase64:
            yield Flaw(path, "expected exactly one, got both: data, dataBase64")
        elif self.data and self.contentType.split(";")[0].strip().lower() == "application/json":
            yield from _json_flaws(self.data, f"{path}.data")
        elif self.dataBase64:
            yield from self._base64_flaws(path)
        if self.ceOverrides is not None:
            yield from self.ceOverrides.flaws(f"{path}.ceOverrides")

    def _base64_flaws(self, path: str) -> Iterator[Flaw]:
        try:
            data = base64.b64decode("".join((self.dataBase64 or "").split()), validate=True)
        except ValueError:
            yield Flaw(f"{path}.dataBase64", "invalid value: no base64")
            return
        if self.contentType.split(";")[0].strip().lower() == "application/json":
            yield from _json_flaws(data, f"{path}.dataBase64")


def _json_flaws(data: str | bytes, path: str) -> Iterator[Flaw]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        yield Flaw(path, f"invalid value: contentType is application/json and the data is no JSON: {error}")
        return
    if not isinstance(value, dict):
        yield Flaw(
            path, "invalid value: contentType is application/json and the data is no JSON object", 'such as {"a": 1}'
        )


@dataclass(frozen=True, kw_only=True)
class PingSource(Resource):
    """spec is None where it could not be read."""

    spec: PingSourceSpec | None
