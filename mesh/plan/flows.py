"""Sequence and Parallel → channels and subscriptions; they have no runtime of their own. Pure. Eventing reference §7, §15.

What is edited while events wait: every channel and subscription is named by its index, as in Knative, and what waits in a
channel goes to whatever reads from it next. So a step keeps its position as long as its index and the kind of channel stay;
a step put in or taken out in the middle moves those behind it, and an event on its way goes on with the steps as they are
now: one that waited for the step at an index gets the one that stands there after the edit. Nothing is lost where steps are
put in. Where one is taken out the last channel is deleted with what still waits in it, as in Knative: empty it first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesh.plan.conditions import false, invalid_status, status_of, true, unknown
from mesh.plan.defaults import Defaults, Template, check_template
from mesh.plan.delivery import Features, feature_flaws
from mesh.plan.hops import Hop, hops_of
from mesh.plan.hub import Hub
from mesh.plan.hubs import (
    CHANNEL_GROUPS,
    block,
    block_invalid,
    channel_hub,
    channel_part,
    channel_reference,
    claim_addresses,
    set_backing,
)
from mesh.plan.model import Target
from mesh.plan.resolve import Unresolved, resolve
from mesh.plan.subscriptions import Ends, subscription_egress
from mesh.plan.world import World
from mesh.resources import flows as kinds
from mesh.resources.annotations import tuning
from mesh.resources.duck import Destination
from mesh.resources.messaging import GROUP as MESSAGING
from mesh.resources.meta import Condition, Key
from mesh.resources.problem import Problem

_TEMPLATE = "spec.channelTemplate"


@dataclass(frozen=True, slots=True)
class Flow:
    """One Sequence or Parallel while it is being compiled. hubs: its channels by name, the one with the address first."""

    owner: kinds.Sequence | kinds.Parallel
    hubs: dict[str, Hub]
    hops: tuple[Hop, ...]
    problems: tuple[Problem, ...]

    @property
    def door(self) -> Hub:
        """The channel that has the flow's address."""
        return next(iter(self.hubs.values()))


# Channels.


def enter_flows(world: World, features: Features, defaults: Defaults) -> list[Flow]:
    """Make the channels of all flows. Brokers and channels must be there before: they come first where an address is taken."""
    owners: list[kinds.Sequence | kinds.Parallel] = [*world.of(kinds.Sequence), *world.of(kinds.Parallel)]
    return [_enter(world, owner, features, defaults) for owner in owners]


def _enter(world: World, owner: kinds.Sequence | kinds.Parallel, features: Features, defaults: Defaults) -> Flow:
    hops = hops_of(owner)
    template = _template(owner, defaults)
    problems = _check(world, owner, features, hops, template)
    broken = _report_template(world, owner, template)
    hubs = {}
    for name in owner.channels:
        hub = hubs[name] = channel_hub(world, owner, name)
        if not block_invalid(hub, owner, problems):
            _furnish(world, hub, owner, template=template, broken=broken)
        claim_addresses(world, hub)
        if not hub.blocked:
            world.hubs.setdefault(Key(CHANNEL_GROUPS[hub.backing], hub.backing, hub.namespace, name), hub)
    flow = Flow(owner, hubs, hops, tuple(problems))
    world.hubs[owner.key] = flow.door
    return flow


def _template(owner: kinds.Sequence | kinds.Parallel, defaults: Defaults) -> Template:
    """The one that is given, else the cluster's default: Knative's webhook does not look at the namespace here (§6.2)."""
    given = owner.spec.channelTemplate if owner.spec else None
    return defaults.channel_template("") if given is None else check_template(given)


def own_problem(owner: kinds.Sequence | kinds.Parallel) -> Problem | None:
    """What is wrong with the channel template that it gives, if anything is."""
    given = owner.spec.channelTemplate if owner.spec else None
    return None if given is None else _template_problem(owner, check_template(given))


def _template_problem(owner: kinds.Sequence | kinds.Parallel, template: Template) -> Problem | None:
    """Of an invalid flow nothing more is said."""
    if not template.error or not owner.is_valid:
        return None
    return owner.problem(template.error, path=".".join(filter(None, (_TEMPLATE, template.field))))


def _report_template(world: World, owner: kinds.Sequence | kinds.Parallel, template: Template) -> Problem | None:
    problem = _template_problem(owner, template)
    if problem is not None:
        world.problems.append(problem)
    return problem


def _furnish(
    world: World, hub: Hub, owner: kinds.Sequence | kinds.Parallel, *, template: Template, broken: Problem | None
) -> None:
    """What stands behind it. A template has no annotations, so the flow's own go to its channels, as a Broker's do."""
    if broken is not None:
        block(hub, "ChannelsReady", "ChannelFailure", broken.sentence)
        return
    annotations = owner.metadata.annotations
    hub.tuning = tuning(annotations)
    hub.delivery = template.delivery
    hub.delivery_path = f"{_TEMPLATE}.spec.delivery"
    error = set_backing(world, hub, template.kind, channel_part(annotations), template.spec)
    if error:
        block(hub, "ChannelsReady", "ChannelFailure", error)
        world.report(owner, error, path=_TEMPLATE)


def _check(
    world: World,
    owner: kinds.Sequence | kinds.Parallel,
    features: Features,
    hops: Sequence[Hop],
    template: Template,
) -> list[Problem]:
    deliveries = [(hop.delivery, hop.delivery_path) for hop in hops]
    deliveries.append((template.delivery, f"{_TEMPLATE}.spec.delivery"))
    return [
        world.report(owner, flaw.message, path=flaw.path, hint=flaw.hint)
        for delivery, path in deliveries
        for flaw in feature_flaws(features, delivery, path)
    ]


# Subscriptions.


def build_flows(world: World, flows: Sequence[Flow]) -> None:
    """Hang the subscriptions on the channels and write the statuses. The dead-letter sinks of hubs must be resolved before."""
    for flow in flows:
        owner = flow.owner
        if not owner.is_valid or flow.problems:
            world.statuses[owner.key] = invalid_status(owner, flow.problems)
            continue
        states = {hop.name: _connect(world, flow, hop) for hop in flow.hops}
        report = _sequence_fields if isinstance(owner, kinds.Sequence) else _parallel_fields
        world.statuses[owner.key] = status_of(owner.key.kind, _conditions(flow, states), report(flow, states))


def _connect(world: World, flow: Flow, hop: Hop) -> Condition:
    """Make the egress of a subscription; returns its Ready, with the reason of the first thing that is missing."""
    hub = flow.hubs[hop.channel]
    failures: list[Condition] = []
    other = Key(MESSAGING, "Subscription", hub.namespace, hop.name)
    if other in world.resources:
        message = f"there is a {other} already, which does not belong to it"
        world.report(flow.owner, message, path="metadata.name", hint="rename one of the two")
        failures.append(false("Ready", "SubscriptionNotOwned", message))
    subscriber = _resolve(world, flow, hop.subscriber, ("SubscriberResolveFailed", hop.subscriber_path), failures)
    reply = _resolve(world, flow, hop.reply, ("ReplyResolveFailed", hop.reply_path), failures)
    sink = hop.delivery.deadLetterSink if hop.delivery else None
    path = f"{hop.delivery_path}.deadLetterSink"
    dead_letter = _resolve(world, flow, sink, ("DeadLetterSinkResolveFailed", path), failures)
    if hub.blocked:
        failures.append(false("Ready", "SubscriptionNotMarkedReadyByChannel", _channel_ready(hub).message))
    if failures or subscriber is None:
        return failures[0]
    ends = Ends(subscriber, reply, dead_letter if sink is not None else hub.dead_letter)
    egress = subscription_egress(world, flow.owner, hop.name, hub=hub, ends=ends, delivery=hop.delivery)
    hub.egresses.append(replace(egress, origin=hop.origin, dead_letter_hint=hop.hint))
    return true("Ready")


def _resolve(
    world: World,
    flow: Flow,
    destination: Destination | str | None,
    about: tuple[str, str],
    failures: list[Condition],
) -> Target | None:
    """about: the reason of a failure, and the field. A text names a channel of the flow: what is wrong with it is told there."""
    reason, path = about
    if destination is None:
        return None
    if isinstance(destination, str):
        hub = flow.hubs[destination]
        if not hub.blocked:
            return hub.target()
        failures.append(false("Ready", reason, f"channel {destination}: {_channel_ready(hub).message}"))
        return None
    found = resolve(world, destination, flow.owner.key.namespace)
    if not isinstance(found, Unresolved):
        return found
    world.report(flow.owner, found.message, path=path, hint=found.hint)
    failures.append(false("Ready", reason, f"Failed to resolve {path}: {found.sentence}"))
    return None


# Statuses.


def _conditions(flow: Flow, states: dict[str, Condition]) -> dict[str, Condition]:
    """What is not ready is Unknown in a Sequence and False in a Parallel, as in Knative."""
    pending = unknown if isinstance(flow.owner, kinds.Sequence) else false
    channels = next((ready for hub in flow.hubs.values() if (ready := _channel_ready(hub)).status != "True"), None)
    subscriptions = next((ready for ready in states.values() if ready.status != "True"), None)
    found = [
        pending("ChannelsReady", "ChannelsNotReady", channels.message) if channels else true("ChannelsReady"),
        pending("SubscriptionsReady", "SubscriptionsNotReady", subscriptions.message)
        if subscriptions
        else true("SubscriptionsReady"),
        pending("Addressable", "emptyAddress", _channel_ready(flow.door).message)
        if flow.door.blocked
        else true("Addressable"),
    ]
    return {condition.type: condition for condition in found}


def _channel_ready(hub: Hub) -> Condition:
    failed = next((condition for condition in hub.conditions.values() if condition.status == "False"), None)
    return true("Ready") if failed is None else false("Ready", failed.reason, failed.message)


def _sequence_fields(flow: Flow, states: dict[str, Condition]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "channelStatuses": [_channel_status(flow, hub) for hub in flow.hubs.values()],
        "subscriptionStatuses": [_subscription_status(flow, hop.name, states) for hop in flow.hops],
    }
    return fields if flow.door.blocked else fields | {"address": {"url": flow.door.url}}


def _parallel_fields(flow: Flow, states: dict[str, Condition]) -> dict[str, Any]:
    ingress, *channels = flow.hubs.values()
    pairs = zip(flow.hops[::2], flow.hops[1::2], channels, strict=True)
    branches = [
        {
            "filterSubscriptionStatus": _subscription_status(flow, gate.name, states),
            "filterChannelStatus": _channel_status(flow, channel),
            "subscriberSubscriptionStatus": _subscription_status(flow, branch.name, states),
        }
        for gate, branch, channel in pairs
    ]
    fields = {"ingressChannelStatus": _channel_status(flow, ingress), "branchStatuses": branches}
    return fields if ingress.blocked else fields | {"address": {"name": "http", "url": ingress.url}}


def _channel_status(flow: Flow, hub: Hub) -> dict[str, Any]:
    template = flow.owner.spec.channelTemplate if flow.owner.spec else None
    asked = {"apiVersion": template.apiVersion, "kind": template.kind} if template else {}
    return {"channel": channel_reference(hub) | asked, "ready": _channel_ready(hub).to_dict()}


def _subscription_status(flow: Flow, name: str, states: dict[str, Condition]) -> dict[str, Any]:
    kind = {"apiVersion": f"{MESSAGING}/v1", "kind": "Subscription"}
    reference = {**kind, "name": name, "namespace": flow.owner.key.namespace}
    return {"subscription": reference, "ready": states[name].to_dict()}
