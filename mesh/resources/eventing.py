"""eventing.knative.dev: Broker and Trigger. Pure. Eventing reference §4.1, §5.1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field

from mesh.resources.duck import DeliverySpec, Destination, Flaw, KReference, Spec
from mesh.resources.meta import Key, Resource

GROUP = "eventing.knative.dev"
BROKER_CLASS = "eventing.knative.dev/broker.class"
MT_CLASS = "MTChannelBasedBroker"
KAFKA_CLASS, KAFKA_NAMESPACED_CLASS = "Kafka", "KafkaNamespaced"
KAFKA_CLASSES = (KAFKA_CLASS, KAFKA_NAMESPACED_CLASS)
EXTERNAL_TOPIC = "kafka.eventing.knative.dev/external.topic"
"""On a Broker of a Kafka class: a topic that is there and belongs to somebody else."""
DELIVERY_ORDER = "kafka.eventing.knative.dev/delivery.order"
"""On a Trigger of such a Broker: `ordered` or `unordered`, in any case."""
DEPENDENCY = "knative.dev/dependency"
INJECTION = "eventing.knative.dev/injection"


class BrokerSpec(Spec):
    """`config` names the ConfigMap that says which channel stands behind the Broker."""

    config: KReference | None = None
    delivery: DeliverySpec | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if self.config is not None:
            yield from self.config.flaws(f"{path}.config")
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


@dataclass(frozen=True, kw_only=True)
class Broker(Resource):
    """spec is None where it could not be read."""

    spec: BrokerSpec | None

    @property
    def broker_class(self) -> str:
        """The class it asks for, "" for the default one."""
        return self.metadata.annotations.get(BROKER_CLASS, "")

    def immutable(self) -> Mapping[str, Any]:
        """Everything but delivery."""
        spec = self.document.value.get("spec") or {}
        return {
            f"metadata.annotations.{BROKER_CLASS}": self.broker_class or MT_CLASS,
            "spec.config": spec.get("config"),
        }


class TriggerFilter(Spec):
    """The older filter. Its map is checked where filters are compiled."""

    attributes: Any = None


class TriggerSpec(Spec):
    """filters is kept as written: its dialects are checked where filters are compiled."""

    model_config = ConfigDict(extra="allow")

    broker: str = ""
    brokerRef: KReference | None = None  # noqa: N815  # Knative's name
    filter: TriggerFilter | None = None
    filters: Any = None
    subscriber: Destination = Destination()
    delivery: DeliverySpec | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if self.broker and self.brokerRef is not None:
            yield Flaw(path, "expected exactly one, got both: broker, brokerRef")
        elif self.brokerRef is not None:
            if not self.brokerRef.name:
                yield Flaw(f"{path}.brokerRef.name", "missing field")
        elif not self.broker:
            yield Flaw(f"{path}.broker", "missing field: exactly one of broker and brokerRef is wanted")
        yield from self.subscriber.flaws(f"{path}.subscriber")
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


class SecretReference(Spec):
    """The Secret, in the namespace of who names it."""

    name: str = ""


class SecretAuth(Spec):
    ref: SecretReference | None = None


class Auth(Spec):
    """How to log in to Kafka."""

    secret: SecretAuth | None = None

    @property
    def secret_name(self) -> str:
        ref = self.secret.ref if self.secret is not None else None
        return ref.name if ref is not None else ""


class KafkaSinkSpec(Spec):
    """A topic that events are written to. numPartitions and replicationFactor: both (it is made, and ours) or none."""

    topic: str = ""
    bootstrapServers: list[str] = Field(default_factory=list)  # noqa: N815  # Knative's names
    numPartitions: int | None = Field(default=None, gt=0, le=2**31 - 1)  # noqa: N815
    replicationFactor: int | None = Field(default=None, gt=0, le=2**15 - 1)  # noqa: N815
    contentMode: Literal["binary", "structured"] = "binary"  # noqa: N815
    auth: Auth | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        for field in ("topic", "bootstrapServers"):
            if not getattr(self, field):
                yield Flaw(f"{path}.{field}", "missing field")
        if (self.numPartitions is None) != (self.replicationFactor is None):
            missing = "numPartitions" if self.numPartitions is None else "replicationFactor"
            yield Flaw(f"{path}.{missing}", "missing field: both are set, or none of the two")


@dataclass(frozen=True, kw_only=True)
class KafkaSink(Resource):
    """spec is None where it could not be read."""

    spec: KafkaSinkSpec | None

    def immutable(self) -> Mapping[str, Any]:
        """Topic, partitions and replication factor."""
        spec = self.document.value.get("spec") or {}
        return {f"spec.{name}": spec.get(name) for name in ("topic", "numPartitions", "replicationFactor")}


@dataclass(frozen=True, slots=True)
class Dependency:
    """What the annotation `knative.dev/dependency` names."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Trigger(Resource):
    """spec is None where it could not be read."""

    spec: TriggerSpec | None

    @property
    def broker_key(self) -> Key:
        """The Broker it reads from. Only for a Trigger with a spec."""
        spec = self.spec or TriggerSpec()
        ref = spec.brokerRef
        if ref is None:
            return Key(GROUP, "Broker", self.key.namespace, spec.broker)
        return Key(GROUP, "Broker", ref.namespace or self.key.namespace, ref.name)

    def immutable(self) -> Mapping[str, Any]:
        """`spec.broker`; `spec.brokerRef` may change."""
        return {"spec.broker": (self.document.value.get("spec") or {}).get("broker")}

    def dependency(self) -> Dependency | None:
        """The object whose readiness this Trigger waits for. Only for a Trigger that passed `annotation_flaws`."""
        text = self.metadata.annotations.get(DEPENDENCY)
        if text is None:
            return None
        value = json.loads(text)
        return Dependency(value["apiVersion"], value["kind"], value["name"])


def annotation_flaws(annotations: Mapping[str, str], namespace: str, spec: TriggerSpec) -> Iterator[Flaw]:
    """What is wrong with a Trigger's own annotations (§5.5, §4.6)."""
    injection = annotations.get(INJECTION)
    path = f"metadata.annotations.{INJECTION}"
    if injection is not None and injection not in ("enabled", "disabled"):
        yield Flaw(path, f'expected "enabled" or "disabled", got "{injection}"')
    elif injection is not None and spec.broker != "default":
        yield Flaw(path, "allowed only where spec.broker is default")
    order = annotations.get(DELIVERY_ORDER)
    if order is not None and order.lower() not in ("ordered", "unordered"):
        yield Flaw(f"metadata.annotations.{DELIVERY_ORDER}", f'expected "ordered" or "unordered", got "{order}"')
    yield from _dependency_flaws(annotations.get(DEPENDENCY), namespace)


def _dependency_flaws(text: str | None, namespace: str) -> Iterator[Flaw]:
    path = f"metadata.annotations.{DEPENDENCY}"
    if text is None:
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        yield Flaw(path, "no JSON object", '{"kind":"PingSource","name":"tick","apiVersion":"sources.knative.dev/v1"}')
        return
    for field in ("kind", "name", "apiVersion"):
        if not isinstance(value.get(field), str) or not value[field]:
            yield Flaw(path, f"missing field {field}")
    if value.get("namespace", namespace) not in ("", namespace):
        yield Flaw(path, f"the namespace must be empty or the Trigger's own, {namespace}")
