"""Subscriptions → egresses. Pure. Eventing reference §3.4, §6.7, §15."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.plan.conditions import false, invalid_status, status_of, target_fields, true
from mesh.plan.delivery import Features, feature_flaws, merged, policy_of
from mesh.plan.hub import KAFKA, Hub
from mesh.plan.kafka import subscription_group
from mesh.plan.model import Egress, Target
from mesh.plan.resolve import Unresolved, resolve
from mesh.plan.world import World
from mesh.resources.annotations import tuning
from mesh.resources.duck import DeliverySpec, Destination
from mesh.resources.kinds import CHANNELS, SERVED, right_versions, split_version, why_unknown
from mesh.resources.messaging import GROUP, Subscription, SubscriptionSpec
from mesh.resources.meta import Condition, Resource
from mesh.resources.problem import Problem, did_you_mean

_SUBSCRIBABLE = CHANNELS | {(GROUP, "Channel")}
_REASONS = {
    "spec.subscriber": ("SubscriberResolveFailed", "Failed to resolve spec.subscriber"),
    "spec.reply": ("ReplyResolveFailed", "Failed to resolve spec.reply"),
    "spec.delivery.deadLetterSink": ("DeadLetterSinkResolveFailed", "Failed to resolve spec.delivery.deadLetterSink"),
}


def build_subscriptions(world: World, features: Features) -> None:
    """Hang every Subscription on its channel, or say why not. Channels must be compiled before."""
    for subscription in world.of(Subscription):
        spec = subscription.spec
        problems = [] if spec is None else _check(world, subscription, spec, features)
        if not subscription.is_valid or problems or spec is None:
            world.statuses[subscription.key] = invalid_status(subscription, problems)
            continue
        _Builder(world, subscription, spec).build()


def _check(world: World, subscription: Subscription, spec: SubscriptionSpec, features: Features) -> list[Problem]:
    problems = [
        world.report(subscription, flaw.message, path=flaw.path, hint=flaw.hint)
        for flaw in feature_flaws(features, spec.delivery, "spec.delivery")
    ]
    if spec.channel.namespace not in ("", subscription.key.namespace) and not features.cross_namespace:
        message = "a channel of another namespace is not allowed"
        hint = "cross-namespace-event-links in ConfigMap config-features allows it"
        problems.append(world.report(subscription, message, path="spec.channel.namespace", hint=hint))
    return problems


class _Builder:
    """One Subscription: the first reference that fails gives ReferencesResolved its reason, all of them are reported."""

    def __init__(self, world: World, subscription: Subscription, spec: SubscriptionSpec) -> None:
        self._world = world
        self._subscription = subscription
        self._spec = spec
        self._failed: Condition | None = None

    def build(self) -> None:
        """Write the status, and the egress where everything is there."""
        spec = self._spec
        hub = self._channel()
        subscriber = self._resolve(spec.subscriber, "spec.subscriber")
        reply = self._resolve(spec.reply, "spec.reply")
        own = spec.delivery.deadLetterSink if spec.delivery else None
        dead_letter = self._resolve(own, "spec.delivery.deadLetterSink")
        if own is None and hub is not None:
            dead_letter = hub.dead_letter
        found = self._conditions(hub)
        if hub is not None and subscriber is not None and all(condition.status == "True" for condition in found):
            ends = Ends(subscriber, reply, dead_letter)
            owner, name = self._subscription, self._subscription.key.name
            egress = subscription_egress(self._world, owner, name, hub=hub, ends=ends, delivery=spec.delivery)
            hub.egresses.append(egress)
        physical = (
            target_fields("subscriber", subscriber)
            | target_fields("reply", reply)
            | target_fields("deadLetterSink", dead_letter)
        )
        fields = {"physicalSubscription": physical} if physical else {}
        conditions = {condition.type: condition for condition in found}
        self._world.statuses[self._subscription.key] = status_of("Subscription", conditions, fields)

    def _conditions(self, hub: Hub | None) -> list[Condition]:
        if self._failed is not None:
            return [self._failed]
        if hub is not None and hub.blocked:
            text = f"{hub.owner.key} is not ready: {hub.blocked}"
            self._world.report(self._subscription, text, path="spec.channel")
            return [true("ReferencesResolved"), false("ChannelReady", "SubscriptionNotMarkedReadyByChannel", text)]
        return [true("ReferencesResolved"), true("AddedToChannel"), true("ChannelReady")]

    def _channel(self) -> Hub | None:
        key, ref = self._subscription.channel_key, self._spec.channel
        kind = key.group, key.kind
        _, version = split_version(ref.apiVersion)
        hub = self._world.hubs.get(key)
        if kind not in SERVED:
            message, hint = why_unknown(ref.apiVersion or ref.group, ref.kind), ""
        elif kind not in _SUBSCRIBABLE:
            message, hint = f"{key} is no channel", "a Trigger reads from a Broker" if key.kind == "Broker" else ""
        elif version and version not in SERVED[kind]:
            message, hint = f"{ref.apiVersion} {key.kind} is not served", f"use {right_versions(*kind)}"
        elif hub is None:
            message = f"{key} does not exist"
            hint = did_you_mean(key.name, self._world.names_of(key.kind, key.namespace))
        else:
            return hub
        self._world.report(self._subscription, message, path="spec.channel", hint=hint)
        text = f"Failed to get Spec.Channel as Channelable duck type. {message}" + (f" ({hint})" if hint else "")
        self._failed = false("ReferencesResolved", "ChannelReferenceFailed", text)
        return None

    def _resolve(self, destination: Destination | None, path: str) -> Target | None:
        if destination is None or (destination.ref is None and not destination.uri):
            return None
        found = resolve(self._world, destination, self._subscription.key.namespace)
        if not isinstance(found, Unresolved):
            return found
        self._world.report(self._subscription, found.message, path=path, hint=found.hint)
        reason, message = _REASONS[path]
        failed = false("ReferencesResolved", reason, f"{message}: {found.sentence}")
        self._failed = self._failed or failed
        return None


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the events of a subscription go."""

    subscriber: Target
    reply: Target | None
    dead_letter: Target | None


def subscription_egress(
    world: World, owner: Resource, name: str, *, hub: Hub, ends: Ends, delivery: DeliverySpec | None
) -> Egress:
    """The Egress of a Subscription of that name; its own retries as a whole, or the channel's as a whole."""
    namespace = owner.key.namespace
    tuned = tuning(owner.metadata.annotations).over(hub.tuning)
    policy = policy_of(delivery if delivery is not None else hub.delivery)
    options: dict[str, str | float | bool] = {}
    if hub.backing == KAFKA:  # always in order (§6.4), and merged field by field (§3.4)
        policy = policy_of(merged(delivery, hub.delivery), series="kafka")
        uid = owner.metadata.uid if owner.key.kind == "Subscription" else ""
        options = {"group": subscription_group(hub.name, namespace, uid or name), "ordered": True}
    return Egress(
        key=f"subscription/{namespace}/{name}",
        kind="Subscription",
        namespace=namespace,
        name=name,
        subscriber=ends.subscriber,
        reply=ends.reply,
        dead_letter=ends.dead_letter,
        policy=policy,
        options=options,
        parallelism=tuned.parallelism or world.options.parallelism,
        ignore_invalid_reply=bool(tuned.ignore_invalid_reply),
        reply_on_200_only=bool(tuned.reply_on_200_only),
        strict_reply=False,
    )
