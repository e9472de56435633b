"""What workers say is wrong at the moment, laid over what compiling said: conditions of Brokers, channels, Triggers. Pure.

A plan can be right and its backend gone. The stored status is left alone, so that it is whole again when the backend is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mesh.plan.keys import plan_key
from mesh.resources.kinds import split_version
from mesh.resources.meta import Key

REASON = "BackendNotReady"
_CONDITION = {
    "Broker": ("TopicReady", "TriggerChannelReady"),
    "Channel": ("BackingChannelReady",),
    "KafkaChannel": ("TopicReady",),
    "KafkaSink": ("TopicReady",),
    # Knative's Kafka maps the readiness of the consumer group to this one.
    "Trigger": ("DependencyReady",),
    "Subscription": ("ChannelReady",),
}


def with_troubles(
    resources: Sequence[Mapping[str, Any]], troubles: Iterable[Mapping[str, str]]
) -> Sequence[Mapping[str, Any]]:
    """The objects as they are to be shown. troubles: of each worker, by key of the topic or subscription."""
    told: dict[str, str] = {}
    for of_worker in troubles:
        told |= of_worker
    if not told:
        return resources
    return [_laid_over(each, told) for each in resources]


def _laid_over(resource: Mapping[str, Any], told: Mapping[str, str]) -> Mapping[str, Any]:
    metadata = resource["metadata"]
    group, _ = split_version(str(resource["apiVersion"]))
    key = Key(group, str(resource["kind"]), metadata.get("namespace", ""), metadata["name"])
    why = told.get(plan_key(key))
    status = resource.get("status")
    if why is None or status is None:
        return resource
    failing = ("Ready", *_CONDITION.get(key.kind, ()))
    conditions = [
        {**each, "status": "False", "reason": REASON, "message": why}
        if each["type"] in failing and each["status"] == "True"
        else each
        for each in status.get("conditions", ())
    ]
    return {**resource, "status": {**status, "conditions": conditions}}
