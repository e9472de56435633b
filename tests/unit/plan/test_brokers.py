"""Brokers: defaults, what stands behind them, addresses, conditions (eventing reference §4, §15)."""

from __future__ import annotations

import pytest

from mesh.delivery.policy import DeliveryPolicy
from mesh.plan.model import Ingress
from tests.unit.plan.worlds import BROKER, World, config_map, trigger

CONFIG = "spec: {config: {apiVersion: v1, kind: ConfigMap, name: imc-channel, namespace: knative-eventing}}\n---"
WITH_CONFIG = BROKER.replace("---", CONFIG)
MEMORY = "apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel"
LOG = "apiVersion: messaging.knit.dev/v1alpha1\nkind: LogChannel"


def annotated(text: str, annotations: str) -> str:
    return text.replace("{name: default}", f"{{name: default, annotations: {{{annotations}}}}}")


def test_broker_without_config_maps_stands_on_the_log() -> None:
    world = World(BROKER)
    topic = world.topic("broker/default/default")
    assert (topic.kind, topic.backend, topic.is_broker, topic.options) == ("Broker", "log", True, {})
    assert world.plan.ingresses == (Ingress(("/default/default",), (), "broker/default/default"),)
    status = world.status("Broker", "default")
    assert [c.type for c in status.conditions] == [
        "Addressable",
        "DeadLetterSinkResolved",
        "EventPoliciesReady",
        "FilterReady",
        "IngressReady",
        "Ready",
        "TriggerChannelReady",
    ]
    assert all(condition.status == "True" for condition in status.conditions)
    assert status.fields["address"] == {"name": "http", "url": "http://localhost:8080/default/default"}
    assert status.fields["annotations"]["knative.dev/channelKind"] == "LogChannel"
    assert status.fields["annotations"]["knative.dev/channelName"] == "default-kne-trigger"


def test_default_backend_is_an_option() -> None:
    topic = World(BROKER, default_backend="memory").topic("broker/default/default")
    assert (topic.backend, topic.options) == ("memory", {"sync": True})


def test_shipped_config_need_not_be_there() -> None:
    text = WITH_CONFIG.replace("imc-channel", "config-br-default-channel")
    assert World(text).topic("broker/default/default").backend == "log"
    world = World(text + config_map("config-br-default-channel", {"channel-template-spec": MEMORY}))
    assert world.topic("broker/default/default").backend == "memory"


def test_shipped_config_is_used_by_brokers_that_name_none() -> None:
    world = World(BROKER + config_map("config-br-default-channel", {"channel-template-spec": MEMORY}))
    assert world.topic("broker/default/default").backend == "memory"


@pytest.mark.parametrize(("template", "backend"), [(MEMORY, "memory"), (LOG, "log")])
def test_config_says_what_stands_behind_the_broker(template: str, backend: str) -> None:
    world = World(WITH_CONFIG + config_map("imc-channel", {"channel-template-spec": template}))
    assert world.topic("broker/default/default").backend == backend


def test_missing_config_is_named_and_the_address_says_why() -> None:
    world = World(WITH_CONFIG)
    condition = world.condition("Broker", "default", "TriggerChannelReady")
    assert (condition.status, condition.reason) == ("False", "ChannelTemplateFailed")
    assert "knative-eventing/imc-channel" in condition.message
    assert world.condition("Broker", "default").reason == "ChannelTemplateFailed"
    assert world.plan.topics == ()
    (ingress,) = world.plan.ingresses
    assert (ingress.paths, ingress.topic) == (("/default/default",), "")
    assert "Broker default/default is not ready" in ingress.not_ready
    assert "knative-eventing/imc-channel" in ingress.not_ready
    assert world.compiled.known == {"broker/default/default"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"other": "x"}, "has no key channel-template-spec"),
        ({"channel-template-spec": "kind: ["}, "no valid YAML"),
        ({"channel-template-spec": "kind: InMemoryChannel"}, "apiVersion: missing field"),
        (
            {"channel-template-spec": "apiVersion: messaging.knative.dev/v1beta1\nkind: NatsJetStreamChannel"},
            "messaging.knative.dev/v1beta1 NatsJetStreamChannel comes with another version of Knit",
        ),
        (
            {"channel-template-spec": "apiVersion: messaging.knative.dev/v1alpha7\nkind: InMemoryChannel"},
            "messaging.knative.dev/v1alpha7 has no InMemoryChannel; use messaging.knative.dev/v1",
        ),
        (
            {"channel-template-spec": "apiVersion: v1\nkind: LogChannel"},
            "v1 has no LogChannel; use messaging.knit.dev/v1alpha1",
        ),
        ({"channel-template-spec": "apiVersion: v1\nkind: Queue"}, "v1 Queue is no channel"),
    ],
)
def test_template_that_cannot_be_used(data: dict[str, str], words: str) -> None:
    condition = World(WITH_CONFIG + config_map("imc-channel", data)).condition(
        "Broker", "default", "TriggerChannelReady"
    )
    assert condition.reason == "ChannelTemplateFailed"
    assert words in condition.message
    assert "knative-eventing/imc-channel" in condition.message


def test_config_must_be_a_config_map() -> None:
    world = World(BROKER.replace("---", "spec: {config: {apiVersion: v1, kind: Secret, name: s}}\n---"))
    assert "expected a v1 ConfigMap, got v1 Secret default/s" in world.condition("Broker", "default").message


def test_channel_annotations_are_copied_from_the_broker() -> None:
    world = World(annotated(BROKER, "messaging.knative.dev/async-handler: 'true'"), default_backend="memory")
    assert world.topic("broker/default/default").options == {"sync": False}


def test_retention_of_the_log_is_set_on_the_broker() -> None:
    world = World(annotated(BROKER, "log.knit.dev/retention: P1D"))
    assert world.topic("broker/default/default").options == {"retention_s": 86_400.0}


def defaults(text: str) -> str:
    return config_map("config-br-defaults", {"default-br-config": text})


CLUSTER = """
clusterDefault:
  brokerClass: MTChannelBasedBroker
  apiVersion: v1
  kind: ConfigMap
  name: cluster-channel
  namespace: knative-eventing
  delivery: {retry: 5, timeout: PT9S, deadLetterSink: {uri: 'http://cluster-dls'}}
  brokerClasses:
    MTChannelBasedBroker: {apiVersion: v1, kind: ConfigMap, name: class-channel, namespace: knative-eventing, delivery: {retry: 6}}
"""
NAMESPACE = """
namespaceDefaults:
  default:
    brokerClass: MTChannelBasedBroker
    apiVersion: v1
    kind: ConfigMap
    name: ns-channel
    namespace: default
    delivery: {retry: 7}
"""
NAMESPACE_CLASSES = (
    NAMESPACE
    + """
    brokerClasses:
      MTChannelBasedBroker: {apiVersion: v1, kind: ConfigMap, name: ns-class-channel, namespace: default, delivery: {retry: 8}}
"""
)
CHANNELS = "".join(
    config_map(name, {"channel-template-spec": MEMORY}, namespace)
    for name, namespace in (
        ("cluster-channel", "knative-eventing"),
        ("class-channel", "knative-eventing"),
        ("ns-channel", "default"),
        ("ns-class-channel", "default"),
    )
)


@pytest.mark.parametrize(
    ("text", "retries"),
    [
        (CLUSTER + NAMESPACE_CLASSES, 8),
        (CLUSTER + NAMESPACE, 7),
        (CLUSTER, 6),
        (CLUSTER.partition("  brokerClasses")[0], 5),
    ],
)
def test_defaults_of_a_class_are_found_in_knatives_order(text: str, retries: int) -> None:
    world = World(BROKER + trigger() + defaults(text) + CHANNELS)
    egress = world.egress("trigger/default/t")
    assert egress.policy.retries == retries
    assert egress.policy.timeout_s == 0.0  # not copied by Knative's webhook
    assert world.topic("broker/default/default").backend == "memory"


def test_defaults_may_name_a_class_only() -> None:
    world = World(BROKER + defaults("clusterDefault: {brokerClass: MTChannelBasedBroker}"))
    assert world.topic("broker/default/default").backend == "log"


def test_async_handler_of_a_broker_is_checked() -> None:
    world = World(annotated(BROKER, "messaging.knative.dev/async-handler: 'yes'"))
    assert world.errors == [
        'metadata.annotations.messaging.knative.dev/async-handler: expected "true" or "false", got "yes"'
    ]


def test_dead_letter_sink_of_the_defaults_is_copied() -> None:
    world = World(BROKER + trigger() + defaults(CLUSTER.partition("  brokerClasses")[0]) + CHANNELS)
    dead_letter = world.egress("trigger/default/t").dead_letter
    assert dead_letter is not None
    assert dead_letter.url == "http://cluster-dls"


def test_given_config_takes_the_delivery_of_the_cluster() -> None:
    text = WITH_CONFIG.replace("imc-channel", "class-channel") + trigger() + defaults(CLUSTER) + CHANNELS
    assert World(text).egress("trigger/default/t").policy.retries == 5


def test_class_of_the_defaults_can_be_foreign() -> None:
    world = World(BROKER + defaults("clusterDefault: {brokerClass: RabbitMQBroker}"))
    assert world.plan.topics == ()
    assert "RabbitMQBroker" in world.compiled.ignored[0].message


def test_config_of_another_namespace_can_be_forbidden() -> None:
    text = defaults("clusterDefault: {disallowDifferentNamespaceConfig: true}")
    world = World(WITH_CONFIG + text + config_map("imc-channel", {"channel-template-spec": MEMORY}))
    assert "must be in namespace default" in world.condition("Broker", "default").message


@pytest.mark.parametrize(
    "text",
    [
        "clusterDefault: [",
        "clusterDefault: 5",
        "clusterDefault: {delivery: {retry: x}}",
        "clusterDefault: {disallowDifferentNamespaceConfig: 5}",
        "clusterDefault: {delivery: {backoffDelay: 5s}}",
    ],
)
def test_broken_defaults_are_reported_and_nothing_is_guessed(text: str) -> None:
    world = World(BROKER + defaults(text))
    assert any(p.resource == "ConfigMap knative-eventing/config-br-defaults" for p in world.problems)
    assert world.condition("Broker", "default").reason == "ChannelTemplateFailed"


def test_defaults_without_a_cluster_part_keep_the_shipped_ones() -> None:
    world = World(BROKER + trigger() + defaults("namespaceDefaults: {other: {brokerClass: RabbitMQBroker}}"))
    assert world.egress("trigger/default/t").policy == DeliveryPolicy(10, "exponential", 0.2)


def with_sink(name: str, sink: str) -> str:
    return (
        f"apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {{name: {name}}}\n"
        f"spec: {{delivery: {{deadLetterSink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: {sink}}}}}}}}}\n---\n"
    )


def test_dead_letter_sink_may_be_a_broker() -> None:
    world = World(with_sink("a", "b") + with_sink("b", "a") + trigger(broker="a"))
    assert world.is_ready("Broker", "a")
    assert world.is_ready("Broker", "b")
    dead_letter = world.egress("trigger/default/t").dead_letter
    assert dead_letter is not None
    assert dead_letter.topic == "broker/default/b"
    assert world.status("Broker", "a").fields["deadLetterSinkUri"] == "http://localhost:8080/default/b"


def test_missing_dead_letter_sink_makes_all_unready_that_lead_to_it() -> None:
    world = World(with_sink("a", "b") + with_sink("b", "c") + with_sink("c", "gone") + BROKER)
    assert [world.is_ready("Broker", name) for name in ("a", "b", "c", "default")] == [False, False, False, True]
    assert world.condition("Broker", "c", "DeadLetterSinkResolved").status == "False"
    assert [topic.key for topic in world.plan.topics] == ["broker/default/default"]


def test_broker_as_its_own_dead_letter_sink_is_warned_about() -> None:
    world = World(with_sink("a", "a"))
    assert world.is_ready("Broker", "a")
    assert [(p.severity, p.path) for p in world.problems] == [("warning", "spec.delivery.deadLetterSink")]


def test_invalid_broker_answers_and_says_why() -> None:
    world = World(BROKER.replace("---", "spec: {delivery: {retry: x}}\n---") + trigger())
    condition = world.condition("Broker", "default")
    assert (condition.status, condition.reason) == ("False", "InvalidSpec")
    assert 'spec.delivery.retry: expected an integer >= 0, got "x"' in condition.message
    assert "spec.delivery.retry" in world.plan.ingresses[0].not_ready
    assert world.condition("Trigger", "t", "BrokerReady").reason == "InvalidSpec"


def test_same_broker_twice_names_both_places() -> None:
    world = World(BROKER + BROKER.replace("---", "spec: {delivery: {retry: 1}}\n---") + trigger())
    (problem,) = world.compiled.problems
    assert problem.message == "Broker default/default is there twice: also in world.yaml, line 2"
    assert problem.line > 2
    assert world.egress("trigger/default/t").policy.retries == 10


def test_address_of_a_generic_channel_belongs_to_the_first_too() -> None:
    text = "{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: x}}\n---\n"
    world = World(text + BROKER.replace("name: default", "name: x-kn-channel"))
    assert world.condition("Channel", "x").reason == "AddressTaken"
    assert [topic.key for topic in world.plan.topics] == ["broker/default/x-kn-channel"]


def test_address_belongs_to_the_first() -> None:
    text = "{apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, metadata: {name: x}}\n---\n"
    world = World(text + BROKER.replace("name: default", "name: x-kn-channel"))
    assert world.is_ready("Broker", "x-kn-channel")
    condition = world.condition("InMemoryChannel", "x", "Addressable")
    assert (condition.status, condition.reason) == ("False", "AddressTaken")
    assert len(world.plan.ingresses) == 1
