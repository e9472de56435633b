"""Which keys of the plan a resource stands for. Pure. What is not among them was deleted, and its positions are forgotten."""

from __future__ import annotations

from mesh.resources.flows import Parallel, Sequence
from mesh.resources.meta import Key, Resource

_KINDS = {
    "Broker": "broker",
    "Trigger": "trigger",
    "Subscription": "subscription",
    "Channel": "channel",
    "InMemoryChannel": "channel",
    "KafkaChannel": "channel",
    "KafkaSink": "sink",
    "LogChannel": "channel",
    "RedisStreamChannel": "channel",
    "PluginChannel": "channel",
    "RedisStreamSink": "sink",
}


def plan_key(key: Key) -> str:
    """The key of the Topic or Egress that has the resource's own name; "" where it stands for none, or for several."""
    kind = _KINDS.get(key.kind)
    return f"{kind}/{key.namespace}/{key.name}" if kind is not None else ""


def plan_keys(resource: Resource) -> tuple[str, ...]:
    """The keys of all Topics and Egresses that a resource stands for, a broken one included as far as it can be read."""
    if isinstance(resource, Sequence | Parallel):
        space = resource.key.namespace
        topics = (f"channel/{space}/{name}" for name in resource.channels)
        return *topics, *(f"subscription/{space}/{name}" for name in resource.subscriptions)
    key = plan_key(resource.key)
    return (key,) if key else ()
