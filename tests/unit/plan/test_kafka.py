"""Brokers of the Kafka classes, KafkaChannel and KafkaSink: names, ConfigMaps, Secrets, inheritance, conditions."""

from __future__ import annotations

import pytest

from mesh.plan.kafka import read_secret
from tests.unit.plan.worlds import World, config_map, trigger

DATA = {
    "bootstrap.servers": "one:9092, two:9092",
    "default.topic.partitions": "10",
    "default.topic.replication.factor": "3",
    "default.topic.config.retention.ms": "1000",
}
SINK = "{ref: {kind: Service, apiVersion: v1, name: d}}"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: d, annotations: {run.knit.dev/url: 'http://localhost:1/dead'}}\n---\n"


def kafka_broker(spec: str = "{}", *, klass: str = "Kafka", more: str = "") -> str:
    annotations = f"{{eventing.knative.dev/broker.class: {klass}{more}}}"
    return f"""
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: default, annotations: {annotations}}}
spec: {spec}
---
"""


def stripped(data: dict[str, str], *, name: str = "kafka-broker-config", namespace: str = "knative-eventing") -> str:
    lines = "".join(f"  {key}: {value!r}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n{lines}---\n"


def test_a_broker_gets_the_topic_that_its_config_map_asks_for() -> None:
    world = World(kafka_broker() + stripped(DATA))
    topic = world.topic("broker/default/default")
    assert (topic.backend, topic.is_broker) == ("kafka", False)
    assert topic.options == {
        "bootstrap": "one:9092,two:9092",
        "topic": "knative-broker-default-default",
        "external": False,
        "partitions": 10,
        "replicas": 3,
        "config.retention.ms": "1000",
    }
    status = world.status("Broker", "default")
    assert [c.type for c in status.conditions if c.status == "True"] == [
        "Addressable",
        "ConfigMapUpdated",
        "ConfigParsed",
        "DataPlaneAvailable",
        "EventPoliciesReady",
        "ProbeSucceeded",
        "Ready",
        "TopicReady",
    ]
    assert status.fields["annotations"]["default.topic"] == "knative-broker-default-default"


def test_an_external_topic_is_used_as_it_is() -> None:
    world = World(kafka_broker(more=", kafka.eventing.knative.dev/external.topic: mine") + stripped(DATA))
    options = world.topic("broker/default/default").options
    assert (options["topic"], options["external"]) == ("mine", True)


def test_the_features_name_topics_and_groups() -> None:
    features = config_map(
        "config-kafka-features",
        {
            "brokers-topic-template": "b.{{ .Namespace }}.{{.Name}}",
            "triggers-consumergroup-template": "g-{{ .Name }}-{{ .Namespace }}",
        },
    )
    world = World(kafka_broker() + stripped(DATA) + features + trigger())
    assert world.topic("broker/default/default").options["topic"] == "b.default.default"
    assert world.egress("trigger/default/t").options == {"group": "g-t-default", "ordered": False}
    assert world.status("Trigger", "t").fields["annotations"] == {"group.id": "g-t-default"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "ConfigMap knative-eventing/kafka-broker-config does not exist"),
        ({**DATA, "bootstrap.servers": " "}, "bootstrap.servers is missing"),
        ({**DATA, "default.topic.partitions": "0"}, 'default.topic.partitions: expected an integer > 0, got "0"'),
        ({**DATA, "default.topic.replication.factor": "x"}, "default.topic.replication.factor: expected"),
        ({**DATA, "auth.secret.ref.name": "none"}, "Secret knative-eventing/none does not exist"),
    ],
)
def test_a_config_that_cannot_be_used(data: dict[str, str] | None, why: str) -> None:
    world = World(kafka_broker() + (stripped(data) if data else "") + trigger())
    condition = world.condition("Broker", "default", "ConfigParsed")
    assert condition.status == "False"
    assert why in condition.message
    assert not world.is_ready("Broker", "default")
    assert not world.is_ready("Trigger", "t")
    assert any(why in error for error in world.errors)


def test_a_namespaced_broker_has_its_config_in_its_namespace() -> None:
    world = World(kafka_broker(klass="KafkaNamespaced") + stripped(DATA))
    assert "default/kafka-broker-config does not exist" in world.condition("Broker", "default").message
    assert World(kafka_broker(klass="KafkaNamespaced") + stripped(DATA, namespace="default")).is_ready(
        "Broker", "default"
    )


BROKER_DELIVERY = (
    f"{{delivery: {{retry: 10, backoffPolicy: linear, backoffDelay: PT1S, timeout: PT5S, deadLetterSink: {SINK}}}}}"
)


def test_a_triggers_delivery_replaces_the_brokers_as_a_whole() -> None:
    world = World(
        kafka_broker(BROKER_DELIVERY) + stripped(DATA) + SERVICE + trigger() + trigger("own", delivery="{retry: 3}")
    )
    inherited, own = world.egress("trigger/default/t"), world.egress("trigger/default/own")
    assert (inherited.policy.retries, inherited.policy.backoff, inherited.policy.series) == (10, "linear", "kafka")
    assert inherited.dead_letter is not None
    assert own.dead_letter is None
    assert own.policy.pauses_s() == (0.4, 0.8, 1.6)
    assert own.policy.timeout_s == 0


def test_a_namespaced_brokers_delivery_is_merged_and_zero_falls_back() -> None:
    text = kafka_broker(BROKER_DELIVERY, klass="KafkaNamespaced") + stripped(DATA, namespace="default") + SERVICE
    egress = World(text + trigger(delivery="{retry: 0}")).egress("trigger/default/t")
    assert (egress.policy.retries, egress.policy.backoff, egress.policy.delay_s) == (10, "exponential", 1.0)
    assert egress.policy.timeout_s == 5
    assert egress.dead_letter is not None


def test_order_is_asked_for_by_annotation() -> None:
    def ordered(order: str) -> World:
        text = trigger().replace(
            "{name: t}", f"{{name: t, annotations: {{kafka.eventing.knative.dev/delivery.order: {order}}}}}"
        )
        return World(kafka_broker() + stripped(DATA) + text)

    assert ordered("ORDERED").egress("trigger/default/t").options["ordered"]
    assert any("delivery.order" in error for error in ordered("sideways").errors)


CHANNEL = """
apiVersion: messaging.knative.dev/v1beta1
kind: KafkaChannel
metadata: {name: c}
spec: {numPartitions: 4, replicationFactor: 2, retentionDuration: PT1H, delivery: {retry: 5, backoffDelay: PT2S, timeout: PT7S}}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s, uid: abc}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: KafkaChannel, name: c}
  subscriber: {uri: "http://localhost:9000/"}
  delivery: {retry: 1, backoffPolicy: linear}
---
"""


def test_a_kafka_channel() -> None:
    world = World(CHANNEL + stripped({"bootstrap.servers": "k:9092"}, name="kafka-channel-config"))
    topic, egress = world.topic("channel/default/c"), world.egress("subscription/default/s")
    assert topic.options == {
        "bootstrap": "k:9092",
        "topic": "knative-messaging-kafka.default.c",
        "external": False,
        "partitions": 4,
        "replicas": 2,
        "config.retention.ms": "3600000",
    }
    assert egress.options == {"group": "kafka.default.c.abc", "ordered": True}
    policy = egress.policy
    assert (policy.retries, policy.backoff, policy.delay_s, policy.timeout_s) == (1, "linear", 2, 7)
    assert world.is_ready("KafkaChannel", "c")
    assert world.is_ready("Subscription", "s")


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("{numPartitions: 0}", "spec.numPartitions"),
        ("{replicationFactor: -1}", "spec.replicationFactor"),
        ("{retentionDuration: 5s}", "spec.retentionDuration"),
        ("{retentionDuration: -PT1S}", "spec.retentionDuration"),
    ],
)
def test_a_kafka_channel_that_is_wrong(spec: str, path: str) -> None:
    world = World(f"apiVersion: messaging.knative.dev/v1\nkind: KafkaChannel\nmetadata: {{name: c}}\nspec: {spec}\n")
    assert any(error.startswith(path) for error in world.errors)
    assert not world.is_ready("KafkaChannel", "c")


def test_templates_may_name_a_kafka_channel() -> None:
    channel = """
apiVersion: messaging.knative.dev/v1
kind: Channel
metadata: {name: g}
spec: {channelTemplate: {apiVersion: messaging.knative.dev/v1beta1, kind: KafkaChannel, spec: {numPartitions: 2}}}
---
"""
    behind = "apiVersion: messaging.knative.dev/v1beta1\nkind: KafkaChannel\nspec: {numPartitions: 3}"
    broker = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default}\n---\n"
    world = World(
        channel
        + broker
        + config_map("config-br-default-channel", {"channel-template-spec": behind})
        + stripped({"bootstrap.servers": "k:9092"}, name="kafka-channel-config")
    )
    assert world.topic("channel/default/g").options["partitions"] == 2
    options = world.topic("broker/default/default").options
    assert (options["topic"], options["partitions"]) == ("knative-messaging-kafka.default.default-kne-trigger", 3)
    assert world.topic("broker/default/default").is_broker


def test_a_kafka_sink() -> None:
    def sink(spec: str) -> World:
        secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {protocol: PLAINTEXT}\n---\n"
        return World(
            f"{secret}apiVersion: eventing.knative.dev/v1alpha1\nkind: KafkaSink\nmetadata: {{name: k}}\nspec: {spec}\n"
        )

    world = sink("{topic: t, bootstrapServers: [k:1], numPartitions: 1, replicationFactor: 1, contentMode: structured}")
    assert world.topic("sink/default/k").options["structured"] is True
    assert world.topic("sink/default/k").options["external"] is False
    assert world.is_ready("KafkaSink", "k")
    world = sink("{topic: t, bootstrapServers: [k:1], auth: {secret: {ref: {name: login}}}}")
    options = world.topic("sink/default/k").options
    assert (options["external"], options["auth.protocol"]) == (True, "PLAINTEXT")
    for spec, path in (
        ("{bootstrapServers: [k:1]}", "spec.topic"),
        ("{topic: t}", "spec.bootstrapServers"),
        ("{topic: t, bootstrapServers: [k:1], numPartitions: 1}", "spec.replicationFactor"),
    ):
        assert any(error.startswith(path) for error in sink(spec).errors)


@pytest.mark.parametrize(
    ("data", "found", "why"),
    [
        ({"protocol": "PLAINTEXT"}, {"protocol": "PLAINTEXT"}, ""),
        ({}, {}, "protocol: expected one of"),
        ({"protocol": "SASL_SSL", "sasl.mechanism": "X"}, {}, "sasl.mechanism: expected one of"),
        ({"protocol": "SASL_SSL", "user": "u"}, {}, "password is missing"),
        ({"protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, {}, "token is missing"),
        ({"protocol": "SSL"}, {}, "user.crt is missing"),
        ({"protocol": "SSL", "user.skip": "true"}, {"protocol": "SSL", "user.skip": "true"}, ""),
        (
            {"username": "u", "password": "p", "saslType": "SCRAM-SHA-512", "tls.enabled": "true"},
            {"protocol": "SASL_SSL", "user": "u", "password": "p", "sasl.mechanism": "SCRAM-SHA-512"},
            "",
        ),
    ],
)
def test_secrets(data: dict[str, str], found: dict[str, str], why: str) -> None:
    read, error = read_secret(data)
    assert dict(read) == found
    assert why in error
    assert bool(why) == bool(error)
