"""How resources stand with the servers their events are kept on, laid over what compiling said: their conditions. Pure.

A plan can be right and its backend gone; the workers know. One worker that cannot reach the server is enough for a resource
not to be ready. The stored status is left alone, so that it is whole again when the backend is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from channels.api import TopicHealth
from mesh.plan.keys import plan_key
from mesh.resources.kinds import split_version
from mesh.resources.meta import Key
from mesh.telemetry.story import timestamp

CONDITION = "BackendReady"
_FAILING = {
    "Broker": ("TopicReady", "TriggerChannelReady"),
    "Channel": ("BackingChannelReady",),
    "KafkaChannel": ("TopicReady",),
    "KafkaSink": ("TopicReady",),
    # Knative's Kafka maps the readiness of the consumer group to this one.
    "Trigger": ("DependencyReady",),
    "Subscription": ("ChannelReady",),
}
"""What fails with the backend, besides Ready."""


def overlay(
    resources: Sequence[Mapping[str, Any]], told: Iterable[Mapping[str, TopicHealth]]
) -> Sequence[Mapping[str, Any]]:
    """The resources as they are to be shown: with BackendReady where a worker has something to say of their topic or
    subscription. told: of each worker, by key of the topic or subscription."""
    health: dict[str, TopicHealth] = {}
    for of_worker in told:
        for key, each in of_worker.items():
            if key not in health or not each.is_up:
                health[key] = each
    if not health:
        return resources
    return [_with_health(resource, health) for resource in resources]


def _with_health(resource: Mapping[str, Any], told: Mapping[str, TopicHealth]) -> Mapping[str, Any]:
    metadata = resource["metadata"]
    group, _ = split_version(str(resource["apiVersion"]))
    kind = str(resource["kind"])
    health = told.get(plan_key(Key(group, kind, metadata.get("namespace", ""), metadata["name"])))
    status = resource.get("status")
    if health is None or not status:
        return resource
    said = {"reason": health.reason, "message": health.message}
    if health.since_ns:
        said["lastTransitionTime"] = f"{timestamp(health.since_ns)[:19]}Z"
    conditions = list(status.get("conditions", ()))
    if not health.is_up:
        failing = ("Ready", *_FAILING.get(kind, ()))
        conditions = [
            {**each, "status": "False", **said} if each["type"] in failing and each["status"] == "True" else each
            for each in conditions
        ]
    conditions.append({"type": CONDITION, "status": "True" if health.is_up else "False", **said})
    return {**resource, "status": {**status, "conditions": sorted(conditions, key=lambda each: str(each["type"]))}}
