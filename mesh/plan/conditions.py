"""Conditions of each kind, with Knative's reasons and messages. Pure. Eventing reference §15."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.plan.model import Target
from mesh.resources.meta import Condition, ConditionStatus, Resource, Status, happy
from mesh.resources.problem import Problem

BROKER = (
    "IngressReady",
    "TriggerChannelReady",
    "FilterReady",
    "Addressable",
    "DeadLetterSinkResolved",
    "EventPoliciesReady",
)
TRIGGER = (
    *("BrokerReady", "SubscriptionReady", "DependencyReady", "SubscriberResolved"),
    *("DeadLetterSinkResolved", "OIDCIdentityCreated"),
)
CHANNEL = ("BackingChannelReady", "Addressable", "DeadLetterSinkResolved", "EventPoliciesReady")
BACKING_CHANNEL = (
    *("ServiceReady", "EndpointsReady", "Addressable", "ChannelServiceReady"),
    *("DeadLetterSinkResolved", "EventPoliciesReady"),
)
KAFKA_BROKER = (
    *("Addressable", "DataPlaneAvailable", "TopicReady", "ConfigMapUpdated", "ConfigParsed", "ProbeSucceeded"),
    "EventPoliciesReady",
)
KAFKA_CHANNEL = ("Subscribers", "TopicReady", "ConfigMapUpdated", "ConfigParsed", "ProbeSucceeded")
SUBSCRIPTION = ("ReferencesResolved", "AddedToChannel", "ChannelReady", "OIDCIdentityCreated")
FLOW = ("ChannelsReady", "SubscriptionsReady", "Addressable", "EventPoliciesReady")
PING_SOURCE = ("SinkProvided", "Deployed", "OIDCIdentityCreated")

DEPENDENTS: Mapping[str, tuple[str, ...]] = {
    "Broker": BROKER,
    "Trigger": TRIGGER,
    "Channel": CHANNEL,
    "InMemoryChannel": BACKING_CHANNEL,
    "KafkaBroker": KAFKA_BROKER,
    "KafkaChannel": KAFKA_CHANNEL,
    "KafkaSink": KAFKA_BROKER,
    "LogChannel": BACKING_CHANNEL,
    "RedisStreamChannel": BACKING_CHANNEL,
    "PluginChannel": BACKING_CHANNEL,
    "RedisStreamSink": ("ServiceReady", "Addressable"),
    "Subscription": SUBSCRIPTION,
    "Sequence": FLOW,
    "Parallel": FLOW,
    "PingSource": PING_SOURCE,
}
"""What Ready depends on, by kind; the first False one gives Ready its reason."""

INVALID = "InvalidSpec"
"""Reason of ours: on a cluster the API server would not have taken such an object."""
NO_DEAD_LETTER = ("DeadLetterSinkNotConfigured", "No dead letter sink is configured.")
_GIVEN = {
    "EventPoliciesReady": (
        "OIDCDisabled",
        'Feature "authentication-oidc" must be enabled to support Authorization',
    ),
    "OIDCIdentityCreated": ("authentication-oidc feature disabled", ""),
}


def true(kind: str, reason: str = "", message: str = "") -> Condition:
    """A condition that holds."""
    return Condition(kind, "True", reason, message)


def false(kind: str, reason: str, message: str) -> Condition:
    """A condition that fails."""
    return Condition(kind, "False", reason, message)


def unknown(kind: str, reason: str = "", message: str = "") -> Condition:
    """A condition that cannot be told yet."""
    return Condition(kind, "Unknown", reason, message)


def copied(kind: str, ready: Condition) -> Condition:
    """The Ready of another object as a condition of this one."""
    status: ConditionStatus = ready.status
    return Condition(kind, status, ready.reason, ready.message)


def status_of(kind: str, found: Mapping[str, Condition], fields: Mapping[str, Any]) -> Status:
    """All conditions of a kind with Ready; those not found are Unknown, those that OIDC would give are given."""
    dependents = []
    for name in DEPENDENTS[kind]:
        given = _GIVEN.get(name)
        dependents.append(found.get(name) or (true(name, *given) if given else unknown(name)))
    extra = [Condition("DispatcherReady", "True", severity="Info")] if DEPENDENTS[kind] is BACKING_CHANNEL else []
    every = [*dependents, *extra, happy(dependents)]
    return Status(tuple(sorted(every, key=lambda condition: condition.type)), fields)


def invalid_status(resource: Resource, problems: Iterable[Problem] = ()) -> Status:
    """Ready=False with all that is wrong with the resource itself."""
    errors = [p for p in (*resource.problems, *problems) if p.severity == "error"]
    message = "; ".join(dict.fromkeys(error.sentence for error in errors))
    dependents = [unknown(name) for name in DEPENDENTS[resource.key.kind]]
    every = [*dependents, false("Ready", INVALID, message)]
    return Status(tuple(sorted(every, key=lambda condition: condition.type)))


def target_fields(prefix: str, target: Target | None) -> dict[str, str]:
    """`PREFIXUri`, `PREFIXCACerts`, `PREFIXAudience` of a resolved address, those that are not empty."""
    if target is None:
        return {}
    named = {f"{prefix}Uri": target.url, f"{prefix}CACerts": target.ca_certs, f"{prefix}Audience": target.audience}
    return {name: value for name, value in named.items() if value}
