"""Which kinds there are, which are served, and what to say of the others. Pure. Eventing reference §0, §17.15."""

from __future__ import annotations

from mesh.resources.problem import did_you_mean

SERVED: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "ConfigMap"): ("v1",),
    ("", "Namespace"): ("v1",),
    ("", "Secret"): ("v1",),
    ("", "Service"): ("v1",),
    ("eventing.knative.dev", "Broker"): ("v1",),
    ("eventing.knative.dev", "Trigger"): ("v1",),
    ("eventing.knative.dev", "KafkaSink"): ("v1alpha1",),
    ("messaging.knative.dev", "Channel"): ("v1",),
    ("messaging.knative.dev", "InMemoryChannel"): ("v1",),
    ("messaging.knative.dev", "KafkaChannel"): ("v1", "v1beta1"),
    ("messaging.knative.dev", "Subscription"): ("v1",),
    ("messaging.knit.dev", "LogChannel"): ("v1alpha1",),
    ("messaging.knit.dev", "RedisStreamChannel"): ("v1alpha1",),
    ("messaging.knit.dev", "PluginChannel"): ("v1alpha1",),
    ("sinks.knative.dev", "RedisStreamSink"): ("v1alpha1",),
    ("flows.knative.dev", "Sequence"): ("v1",),
    ("flows.knative.dev", "Parallel"): ("v1",),
    ("sources.knative.dev", "PingSource"): ("v1", "v1beta2"),
}
"""(group, kind) → versions that are read, the best one first."""

LATER = frozenset(
    {
        ("eventing.knative.dev", "EventType"),
        ("eventing.knative.dev", "EventPolicy"),
        ("eventing.knative.dev", "EventTransform"),
        ("eventing.knative.dev", "RequestReply"),
        ("eventing.knative.dev", "RabbitmqBrokerConfig"),
        ("messaging.knative.dev", "NatsJetStreamChannel"),
        ("messaging.cloud.google.com", "Channel"),
        ("sources.knative.dev", "ApiServerSource"),
        ("sources.knative.dev", "ContainerSource"),
        ("sources.knative.dev", "SinkBinding"),
        ("sources.knative.dev", "IntegrationSource"),
        ("sources.knative.dev", "KafkaSource"),
        ("sources.knative.dev", "RedisStreamSource"),
        ("sources.knative.dev", "GitHubSource"),
        ("sources.knative.dev", "RabbitmqSource"),
        ("bindings.knative.dev", "KafkaBinding"),
        ("bindings.knative.dev", "GitHubBinding"),
        ("sinks.knative.dev", "IntegrationSink"),
        ("sinks.knative.dev", "JobSink"),
        ("serving.knative.dev", "Service"),
        ("serving.knative.dev", "Configuration"),
        ("serving.knative.dev", "Route"),
        ("serving.knative.dev", "Revision"),
        ("serving.knative.dev", "DomainMapping"),
    }
)
"""Knative's kinds that come with another version."""

ADDRESSABLE = frozenset(
    {
        *("Broker", "Channel", "InMemoryChannel", "KafkaChannel", "LogChannel", "RedisStreamChannel", "PluginChannel"),
        *("Sequence", "Parallel", "KafkaSink", "RedisStreamSink"),
    }
)
CHANNELS = frozenset(
    {
        ("messaging.knative.dev", "InMemoryChannel"),
        ("messaging.knative.dev", "KafkaChannel"),
        ("messaging.knit.dev", "LogChannel"),
        ("messaging.knit.dev", "RedisStreamChannel"),
        ("messaging.knit.dev", "PluginChannel"),
    }
)
"""Channels that hold events: what a template may name."""
NOT_SERVED = "not served yet by this version"


def split_version(api_version: str) -> tuple[str, str]:
    """`group/version` → (group, version); the core group is ""."""
    group, _, version = api_version.rpartition("/")
    return group, version


def join_version(group: str, version: str) -> str:
    """(group, version) → apiVersion."""
    return f"{group}/{version}" if group else version


def right_versions(group: str, kind: str) -> str:
    """The apiVersions that a served kind is read in, as text."""
    return " or ".join(join_version(group, version) for version in SERVED[group, kind])


def groups_of(kind: str) -> list[str]:
    """The groups that have such a kind, served ones first."""
    return [group for group, name in SERVED if name == kind] + sorted(group for group, name in LATER if name == kind)


def why_unknown(api_version: str, kind: str) -> str:
    """What to say of a kind that is not served in that group: a sentence that names the likely right one."""
    group, _ = split_version(api_version)
    if (group, kind) in LATER:
        return f"{api_version} {kind} is {NOT_SERVED}"
    said = f"{api_version} has no kind {kind}"
    for other in groups_of(kind):
        if (other, kind) in SERVED:
            return f"{said}; did you mean {right_versions(other, kind)}?"
        return f"{said}; {kind} of {other} is {NOT_SERVED}"
    kinds = {name for _, name in SERVED} | {name for _, name in LATER}
    if not group.endswith(("knative.dev", "knit.dev")):
        kinds = {name for owner, name in SERVED if owner} | {name for owner, name in LATER if owner}
        if group in _KUBERNETES or group.endswith(".k8s.io"):
            return f"{api_version} {kind} belongs to Kubernetes and is not run here"
        kinds -= {"Service"}
    guess = did_you_mean(kind, kinds)
    return f"{said}; {guess}" if guess else f"{api_version} {kind} is not known"


_KUBERNETES = frozenset({"", "apps", "batch", "policy", "autoscaling", "extensions"})
