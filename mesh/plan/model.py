"""What must run: the Plan. Pure; frozen, picklable, every reference resolved and every default applied.

The data plane reads plans, never resources. `mesh/plan/compile.py` makes one, `mesh/plan/diff.py` compares two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.delivery.policy import DeliveryPolicy
from mesh.filters.dialects import FilterNode


@dataclass(frozen=True, slots=True)
class Target:
    """Where a delivery goes.

    url: absolute http(s) URL. topic: the key of a Topic of this plan that this URL names, or "": such a target is
    published to inside the process, without an HTTP hop.
    """

    url: str
    topic: str = ""
    ca_certs: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Egress:
    """One Trigger or Subscription: who gets what, how often it is tried, and what happens then."""

    key: str
    """Stable identity, `trigger/NAMESPACE/NAME` or `subscription/NAMESPACE/NAME`: the position in the topic belongs to it."""
    kind: str
    namespace: str
    name: str
    subscriber: Target | None
    """None where a Subscription only has a reply: the event itself goes to `reply`."""
    filters: tuple[FilterNode, ...] = ()
    """All must pass; empty passes everything."""
    reply: Target | None = None
    """Where a CloudEvent in the answer goes: the Broker for a Trigger, `spec.reply` for a Subscription; None drops it."""
    dead_letter: Target | None = None
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    format: str = ""
    """`json`: sent structured; `binary` or "": sent binary."""
    parallelism: int = 100
    ignore_invalid_reply: bool = False
    """Annotation `delivery.knit.dev/ignore-invalid-reply`: a 2xx whose body is no event counts as delivered."""
    reply_on_200_only: bool = False
    """Annotation `delivery.knit.dev/reply-on-200-only`: the specification's reading; by default any 2xx may reply."""
    options: Mapping[str, str | float | bool] = field(default_factory=dict)
    """To the backend: `group` (str) and `ordered` (bool), kafka."""
    strict_reply: bool = True
    """True (Trigger): a 2xx with a body that is no event is a failure. False (Subscription): it is a success, body ignored."""
    origin: str = ""
    """What in whose resource it is, where it has none of its own: `step 0 of Sequence default/flow`. For people."""
    dead_letter_hint: str = ""
    """The field of that resource that would give it a dead letter sink: `steps[0].delivery.deadLetterSink`."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One Broker or Channel and its subscriptions.

    key: `broker/NAMESPACE/NAME` or `channel/NAMESPACE/NAME`. backend: a name in `channels/registry.py` (`memory`, `log`, `kafka`).
    options go to the backend: `sync` (bool, memory), `retention_s` (float, log); `mesh/plan/kafka.py` has Kafka's. They may hold
    secrets, so they are not shown. A KafkaSink is a topic without egresses, key `sink/NAMESPACE/NAME`.
    is_broker: the ingress adds arrival time and counts the ttl.
    """

    key: str
    kind: str
    namespace: str
    name: str
    backend: str
    is_broker: bool
    options: Mapping[str, str | float | bool] = field(default_factory=dict, repr=False)
    egresses: tuple[Egress, ...] = ()
    max_event_bytes: int = 0
    """0: the process's own limit."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """An address on the ingress port.

    paths: exact request paths without a trailing slash, such as `/default/orders`. hosts: Host headers without port, lower
    case, all forms that are answered (`NAME-kn-channel.NS.svc.cluster.local`, `….svc`, `….NS`).
    topic: the Topic's key, or "" where the resource is not ready; then `not_ready` says why (answered 503 with that text).
    """

    paths: tuple[str, ...]
    hosts: tuple[str, ...]
    topic: str
    not_ready: str = ""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source that runs once per mesh. kind: `PingSource`, …; options as the source's own module documents them."""

    key: str
    kind: str
    namespace: str
    name: str
    sink: Target
    overrides: Mapping[str, str] = field(default_factory=dict)
    """ceOverrides.extensions, names in lower case."""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    ingresses: tuple[Ingress, ...] = ()
    topics: tuple[Topic, ...] = ()
    sources: tuple[SourceSpec, ...] = ()
