"""How resources stand with the servers their events are kept on, laid over their statuses. Pure.

Compiling cannot know it: the workers do. One worker that cannot reach the server is enough for a resource not to be ready.
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


def overlay(
    resources: Sequence[Mapping[str, Any]], told: Iterable[Mapping[str, TopicHealth]]
) -> Sequence[Mapping[str, Any]]:
    """The resources, with the condition BackendReady where a worker has something to say of their topic."""
    health: dict[str, TopicHealth] = {}
    for of_worker in told:
        for topic, each in of_worker.items():
            if topic not in health or not each.is_up:
                health[topic] = each
    if not health:
        return resources
    return [_with_health(resource, health.get(_topic(resource))) for resource in resources]


def _topic(resource: Mapping[str, Any]) -> str:
    metadata = resource["metadata"]
    group, _ = split_version(resource["apiVersion"])
    return plan_key(Key(group, resource["kind"], metadata.get("namespace", ""), metadata["name"]))


def _with_health(resource: Mapping[str, Any], health: TopicHealth | None) -> Mapping[str, Any]:
    status = resource.get("status")
    if health is None or not status:
        return resource
    since = f"{timestamp(health.since_ns)[:19]}Z"
    said = {"reason": health.reason, "message": health.message, "lastTransitionTime": since}
    condition = {"type": CONDITION, "status": "True" if health.is_up else "False", **said}
    conditions = [*status["conditions"], condition]
    if not health.is_up:
        conditions = [
            {**each, "status": "False", **said} if each["type"] == "Ready" and each["status"] == "True" else each
            for each in conditions
        ]
    return {**resource, "status": {**status, "conditions": sorted(conditions, key=lambda each: str(each["type"]))}}
