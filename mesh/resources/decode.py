"""Document → typed resource, with every error at once and the field path of each. Pure. Start here to add a kind.

What Knative's webhooks refuse is an error; what its schemas keep without knowing it is a warning (reference §0).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mesh.resources import annotations as ours
from mesh.resources import eventing, flows, messaging, plugin, redis, sources
from mesh.resources.core import ConfigMap, Namespace, Secret, Service
from mesh.resources.documents import Document, read_documents
from mesh.resources.duck import Destination, Flaw, KReference, Spec, drop_nulls, unknown_fields
from mesh.resources.kinds import SERVED, right_versions, split_version, why_unknown
from mesh.resources.meta import Ignored, Key, Metadata, Resource
from mesh.resources.problem import Problem, did_you_mean, shown

__all__ = ["Document", "Problem", "decode", "decode_spec", "read_documents"]

_Model = TypeVar("_Model", bound=Spec)

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA = (
    *("name", "generateName", "namespace", "labels", "annotations", "uid", "generation", "finalizers"),
    *("ownerReferences", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    *("resourceVersion", "selfLink", "managedFields"),
)
_DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "cesql", "expression")
_INT_ERRORS = ("int_type", "int_from_float", "int_parsing", "greater_than_equal", "less_than_equal", "int_parsing_size")


@dataclass(frozen=True, slots=True)
class _Head:
    """What all kinds have, already read."""

    key: Key
    api_version: str
    metadata: Metadata
    document: Document


@dataclass(slots=True)
class _Found:
    """Collects flaws as problems of one document."""

    document: Document
    resource: str = ""
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, message: str, hint: str = "", *, warn: bool = False) -> None:
        self.problems.append(
            Problem(
                "warning" if warn else "error",
                message,
                path,
                hint,
                self.document.file,
                self.document.line_of(path),
                self.resource,
            )
        )

    def flaws(self, flaws: Iterable[Flaw], *, warn: bool = False) -> None:
        for flaw in flaws:
            self.add(flaw.path, flaw.message, flaw.hint, warn=warn)


def decode(document: Document, *, namespace: str = "default") -> tuple[Resource | None, list[Problem]]:
    """Make the resource of a document, in `namespace` where it names none.

    A resource whose kind and name can be read comes back even when it is invalid, with the same problems in it, so that
    it can be shown as not ready. None: there is nothing to show.
    """
    found = _Found(document)
    head = _read_head(document, namespace, found)
    if head is None:
        return None, found.problems
    group, version = split_version(head.api_version)
    kind = head.key.kind
    if (group, kind) not in SERVED:
        found.flaws(ours.annotation_flaws(head.metadata.annotations))
        return _ignored(head, found), found.problems
    if version not in SERVED[group, kind]:
        found.add(
            "apiVersion", f"{head.api_version} {kind} is not served", f"use apiVersion: {right_versions(group, kind)}"
        )
    found.flaws(ours.annotation_flaws(head.metadata.annotations))
    found.flaws(ours.unknown_annotations(head.metadata.annotations), warn=True)
    return _READERS[group, kind](head, found), found.problems


def _ignored(head: _Head, found: _Found) -> Ignored:
    return Ignored(**_parts(head, found), reason=why_unknown(head.api_version, head.key.kind))


def _parts(head: _Head, found: _Found) -> dict[str, Any]:
    return {
        "key": head.key,
        "api_version": head.api_version,
        "metadata": head.metadata,
        "document": head.document,
        "problems": tuple(found.problems),
    }


# The head: apiVersion, kind, metadata.


def _read_head(document: Document, namespace: str, found: _Found) -> _Head | None:
    value = document.value
    api_version, kind = value.get("apiVersion"), value.get("kind")
    metadata: Any = drop_nulls(value.get("metadata") or {})
    for name, given in (("apiVersion", api_version), ("kind", kind)):
        if not isinstance(given, str) or not given:
            found.add(name, "missing field" if not given else f"expected a string, got {shown(given)}")
    if not isinstance(metadata, dict):
        found.add("metadata", f"expected a mapping, got {shown(metadata)}")
    if found.problems or not isinstance(api_version, str) or not isinstance(kind, str):
        return None
    name = _read_name(metadata, found)
    if not name:
        return None
    space = _read_namespace(metadata, kind, namespace, found)
    key = Key(split_version(api_version)[0], kind, space, name)
    found.resource = str(key)
    found.problems = [_named(problem, str(key)) for problem in found.problems]
    _check_fields(metadata, _METADATA, "metadata.", found)
    return _Head(key, api_version, _read_metadata(metadata, found), document)


def _named(problem: Problem, resource: str) -> Problem:
    return Problem(problem.severity, problem.message, problem.path, problem.hint, problem.file, problem.line, resource)


def _read_name(metadata: dict[str, Any], found: _Found) -> str:
    name = metadata.get("name")
    if not name:
        hint = "generateName needs a Kubernetes API server" if metadata.get("generateName") else ""
        found.add("metadata.name", "missing field", hint)
        return ""
    if not isinstance(name, str):
        found.add("metadata.name", f"expected a string, got {shown(name)}", "put it in quotes")
        return ""
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        found.add("metadata.name", f"{shown(name)} is no name: a-z, 0-9, - and . only, letters or digits at both ends")
    return name


def _read_namespace(metadata: dict[str, Any], kind: str, namespace: str, found: _Found) -> str:
    if kind == "Namespace":
        return ""
    space = metadata.get("namespace") or namespace
    if not isinstance(space, str) or len(space) > 63 or not _LABEL.fullmatch(space):
        found.add("metadata.namespace", f"{shown(space)} is no namespace: a-z, 0-9 and - only, at most 63")
        return str(space)
    return space


def _read_metadata(metadata: dict[str, Any], found: _Found) -> Metadata:
    generation, uid = metadata.get("generation"), metadata.get("uid")
    return Metadata(
        labels=_read_texts(metadata.get("labels"), "metadata.labels", found),
        annotations=_read_texts(metadata.get("annotations"), "metadata.annotations", found),
        generation=generation if isinstance(generation, int) else 0,
        uid=uid if isinstance(uid, str) else "",
    )


def _read_texts(value: object, path: str, found: _Found) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        found.add(path, f"expected a mapping, got {shown(value)}")
        return {}
    for name, text in value.items():
        if not isinstance(text, str):
            found.add(f"{path}.{name}", f"expected a string, got {shown(text)}", f'put it in quotes: "{_plain(text)}"')
    return {name: text for name, text in value.items() if isinstance(text, str)}


def _plain(value: object) -> str:
    return shown(value).strip('"') if not isinstance(value, dict | list) else "..."


def _check_fields(value: Mapping[str, Any], known: Iterable[str], prefix: str, found: _Found) -> None:
    known = tuple(known)
    for name in value:
        if name not in known:
            found.add(f"{prefix}{name}", f'unknown field "{prefix}{name}"', did_you_mean(name, known))


# Specs.


def decode_spec(model: type[_Model], value: object, path: str) -> tuple[_Model | None, list[Flaw]]:
    """Read a spec that does not stand in a document of its own, such as a default in a ConfigMap."""
    found = _Found(Document("", 0, {}))
    spec = _read_spec(model, value, path, found)
    return spec, [Flaw(p.path, p.message, p.hint) for p in found.problems if p.severity == "error"]


def _read_spec(model: type[_Model], value: object, path: str, found: _Found) -> _Model | None:
    """The model, or None where the shape is wrong; the rest is checked then all the same, so that all errors show at once."""
    value = drop_nulls(value if value is not None else {})
    if not isinstance(value, dict):
        found.add(path, f"expected a mapping, got {shown(value)}")
        return None
    try:
        spec = model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
        bad = {_add_shape_error(detail, model, path, found) for detail in details}
        for detail in details:
            _prune(value, detail["loc"])
        with suppress(ValidationError):
            rest = model.model_validate(value)
            found.flaws(flaw for flaw in rest.flaws(path) if not any(_touches(flaw.path, one) for one in bad))
            _add_unknown(rest, path, found)
        return None
    found.flaws(spec.flaws(path))
    _add_unknown(spec, path, found)
    return spec


def _touches(path: str, bad: str) -> bool:
    return bad.startswith(path) or path.startswith(bad)


def _prune(value: Mapping[str, object], location: tuple[int | str, ...]) -> None:
    """Take out the field at the location, where there still is one."""
    inner: Any = value
    with suppress(KeyError, IndexError, TypeError):
        for step in location[:-1]:
            inner = inner[step]
        inner.pop(str(location[-1]), None)


def _add_unknown(spec: Spec, path: str, found: _Found) -> None:
    for parent, name, known in unknown_fields(spec, path):
        # What was meant to be a filter must not become no filter.
        grave = parent == "spec" and (name in _DIALECTS or "filter" in did_you_mean(name, known))
        where = f"{parent}.{name}"
        hint = did_you_mean(name, known)
        if name in _DIALECTS:
            hint = f"dialects stand in the list spec.filters: `- {name}: ...`"
        found.add(where, f'unknown field "{where}"' + ("" if grave else " is not read"), hint, warn=not grave)


def _add_shape_error(detail: ErrorDetails, model: type[Spec], path: str, found: _Found) -> str:
    where = path
    for step in detail["loc"]:
        where += f"[{step}]" if isinstance(step, int) else f".{step}"
    message, hint = _shape_message(detail, where, model)
    found.add(where, message, hint)
    return where


def _shape_message(detail: ErrorDetails, where: str, model: type[Spec]) -> tuple[str, str]:
    given, kind = detail.get("input"), detail["type"]
    if kind == "extra_forbidden":
        return f'unknown field "{where}"', _unknown_hint(detail["loc"], model)
    if kind in _INT_ERRORS:
        too_big = type(given) is int and given > 0
        return f"expected an integer {'<= 2147483647' if too_big else '>= 0'}, got {shown(given)}", ""
    if kind == "string_type":
        return _string_message(detail["loc"], given)
    if kind == "literal_error":
        return f"expected {_literals(detail)}, got {shown(given)}", ""
    if kind in ("list_type", "bool_type"):
        return f"expected {'a list' if kind == 'list_type' else 'true or false'}, got {shown(given)}", ""
    if isinstance(given, str) and "://" in given and _is_destination(_model_at(model, detail["loc"])):
        return f"expected a mapping, got {shown(given)}", f"write `uri: {given}` below it"
    return f"expected a mapping, got {shown(given)}", ""


def _literals(detail: ErrorDetails) -> str:
    return str(detail.get("ctx", {}).get("expected", "another value")).replace("'", '"')


def _string_message(location: tuple[int | str, ...], given: object) -> tuple[str, str]:
    if location[-1] == "uri" and isinstance(given, dict):
        return "a string is wanted and a mapping was given", "a reference belongs under `ref`"
    if isinstance(given, dict | list):
        return f"expected a string, got {shown(given)}", ""
    return f"expected a string, got {shown(given)}", f'put it in quotes: "{_plain(given)}"'


def _unknown_hint(location: tuple[int | str, ...], model: type[Spec]) -> str:
    name = str(location[-1])
    parent = _model_at(model, location[:-1])
    if parent is eventing.TriggerFilter and name in _DIALECTS:
        return "filter has attributes only; dialects such as cesql stand in the list spec.filters"
    if _is_destination(parent) and name in KReference.model_fields:
        return "a reference belongs under `ref`"
    return did_you_mean(name, parent.model_fields) if parent is not None else ""


def _model_at(model: type[Spec], location: tuple[int | str, ...]) -> type[Spec] | None:
    """The model class that a location within a spec is read with."""
    current: type[Spec] | None = model
    for step in location:
        if isinstance(step, int):  # the fields of a list are those of its items
            continue
        info = current.model_fields.get(str(step)) if current is not None else None
        current = _spec_in(info.annotation) if info is not None else None
    return current


def _is_destination(model: type[Spec] | None) -> bool:
    return model is not None and issubclass(model, Destination)


def _spec_in(annotation: object) -> type[Spec] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Spec):
            return candidate
    return None


# One reader a kind.


def _spec_of(model: type[_Model], head: _Head, found: _Found) -> _Model | None:
    value = head.document.value
    _check_fields(value, _TOP, "", found)
    return _read_spec(model, value.get("spec"), "spec", found)


def _broker(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(eventing.BrokerSpec, head, found)
    return eventing.Broker(**_parts(head, found), spec=spec)


def _trigger(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(eventing.TriggerSpec, head, found)
    if spec is not None:
        found.flaws(eventing.annotation_flaws(head.metadata.annotations, head.key.namespace, spec))
        if spec.filters and spec.filter is not None and spec.filter.attributes:
            found.add("spec.filter", "filters is set, so filter is not read", "remove one of the two", warn=True)
    return eventing.Trigger(**_parts(head, found), spec=spec)


def _channel(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(messaging.ChannelSpec, head, found)
    return messaging.Channel(**_parts(head, found), spec=spec)


def _backing(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(messaging.BackingSpec, head, found)
    if spec is not None and spec.subscribers:
        found.add("spec.subscribers", "it is not read", "write a Subscription for each", warn=True)
    return messaging.BackingChannel(**_parts(head, found), spec=spec)


def _subscription(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(messaging.SubscriptionSpec, head, found)
    return messaging.Subscription(**_parts(head, found), spec=spec)


def _sequence(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(flows.SequenceSpec, head, found)
    return flows.Sequence(**_parts(head, found), spec=spec)


def _parallel(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(flows.ParallelSpec, head, found)
    return flows.Parallel(**_parts(head, found), spec=spec)


def _ping(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(sources.PingSourceSpec, head, found)
    return sources.PingSource(**_parts(head, found), spec=spec)


def _config_map(head: _Head, found: _Found) -> Resource:
    value = head.document.value
    _check_fields(value, (*_TOP[:3], "data", "binaryData", "immutable"), "", found)
    data = _read_texts(value.get("data"), "data", found)
    return ConfigMap(**_parts(head, found), data={k: v for k, v in data.items() if not k.startswith("_")})


def _secret(head: _Head, found: _Found) -> Resource:
    value = head.document.value
    _check_fields(value, (*_TOP[:3], "data", "stringData", "type", "immutable"), "", found)
    data = {}
    for name, text in _read_texts(value.get("data"), "data", found).items():
        try:
            raw = base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            found.add(f"data.{name}", "invalid value: no base64", "plain text stands under stringData")
            continue
        with suppress(UnicodeDecodeError):  # what is no text is nothing that the mesh reads
            data[name] = raw.decode()
    data |= _read_texts(value.get("stringData"), "stringData", found)
    return Secret(**_parts(head, found), data=data)


def _kafka_channel(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(messaging.KafkaChannelSpec, head, found)
    if spec is not None and spec.subscribers:
        found.add("spec.subscribers", "it is not read", "write a Subscription for each", warn=True)
    return messaging.KafkaChannel(**_parts(head, found), spec=spec)


def _kafka_sink(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(eventing.KafkaSinkSpec, head, found)
    return eventing.KafkaSink(**_parts(head, found), spec=spec)


def _redis_channel(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(redis.RedisStreamChannelSpec, head, found)
    return redis.RedisStreamChannel(**_parts(head, found), spec=spec)


def _plugin_channel(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(plugin.PluginChannelSpec, head, found)
    return plugin.PluginChannel(**_parts(head, found), spec=spec)


def _redis_sink(head: _Head, found: _Found) -> Resource:
    spec = _spec_of(redis.RedisStreamSinkSpec, head, found)
    return redis.RedisStreamSink(**_parts(head, found), spec=spec)


def _service(head: _Head, found: _Found) -> Resource:
    return Service(**_parts(head, found))


def _namespace(head: _Head, found: _Found) -> Resource:
    return Namespace(**_parts(head, found))


_READERS: dict[tuple[str, str], Callable[[_Head, _Found], Resource]] = {
    ("", "ConfigMap"): _config_map,
    ("", "Namespace"): _namespace,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    (eventing.GROUP, "Broker"): _broker,
    (eventing.GROUP, "Trigger"): _trigger,
    (eventing.GROUP, "KafkaSink"): _kafka_sink,
    (messaging.GROUP, "Channel"): _channel,
    (messaging.GROUP, "InMemoryChannel"): _backing,
    (messaging.GROUP, "KafkaChannel"): _kafka_channel,
    (messaging.GROUP, "Subscription"): _subscription,
    (messaging.KNIT_GROUP, "LogChannel"): _backing,
    (messaging.KNIT_GROUP, "RedisStreamChannel"): _redis_channel,
    (messaging.KNIT_GROUP, "PluginChannel"): _plugin_channel,
    (redis.SINKS, "RedisStreamSink"): _redis_sink,
    (flows.GROUP, "Sequence"): _sequence,
    (flows.GROUP, "Parallel"): _parallel,
    (sources.GROUP, "PingSource"): _ping,
}
