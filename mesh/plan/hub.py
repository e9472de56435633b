"""A Broker or channel, one of a flow included, while it is being compiled. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mesh.plan.model import Egress, Ingress, Target, Topic
from mesh.resources.annotations import Tuning
from mesh.resources.duck import DeliverySpec
from mesh.resources.meta import Condition, Resource

LOG, MEMORY, KAFKA = "LogChannel", "InMemoryChannel", "KafkaChannel"
REDIS, REDIS_SINK = "RedisStreamChannel", "RedisStreamSink"
PLUGIN = "PluginChannel"
BACKENDS = {LOG: "log", MEMORY: "memory", KAFKA: "kafka", REDIS: "redis", REDIS_SINK: "redis-sink"}
"""Kind of channel → name in `channels/registry.py`."""


@dataclass(slots=True)
class Hub:
    """Where events come in and triggers or subscriptions hang on.

    owner: the resource that problems and the delivery default belong to. backing: kind of the channel that holds the events;
    backend: its name in `channels/registry.py` where the kind does not say it.
    blocked: why it is not ready, "" when it is. delivery: the default of its subscriptions; delivery_path: where it stands.
    foreign: a Broker of a class that is not ours; nothing is said of it or its Triggers. kafka_class: `Kafka` or
    `KafkaNamespaced`, for a Broker that has a topic of its own and no channel behind it. is_sink: nobody subscribes to it.
    """

    owner: Resource
    name: str
    namespace: str
    url: str
    paths: tuple[str, ...]
    is_broker: bool
    hosts: tuple[str, ...] = ()
    backing: str = LOG
    backend: str = ""
    options: dict[str, str | float | bool] = field(default_factory=dict)
    delivery: DeliverySpec | None = None
    delivery_path: str = "spec.delivery"
    dead_letter: Target | None = None
    tuning: Tuning = field(default_factory=Tuning)
    conditions: dict[str, Condition] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    egresses: list[Egress] = field(default_factory=list)
    blocked: str = ""
    foreign: bool = False
    kafka_class: str = ""
    is_sink: bool = False

    @property
    def topic_key(self) -> str:
        kind = "sink" if self.is_sink else "broker" if self.is_broker else "channel"
        return f"{kind}/{self.namespace}/{self.name}"

    @property
    def kind(self) -> str:
        return self.owner.key.kind if self.is_sink else "Broker" if self.is_broker else self.backing

    @property
    def condition_kind(self) -> str:
        """Whose conditions it has (`conditions.DEPENDENTS`)."""
        return "KafkaBroker" if self.kafka_class else self.owner.key.kind

    def target(self) -> Target:
        """Where to send what is meant for it. Only for one that is not blocked."""
        return Target(self.url, self.topic_key)

    def ingress(self) -> Ingress:
        """Its address; while it is blocked the address answers and says why."""
        if self.blocked:
            return Ingress(self.paths, self.hosts, "", f"{self.owner.key} is not ready: {self.blocked}")
        return Ingress(self.paths, self.hosts, self.topic_key)

    def topic(self) -> Topic:
        """What the data plane runs. Only for one that is not blocked."""
        return Topic(
            key=self.topic_key,
            kind=self.kind,
            namespace=self.namespace,
            name=self.name,
            backend=self.backend or BACKENDS[self.backing],
            # Knative's Kafka ingress writes events as they come: no arrival time, no hops.
            is_broker=self.is_broker and not self.kafka_class,
            options=self.options,
            egresses=tuple(sorted(self.egresses, key=lambda egress: egress.key)),
        )
