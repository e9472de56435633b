"""Triggers → egresses. Pure. Eventing reference §3.4 (MT class), §5, §15."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from mesh.filters.attributes import build_attributes
from mesh.filters.dialects import FilterNode, build_filters
from mesh.plan.conditions import NO_DEAD_LETTER, copied, false, invalid_status, status_of, target_fields, true, unknown
from mesh.plan.delivery import Features, feature_flaws, merged_namespaced, policy_of
from mesh.plan.hub import KAFKA, Hub
from mesh.plan.kafka import trigger_group
from mesh.plan.model import Egress, Target
from mesh.plan.resolve import Unresolved, resolve
from mesh.plan.world import World
from mesh.resources.annotations import tuning
from mesh.resources.duck import Destination
from mesh.resources.eventing import DELIVERY_ORDER, KAFKA_CLASS, KAFKA_NAMESPACED_CLASS, Trigger, TriggerSpec
from mesh.resources.kinds import split_version
from mesh.resources.meta import Condition, Ignored, Key
from mesh.resources.problem import Problem, did_you_mean

_Flaws = tuple[tuple[str, str, str], ...]


def build_triggers(world: World, features: Features) -> None:
    """Hang every Trigger on its Broker, or say why not. Brokers and sources must be compiled before."""
    for trigger in world.of(Trigger):
        broker = world.hubs.get(trigger.broker_key) if trigger.spec else None
        if broker is not None and broker.foreign:
            continue
        spec = trigger.spec
        nodes, problems = _check(world, trigger, features)
        if not trigger.is_valid or problems or spec is None:
            world.statuses[trigger.key] = invalid_status(trigger, problems)
            continue
        _build(world, trigger, spec, broker, nodes)


def _check(world: World, trigger: Trigger, features: Features) -> tuple[tuple[FilterNode, ...], list[Problem]]:
    """The filters, and what the resource itself has wrong beyond what decoding saw."""
    spec = trigger.spec
    if spec is None:
        return (), []
    nodes, flaws = filters_of(spec)
    problems = [world.report(trigger, message, path=path, hint=hint) for path, message, hint in flaws]
    problems += [
        world.report(trigger, flaw.message, path=flaw.path, hint=flaw.hint)
        for flaw in feature_flaws(features, spec.delivery, "spec.delivery")
    ]
    ref = spec.brokerRef
    if ref is not None and ref.namespace not in ("", trigger.key.namespace) and not features.cross_namespace:
        problems.append(_cross_namespace(world, trigger))
    return nodes, problems


def _cross_namespace(world: World, trigger: Trigger) -> Problem:
    return world.report(
        trigger,
        "a Broker of another namespace is not allowed",
        path="spec.brokerRef.namespace",
        hint="cross-namespace-event-links in ConfigMap config-features allows it",
    )


def filters_of(spec: TriggerSpec) -> tuple[tuple[FilterNode, ...], _Flaws]:
    """The filters that hold: `filters` when it has any, else the older `filter`."""
    if spec.filters is not None and spec.filters != []:
        return _dialects(json.dumps(spec.filters, default=str))
    if spec.filter is not None and spec.filter.attributes is not None:
        return _attributes(json.dumps(spec.filter.attributes, default=str))
    return (), ()


# Compiling is pure, the world is compiled again at each change, and CESQL costs milliseconds: so it is done once per text.


@lru_cache(maxsize=16_384)
def _dialects(text: str) -> tuple[tuple[FilterNode, ...], _Flaws]:
    nodes, flaws = build_filters(json.loads(text), "spec.filters")
    return tuple(nodes), tuple(flaws)


@lru_cache(maxsize=16_384)
def _attributes(text: str) -> tuple[tuple[FilterNode, ...], _Flaws]:
    nodes, flaws = build_attributes(json.loads(text), "spec.filter.attributes")
    return tuple(nodes), tuple(flaws)


def _build(
    world: World, trigger: Trigger, spec: TriggerSpec, broker: Hub | None, nodes: tuple[FilterNode, ...]
) -> None:
    found = [_broker_condition(world, trigger, broker), _dependency_condition(world, trigger)]
    subscriber = _resolve_subscriber(world, trigger, spec.subscriber, found)
    dead_letter = _resolve_dead_letter(world, trigger, spec, broker, found)
    is_ready = all(condition.status == "True" for condition in found)
    if is_ready and broker is not None and subscriber is not None:
        broker.egresses.append(_egress(world, trigger, spec, broker, nodes, subscriber, dead_letter))
        found.append(true("SubscriptionReady"))
    fields: dict[str, Any] = target_fields("subscriber", subscriber) | target_fields("deadLetterSink", dead_letter)
    if broker is not None and broker.kafka_class:
        fields["annotations"] = {"group.id": trigger_group(world, trigger.key, trigger.metadata.uid)}
    world.statuses[trigger.key] = status_of("Trigger", {condition.type: condition for condition in found}, fields)


def _broker_condition(world: World, trigger: Trigger, broker: Hub | None) -> Condition:
    if broker is not None:
        return copied("BrokerReady", world.statuses[broker.owner.key].ready)
    key = trigger.broker_key
    message = f'Broker "{key.name}" does not exist in namespace {key.namespace}'
    names = world.names_of("Broker", key.namespace)
    hint = did_you_mean(key.name, names) or (f"there is {names[0]}" if names else "")
    path = "spec.brokerRef" if trigger.spec and trigger.spec.brokerRef else "spec.broker"
    problem = world.report(trigger, message, path=path, hint=hint)
    return false("BrokerReady", "BrokerDoesNotExist", f"{problem.message} ({hint})" if hint else problem.message)


def _dependency_condition(world: World, trigger: Trigger) -> Condition:
    dependency = trigger.dependency()
    if dependency is None:
        return true("DependencyReady")
    group, _ = split_version(dependency.api_version)
    key = Key(group, dependency.kind, trigger.key.namespace, dependency.name)
    found = world.resources.get(key)
    path = "metadata.annotations.knative.dev/dependency"
    if found is None:
        world.report(trigger, f"{key} does not exist", path=path)
        return false("DependencyReady", "DependencyDoesNotExist", f"Dependency does not exist: {key}")
    if isinstance(found, Ignored):
        world.report(trigger, f"{key} is never ready here: {found.reason}", path=path)
        return unknown("DependencyReady", "DependencyNotServed", found.reason)
    status = world.statuses.get(key)
    if status is None:
        return unknown("DependencyReady", "DependencyNotReconciled", f"{key} has no conditions")
    return copied("DependencyReady", status.ready)


def _resolve_subscriber(
    world: World, trigger: Trigger, destination: Destination, found: list[Condition]
) -> Target | None:
    subscriber = resolve(world, destination, trigger.key.namespace)
    if not isinstance(subscriber, Unresolved):
        found.append(true("SubscriberResolved"))
        return subscriber
    world.report(trigger, subscriber.message, path="spec.subscriber", hint=subscriber.hint)
    found.append(false("SubscriberResolved", "Unable to get the Subscriber's URI", subscriber.sentence))
    return None


def _resolve_dead_letter(
    world: World, trigger: Trigger, spec: TriggerSpec, broker: Hub | None, found: list[Condition]
) -> Target | None:
    """Its own, else the Broker's: inherited on its own, whatever else `spec.delivery` says (MT class)."""
    kind = "DeadLetterSinkResolved"
    own = spec.delivery.deadLetterSink if spec.delivery else None
    if own is None:
        inherited = broker.dead_letter if broker is not None else None
        if broker is not None and broker.kafka_class == KAFKA_CLASS and spec.delivery is not None:
            inherited = None  # a Trigger's delivery replaces the Broker's as a whole there (§3.4)
        found.append(true(kind) if inherited else true(kind, *NO_DEAD_LETTER))
        return inherited
    resolved = resolve(world, own, trigger.key.namespace)
    if not isinstance(resolved, Unresolved):
        found.append(true(kind))
        return resolved
    world.report(trigger, resolved.message, path="spec.delivery.deadLetterSink", hint=resolved.hint)
    found.append(false(kind, "Unable to get the dead letter sink's URI", resolved.sentence))
    return None


def _options(world: World, trigger: Trigger, broker: Hub) -> dict[str, str | float | bool]:
    """§5.7: unordered unless the annotation says otherwise."""
    if broker.backing != KAFKA:
        return {}
    group = trigger_group(world, trigger.key, trigger.metadata.uid)
    order = trigger.metadata.annotations.get(DELIVERY_ORDER, "unordered")
    return {"group": group, "ordered": order.lower() == "ordered"}


def _egress(
    world: World,
    trigger: Trigger,
    spec: TriggerSpec,
    broker: Hub,
    nodes: tuple[FilterNode, ...],
    subscriber: Target,
    dead_letter: Target | None,
) -> Egress:
    delivery = spec.delivery if spec.delivery is not None else broker.delivery
    policy, options = policy_of(delivery), _options(world, trigger, broker)
    if broker.kafka_class == KAFKA_NAMESPACED_CLASS:
        policy = policy_of(merged_namespaced(spec.delivery, broker.delivery), series="kafka", delay_s=1.0)
    elif broker.kafka_class:
        policy = policy_of(delivery, series="kafka")
    tuned = tuning(trigger.metadata.annotations).over(broker.tuning)
    return Egress(
        key=f"trigger/{trigger.key.namespace}/{trigger.key.name}",
        kind="Trigger",
        namespace=trigger.key.namespace,
        name=trigger.key.name,
        subscriber=subscriber,
        filters=nodes,
        reply=broker.target(),
        dead_letter=dead_letter,
        policy=policy,
        options=options,
        format=(delivery.format if delivery else None) or "",
        parallelism=tuned.parallelism or world.options.parallelism,
        ignore_invalid_reply=bool(tuned.ignore_invalid_reply),
        reply_on_200_only=bool(tuned.reply_on_200_only),
        strict_reply=True,
    )
