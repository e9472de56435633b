"""Kafka's ConfigMaps and Secrets → the options of a topic; names of topics and groups as Knative has them. Pure.

Eventing reference §4.3, §5.7, §6.4, §9.1, §9.2, §12.2. Options: `channels/kafka/link.py` and `topic.py` read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.plan.world import World
from mesh.resources.eventing import EXTERNAL_TOPIC, KAFKA_NAMESPACED_CLASS, Broker, KafkaSink
from mesh.resources.messaging import KafkaChannelSpec
from mesh.resources.meta import Key

Options = Mapping[str, str | float | bool]
BROKER_CONFIG, CHANNEL_CONFIG, FEATURES = "kafka-broker-config", "kafka-channel-config", "config-kafka-features"
_TEMPLATES = {
    "brokers-topic-template": "knative-broker-{{ .Namespace }}-{{ .Name }}",
    "triggers-consumergroup-template": "knative-trigger-{{ .Namespace }}-{{ .Name }}",
    "channels-topic-template": "knative-messaging-kafka.{{ .Namespace }}.{{ .Name }}",
}
_FIELD = re.compile(r"\{\{-?\s*\.(\w+)\s*-?\}\}")
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_AUTH_KEYS = ("ca.crt", "user.crt", "user.key", "user.skip", "user", "password", "token")


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """error: why there is none. options: for the backend, the Secret's keys among them. annotations: for the status."""

    options: Options = field(default_factory=dict, repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def broker_topic(world: World, broker: Broker, broker_class: str, *, config: tuple[str, str]) -> KafkaTopic:
    """The topic of a Broker of a Kafka class. config: namespace and name of its ConfigMap."""
    key = broker.key
    data = world.config_map(*config)
    where = f"ConfigMap {config[0]}/{config[1]}"
    if data is None:
        return KafkaTopic(error=f"{where} does not exist")
    if broker_class == KAFKA_NAMESPACED_CLASS and config[0] != key.namespace:
        return KafkaTopic(error=f"{where} must be in namespace {key.namespace}")
    external = broker.metadata.annotations.get(EXTERNAL_TOPIC)
    name = external or _named(world, "brokers-topic-template", key, broker.metadata.uid)
    options: dict[str, str | float | bool] = {"topic": name, "external": bool(external)}
    for ours, theirs in (("partitions", "default.topic.partitions"), ("replicas", "default.topic.replication.factor")):
        text = data.get(theirs, "").strip()
        if not external and not (text.isdecimal() and int(text) > 0):
            return KafkaTopic(error=f'{where}: {theirs}: expected an integer > 0, got "{text}"')
        options[ours] = int(text or 1)
    options |= {
        "config." + name.removeprefix("default.topic.config."): value
        for name, value in data.items()
        if name.startswith("default.topic.config.")
    }
    found = _connected(world, data, config[0], where, options)
    if found.error:
        return found
    annotations = {
        "bootstrap.servers": str(found.options["bootstrap"]),
        "default.topic": name,
        "default.topic.partitions": data.get("default.topic.partitions", ""),
        "default.topic.replication.factor": data.get("default.topic.replication.factor", ""),
    }
    return KafkaTopic(found.options, {name: text for name, text in annotations.items() if text})


def channel_topic(world: World, key: Key, spec: KafkaChannelSpec, *, uid: str = "") -> KafkaTopic:
    """The topic of a KafkaChannel, or of what stands behind a Channel or Broker under that name."""
    namespace = world.options.system_namespace
    data = world.settings(CHANNEL_CONFIG)
    where = f"ConfigMap {namespace}/{CHANNEL_CONFIG}"
    if data is None:
        return KafkaTopic(error=f"{where} does not exist")
    options: dict[str, str | float | bool] = {
        "topic": _named(world, "channels-topic-template", key, uid),
        "external": False,
        "partitions": spec.numPartitions,
        "replicas": spec.replicationFactor,
        "config.retention.ms": str(spec.retention_ms),
    }
    return _connected(world, data, namespace, where, options)


def sink_topic(world: World, sink: KafkaSink) -> KafkaTopic:
    """The topic of a KafkaSink; one without partitions belongs to somebody else."""
    spec = sink.spec
    if spec is None:
        return KafkaTopic(error="it cannot be read")
    owned = spec.numPartitions is not None
    options: dict[str, str | float | bool] = {
        "topic": spec.topic,
        "external": not owned,
        "partitions": spec.numPartitions or 1,
        "replicas": spec.replicationFactor or 1,
        "structured": spec.contentMode == "structured",
    }
    data = {"bootstrap.servers": ",".join(spec.bootstrapServers)}
    if spec.auth is not None and spec.auth.secret_name:
        data["auth.secret.ref.name"] = spec.auth.secret_name
    found = _connected(world, data, sink.key.namespace, "spec", options)
    owner = "kafkasinks.eventing.knative.dev" if owned else "external"
    return KafkaTopic(found.options, {"eventing.knative.dev/topic.owner": owner}, found.error)


def trigger_group(world: World, key: Key, uid: str = "") -> str:
    """The consumer group that keeps a Trigger's position."""
    return _named(world, "triggers-consumergroup-template", key, uid)


def subscription_group(channel: str, namespace: str, uid: str) -> str:
    """The consumer group of a Subscription. Where the world gives no uid, `uid` is its name: that is as lasting."""
    return f"kafka.{namespace}.{channel}.{uid}"


def _named(world: World, template: str, key: Key, uid: str) -> str:
    text = (world.settings(FEATURES) or {}).get(template, "").strip() or _TEMPLATES[template]
    values = {"Namespace": key.namespace, "Name": key.name, "UID": uid or key.name}
    return _FIELD.sub(lambda found: values.get(found[1], found[0]), text)


def _connected(
    world: World, data: Mapping[str, str], namespace: str, where: str, options: Mapping[str, str | float | bool]
) -> KafkaTopic:
    """With where the cluster is and who we are there."""
    bootstrap = ",".join(server.strip() for server in data.get("bootstrap.servers", "").split(",") if server.strip())
    if not bootstrap:
        return KafkaTopic(error=f"{where}: bootstrap.servers is missing")
    if not _TOPIC.fullmatch(str(options["topic"])):
        return KafkaTopic(error=f'"{options["topic"]}" is no topic name: letters, digits, ., _ and - only, at most 249')
    secret_name = data.get("auth.secret.ref.name", "").strip()
    found: dict[str, str | float | bool] = {"bootstrap": bootstrap, **options}
    if secret_name:
        secret_namespace = data.get("auth.secret.ref.namespace", "").strip() or namespace
        secret = world.secret(secret_namespace, secret_name)
        if secret is None:
            return KafkaTopic(error=f"Secret {secret_namespace}/{secret_name} does not exist")
        auth, error = read_secret(secret)
        if error:
            return KafkaTopic(error=f"Secret {secret_namespace}/{secret_name}: {error}")
        found |= {f"auth.{name}": value for name, value in auth.items()}
    return KafkaTopic(found)


def read_secret(data: Mapping[str, str]) -> tuple[Mapping[str, str], str]:
    """Knative's keys, the older channel's too, as `channels/kafka/link.py` wants them; and what is wrong."""
    protocol = data.get("protocol", "").strip() or _older_protocol(data)
    if protocol not in _PROTOCOLS:
        return {}, f'protocol: expected one of {", ".join(_PROTOCOLS)}, got "{protocol}"'
    found = {"protocol": protocol} | {name: data[name] for name in _AUTH_KEYS if data.get(name)}
    if "username" in data:
        found.setdefault("user", data["username"])
    if protocol.startswith("SASL_"):
        mechanism = (data.get("sasl.mechanism") or data.get("saslType") or data.get("sasltype") or "PLAIN").strip()
        if mechanism not in _MECHANISMS:
            return {}, f'sasl.mechanism: expected one of {", ".join(_MECHANISMS)}, got "{mechanism}"'
        wanted = ("token",) if mechanism == "OAUTHBEARER" else ("user", "password")
        missing = [name for name in wanted if not found.get(name)]
        if missing:
            return {}, f"{missing[0]} is missing"
        found["sasl.mechanism"] = mechanism
    if protocol == "SSL" and data.get("user.skip") != "true":
        missing = [name for name in ("user.crt", "user.key") if not found.get(name)]
        if missing:
            return {}, f'{missing[0]} is missing (user.skip: "true" where no client certificate is wanted)'
    return found, ""


def _older_protocol(data: Mapping[str, str]) -> str:
    """The consolidated channel's Secret had no protocol."""
    has_tls = data.get("tls.enabled", "").lower() == "true" or bool(data.get("ca.crt"))
    has_sasl = "saslType" in data or "sasltype" in data
    if not (has_tls or has_sasl):
        return ""
    return f"SASL_{'SSL' if has_tls else 'PLAINTEXT'}" if has_sasl else "SSL"
