"""Resources → Plan, conditions, and everything that is wrong, at once. Pure and total: one bad Trigger never stops its Broker.

Start here for "why is my resource not Ready?": hubs.py has Brokers and channels, flows.py Sequence and Parallel,
triggers.py, subscriptions.py and sources.py the rest, resolve.py turns references into addresses, defaults.py reads
Knative's ConfigMaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mesh.plan.defaults import read_defaults
from mesh.plan.delivery import read_features
from mesh.plan.flows import build_flows, enter_flows
from mesh.plan.hubs import build_hubs, report_hubs, resolve_dead_letters, unique_hubs
from mesh.plan.keys import plan_keys
from mesh.plan.model import Plan
from mesh.plan.options import CompileOptions
from mesh.plan.sources import build_sources
from mesh.plan.subscriptions import build_subscriptions
from mesh.plan.triggers import build_triggers
from mesh.plan.world import gather
from mesh.resources.meta import Key, Resource, Status
from mesh.resources.problem import Problem

__all__ = ["CompileOptions", "Compiled", "compile_plan"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """statuses: of every served resource; Brokers of a foreign class and their Triggers have none, theirs are not ours to write.

    problems: what compiling found, sorted by place; what decoding found is in the resources and not repeated here.
    ignored: what this version does not serve, severity warning, and why.
    known: keys of every Topic and Egress that has a resource, broken ones included: what is not among them was deleted.
    """

    plan: Plan = field(default_factory=Plan)
    statuses: dict[Key, Status] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Problem] = field(default_factory=list)
    known: frozenset[str] = frozenset()


def compile_plan(resources: Sequence[Resource], options: CompileOptions) -> Compiled:
    """Compile all resources. Their order does not matter, and the same resources always give the same plan."""
    world = gather(resources, options)
    features = read_features(world)
    defaults = read_defaults(world)
    build_hubs(world, features, defaults)
    flows = enter_flows(world, features, defaults)
    resolve_dead_letters(world)
    report_hubs(world)
    build_flows(world, flows)
    sources = build_sources(world)
    build_triggers(world, features)
    build_subscriptions(world, features)
    hubs = [hub for hub in unique_hubs(world) if not hub.foreign]
    plan = Plan(
        ingresses=tuple(sorted((hub.ingress() for hub in hubs if hub.paths), key=lambda ingress: ingress.paths)),
        topics=tuple(sorted((hub.topic() for hub in hubs if not hub.blocked), key=lambda topic: topic.key)),
        sources=tuple(sorted(sources, key=lambda source: source.key)),
    )
    return Compiled(
        plan=plan,
        statuses=dict(sorted(world.statuses.items())),
        problems=_sorted(world.problems),
        ignored=_sorted(world.ignored),
        known=frozenset(key for resource in world.resources.values() for key in plan_keys(resource)),
    )


def _sorted(problems: list[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.resource, p.path, p.message))
