"""PingSources → source specs. Pure. Eventing reference §1.4, §8.1, §15."""

from __future__ import annotations

from mesh.plan.conditions import false, invalid_status, status_of, target_fields, true
from mesh.plan.model import SourceSpec
from mesh.plan.resolve import Unresolved, resolve
from mesh.plan.world import World
from mesh.resources.problem import Problem
from mesh.resources.sources import PingSource, PingSourceSpec

PING_TYPE = "dev.knative.sources.ping"


def build_sources(world: World) -> list[SourceSpec]:
    """The sources that can run; the others get conditions that say why not. Brokers and channels must be compiled before."""
    return [built for source in world.of(PingSource) if (built := _ping(world, source)) is not None]


def _ping(world: World, source: PingSource) -> SourceSpec | None:
    spec = source.spec
    problems = [] if spec is None else _check(world, source, spec)
    if not source.is_valid or problems or spec is None or spec.sink is None:
        world.statuses[source.key] = invalid_status(source, problems)
        return None
    sink = resolve(world, spec.sink, source.key.namespace)
    if isinstance(sink, Unresolved):
        world.report(source, sink.message, path="spec.sink", hint=sink.hint)
        missing = {"SinkProvided": false("SinkProvided", "NotFound", sink.sentence)}
        world.statuses[source.key] = status_of("PingSource", missing, {})
        return None
    name = f"/apis/v1/namespaces/{source.key.namespace}/pingsources/{source.key.name}"
    fields = {**target_fields("sink", sink), "ceAttributes": [{"type": PING_TYPE, "source": name}]}
    found = {kind: true(kind) for kind in ("SinkProvided", "Deployed")}
    world.statuses[source.key] = status_of("PingSource", found, fields)
    extensions = spec.ceOverrides.extensions if spec.ceOverrides else {}
    return SourceSpec(
        key=f"pingsource/{source.key.namespace}/{source.key.name}",
        kind="PingSource",
        namespace=source.key.namespace,
        name=source.key.name,
        sink=sink,
        overrides={name.lower(): value for name, value in sorted(extensions.items())},
        options=_options(spec),
    )


def _options(spec: PingSourceSpec) -> dict[str, str]:
    given = {
        "schedule": spec.schedule,
        "timezone": spec.timezone or None,
        "contentType": spec.contentType or None,
        "data": spec.data,
        "dataBase64": spec.dataBase64,
    }
    return {name: value for name, value in given.items() if value is not None}


def _check(world: World, source: PingSource, spec: PingSourceSpec) -> list[Problem]:
    problems = []
    bad = world.options.check_schedule(spec.schedule, spec.timezone)
    if bad is not None:
        problems.append(world.report(source, bad[1], path=f"spec.{bad[0]}"))
    limit = (world.settings("config-ping-defaults") or {}).get("data-max-size", "-1").strip()
    for field in ("data", "dataBase64"):
        size = len((getattr(spec, field) or "").encode())
        if limit.isdigit() and size > int(limit):
            message = f"the data has {size} bytes and data-max-size in ConfigMap config-ping-defaults allows {limit}"
            problems.append(world.report(source, message, path=f"spec.{field}"))
    return problems
