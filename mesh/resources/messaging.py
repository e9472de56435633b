"""messaging.knative.dev: Channel, InMemoryChannel, KafkaChannel, Subscription; messaging.knit.dev: LogChannel. Pure. Reference §6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from mesh.resources.duck import DeliverySpec, Destination, Flaw, KReference, Spec
from mesh.resources.duration import hint_for, parse_duration
from mesh.resources.meta import Key, Resource

GROUP = "messaging.knative.dev"
KNIT_GROUP = "messaging.knit.dev"
ASYNC_HANDLER = "messaging.knative.dev/async-handler"
ANNOTATION_PREFIX = "messaging.knative.dev"
"""Annotations that begin so are copied from a Broker to the channel behind it."""


class ChannelTemplate(Spec):
    """Which kind of channel to make. `spec` is checked where the template is used."""

    apiVersion: str = ""  # noqa: N815  # Knative's name
    kind: str = ""
    spec: dict[str, Any] = Field(default_factory=dict)

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Both parts of the type are wanted."""
        for field in ("apiVersion", "kind"):
            if not getattr(self, field):
                yield Flaw(f"{path}.{field}", "missing field")


class ChannelSpec(Spec):
    """A generic Channel: its template says what stands behind it."""

    channelTemplate: ChannelTemplate | None = None  # noqa: N815
    delivery: DeliverySpec | None = None
    subscribers: list[Any] = Field(default_factory=list)

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if self.channelTemplate is not None:
            yield from self.channelTemplate.flaws(f"{path}.channelTemplate")
        if self.subscribers:
            yield Flaw(
                f"{path}.subscribers", "subscribers on a Channel are not allowed", "write a Subscription for each"
            )
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


@dataclass(frozen=True, kw_only=True)
class Channel(Resource):
    """spec is None where it could not be read."""

    spec: ChannelSpec | None

    def immutable(self) -> Mapping[str, Any]:
        """Everything but subscribers, delivery included."""
        spec = self.document.value.get("spec") or {}
        return {f"spec.{field}": spec.get(field) for field in ("channelTemplate", "delivery")}


class BackingSpec(Spec):
    """`subscribers` is what Knative's controller writes there; here Subscriptions say it, so it is not read."""

    delivery: DeliverySpec | None = None
    subscribers: list[Any] = Field(default_factory=list)

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


@dataclass(frozen=True, kw_only=True)
class BackingChannel(Resource):
    """InMemoryChannel and LogChannel: a channel that holds events. spec is None where it could not be read."""

    spec: BackingSpec | None


class KafkaChannelSpec(BackingSpec):
    """retentionDuration is kept as written."""

    numPartitions: int = Field(default=1, gt=0, le=2**31 - 1)  # noqa: N815  # Knative's names
    replicationFactor: int = Field(default=1, gt=0, le=2**15 - 1)  # noqa: N815
    retentionDuration: str = "PT168H"  # noqa: N815

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        yield from super().flaws(path)
        try:
            seconds = parse_duration(self.retentionDuration or "PT168H")
        except ValueError as error:
            yield Flaw(f"{path}.retentionDuration", str(error), hint_for(self.retentionDuration))
            return
        if seconds < 0:
            yield Flaw(
                f"{path}.retentionDuration", f'invalid value "{self.retentionDuration}": it must not be negative'
            )

    @property
    def retention_ms(self) -> int:
        return int(parse_duration(self.retentionDuration or "PT168H") * 1000)


@dataclass(frozen=True, kw_only=True)
class KafkaChannel(Resource):
    """spec is None where it could not be read."""

    spec: KafkaChannelSpec | None

    def immutable(self) -> Mapping[str, Any]:
        """All but delivery and subscribers; `retentionDuration` may be set where it was not."""
        spec = self.document.value.get("spec") or {}
        return {
            "spec.numPartitions": spec.get("numPartitions", 1),
            "spec.replicationFactor": spec.get("replicationFactor", 1),
            "spec.retentionDuration": spec.get("retentionDuration") or "PT168H",
        }


class SubscriptionSpec(Spec):
    """Who gets the events of a channel, and who gets the answers."""

    channel: KReference = KReference()
    subscriber: Destination | None = None
    reply: Destination | None = None
    delivery: DeliverySpec | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if self.channel == KReference():
            yield Flaw(f"{path}.channel", "missing field")
        else:
            yield from self.channel.flaws(f"{path}.channel")
        if self.subscriber is None or (self.subscriber.ref is None and not self.subscriber.uri):
            yield Flaw(f"{path}.subscriber", "missing field: the Subscription must reference a subscriber")
        else:
            yield from self.subscriber.flaws(f"{path}.subscriber")
        if self.reply is not None and (self.reply.ref is not None or self.reply.uri):
            yield from self.reply.flaws(f"{path}.reply")
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


@dataclass(frozen=True, kw_only=True)
class Subscription(Resource):
    """spec is None where it could not be read."""

    spec: SubscriptionSpec | None

    @property
    def channel_key(self) -> Key:
        """The channel it reads from. Only for a Subscription with a spec."""
        ref = (self.spec or SubscriptionSpec()).channel
        return Key(ref.api_group, ref.kind, ref.namespace or self.key.namespace, ref.name)

    def immutable(self) -> Mapping[str, Any]:
        """The channel only."""
        return {"spec.channel": (self.document.value.get("spec") or {}).get("channel")}
