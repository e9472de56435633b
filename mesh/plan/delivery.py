"""DeliverySpec → DeliveryPolicy, and who inherits what from whom. Pure. Eventing reference §3.1, §3.4 (MT class), §12.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesh.delivery.policy import DeliveryPolicy
from mesh.plan.world import World
from mesh.resources.duck import DeliverySpec, Flaw


@dataclass(frozen=True, slots=True)
class Features:
    """Flags of ConfigMap config-features. `delivery-retryafter` is on unless it is disabled: upstream's is off."""

    timeout: bool = True
    retry_after: bool = True
    cross_namespace: bool = False


def read_features(world: World) -> Features:
    """The flags of this world; values are compared without case, unknown ones count as not set."""
    data = world.settings("config-features") or {}

    def is_on(key: str, *, default: bool) -> bool:
        return {"enabled": True, "allowed": default, "disabled": False}.get(data.get(key, "").strip().lower(), default)

    return Features(
        timeout=is_on("delivery-timeout", default=True),
        retry_after=is_on("delivery-retryafter", default=True),
        cross_namespace=is_on("cross-namespace-event-links", default=False),
    )


def feature_flaws(features: Features, spec: DeliverySpec | None, path: str) -> Iterator[Flaw]:
    """Fields that a disabled feature does not allow."""
    if spec is None:
        return
    for field, allowed, flag in (
        ("timeout", features.timeout, "delivery-timeout"),
        ("retryAfterMax", features.retry_after, "delivery-retryafter"),
    ):
        if getattr(spec, field) is not None and not allowed:
            yield Flaw(f"{path}.{field}", "must not set the field", f"{flag} is disabled in ConfigMap config-features")


def merged(own: DeliverySpec | None, other: DeliverySpec | None) -> DeliverySpec | None:
    """Field by field: what the own spec leaves out is the other's (KafkaChannel, §3.4)."""
    if own is None or other is None:
        return own if own is not None else other
    given = {name: value for name in DeliverySpec.model_fields if (value := getattr(own, name)) is not None}
    return other.model_copy(update=given)


def merged_namespaced(own: DeliverySpec | None, broker: DeliverySpec | None) -> DeliverySpec | None:
    """As Knative's KafkaNamespaced has it: a zero falls back to the Broker's too, and backoffPolicy is always the own (§3.4)."""
    if broker is None:
        return own
    own = own or DeliverySpec()
    return DeliverySpec(
        deadLetterSink=own.deadLetterSink or broker.deadLetterSink,
        retry=own.retry or broker.retry,
        backoffPolicy=own.backoffPolicy,
        backoffDelay=own.backoffDelay or broker.backoffDelay,
        timeout=own.timeout or broker.timeout,
        format=own.format,
    )


def policy_of(spec: DeliverySpec | None, *, series: str = "go", delay_s: float = 0.0) -> DeliveryPolicy:
    """The policy of a spec as it stands; nothing is inherited here. None: one attempt. delay_s: where it names none.

    Kafka's dispatcher does not heed Retry-After (§3.3).
    """
    if spec is None:
        return DeliveryPolicy(series=series)
    if series == "kafka":
        return DeliveryPolicy(
            retries=spec.retry or 0,
            backoff=spec.backoffPolicy or "exponential",
            delay_s=spec.seconds("backoffDelay") or delay_s,
            timeout_s=spec.seconds("timeout") or 0.0,
            series=series,
        )
    return DeliveryPolicy(
        retries=spec.retry or 0,
        backoff=spec.backoffPolicy or "",
        delay_s=spec.seconds("backoffDelay") or 0.0,
        timeout_s=spec.seconds("timeout") or 0.0,
        retry_after_max_s=spec.seconds("retryAfterMax"),
    )
