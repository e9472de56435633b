"""Brokers and channels → hubs. Pure. Eventing reference §4, §6.1-6.3, §15."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.plan.conditions import NO_DEAD_LETTER, false, invalid_status, status_of, target_fields, true
from mesh.plan.defaults import SHIPPED_CONFIG, Defaults, Template, check_template
from mesh.plan.delivery import Features, feature_flaws
from mesh.plan.hub import KAFKA, LOG, MEMORY, PLUGIN, REDIS, REDIS_SINK, Hub
from mesh.plan.kafka import BROKER_CONFIG, KafkaTopic, broker_topic, channel_topic, sink_topic
from mesh.plan.redis import UnusableError, channel_options, sink_options
from mesh.plan.resolve import Unresolved, resolve
from mesh.plan.world import World
from mesh.resources.annotations import RETENTION, parse_bool, retention_s, tuning
from mesh.resources.duck import DeliverySpec, Destination, KReference
from mesh.resources.eventing import KAFKA_CLASSES, KAFKA_NAMESPACED_CLASS, MT_CLASS, Broker, KafkaSink
from mesh.resources.kinds import SERVED, join_version
from mesh.resources.messaging import (
    ANNOTATION_PREFIX,
    ASYNC_HANDLER,
    KNIT_GROUP,
    BackingChannel,
    BackingSpec,
    Channel,
    KafkaChannel,
    KafkaChannelSpec,
)
from mesh.resources.messaging import GROUP as MESSAGING
from mesh.resources.meta import Key, Resource, child_name
from mesh.resources.plugin import PluginChannelSpec
from mesh.resources.problem import Problem, did_you_mean
from mesh.resources.redis import RedisStreamChannelSpec, RedisStreamSink

CHANNEL_SUFFIX = "-kn-channel"
CHANNEL_GROUPS = {MEMORY: MESSAGING, KAFKA: MESSAGING, LOG: KNIT_GROUP, REDIS: KNIT_GROUP, PLUGIN: KNIT_GROUP}
_BEHIND_BROKER = "-kne-trigger"
_SINK_SUFFIX = "-redis-stream-sink"
_KAFKA_PARTS = ("Addressable", "DataPlaneAvailable", "TopicReady", "ConfigMapUpdated", "ConfigParsed", "ProbeSucceeded")


def build_hubs(world: World, features: Features, defaults: Defaults) -> None:
    """Make the hubs of all Brokers and channels; their dead-letter sinks are resolved when the flows' are there too."""
    for broker in world.of(Broker):
        _enter(world, broker, _broker_hub(world, broker, features, defaults))
    for backing in world.of(BackingChannel):
        _enter(world, backing, _backing_hub(world, backing, features))
    for kafka in world.of(KafkaChannel):
        _enter(world, kafka, _kafka_channel_hub(world, kafka, features))
    for kafka_sink in world.of(KafkaSink):
        _enter(world, kafka_sink, _kafka_sink_hub(world, kafka_sink))
    for channel in world.of(Channel):
        _enter_channel(world, channel, features, defaults)
    for sink in world.of(RedisStreamSink):
        _enter(world, sink, _sink_hub(world, sink))


def _enter(world: World, resource: Resource, hub: Hub) -> None:
    world.hubs[resource.key] = hub
    if not hub.foreign:
        claim_addresses(world, hub)


def claim_addresses(world: World, hub: Hub) -> None:
    """Give the hub its addresses; the first that asks for one has it."""
    for door in (*hub.paths, *hub.hosts):
        first = world.doors.setdefault(door, hub)
        if first is hub:
            continue
        if not hub.blocked:
            message = f"the address {door} belongs to {first.owner.key}"
            world.report(hub.owner, message, path="metadata.name", hint="rename one of the two")
            block(hub, "Addressable", "AddressTaken", message)
        hub.paths, hub.hosts = (), ()


def block(hub: Hub, condition: str, reason: str, message: str) -> None:
    """It is not ready; of several reasons the first is told to those who depend on it."""
    hub.blocked = hub.blocked or f"{condition}: {message}"
    hub.conditions[condition] = false(condition, reason, message)


def _flaws(world: World, resource: Resource, features: Features, spec: DeliverySpec | None) -> list[Problem]:
    return [
        world.report(resource, flaw.message, path=flaw.path, hint=flaw.hint)
        for flaw in feature_flaws(features, spec, "spec.delivery")
    ]


def block_invalid(hub: Hub, resource: Resource, problems: list[Problem]) -> bool:
    """Block the hub of a resource with errors of its own."""
    errors = [p for p in (*resource.problems, *problems) if p.severity == "error"]
    if errors:
        hub.blocked = "; ".join(dict.fromkeys(error.sentence for error in errors))
    return bool(errors)


# Brokers.


def _broker_hub(world: World, broker: Broker, features: Features, defaults: Defaults) -> Hub:
    key = broker.key
    path = f"/{key.namespace}/{key.name}"
    hub = Hub(broker, key.name, key.namespace, world.options.ingress_url + path, (path,), is_broker=True)
    spec = broker.spec
    broker_class = broker.broker_class or defaults.broker_class(key.namespace)
    if broker_class not in (MT_CLASS, *KAFKA_CLASSES):
        _ignore_foreign(world, broker, hub, broker_class)
        return hub
    if block_invalid(hub, broker, _flaws(world, broker, features, spec.delivery if spec else None)) or spec is None:
        return hub
    hub.tuning = tuning(broker.metadata.annotations)
    # Knative's webhook looks the delivery up by the kind of a config that is given: not by its class, and so finds the
    # cluster's. Kept, because users' retries depend on it.
    entry = defaults.config_of(key.namespace, "ConfigMap" if spec.config else broker_class)
    hub.delivery = spec.delivery if spec.delivery is not None else _defaulted(entry.delivery)
    if broker_class in KAFKA_CLASSES:
        _set_kafka(world, hub, _kafka_broker_topic(world, broker, broker_class, defaults), path="spec.config")
        hub.kafka_class = broker_class
        return hub
    hub.conditions = {name: true(name) for name in ("IngressReady", "FilterReady", "Addressable")}
    template = _broker_template(broker, spec.config, defaults)
    if template.error:
        block(hub, "TriggerChannelReady", "ChannelTemplateFailed", template.error)
        del hub.conditions["Addressable"]
        world.report(broker, template.error, path="spec.config")
        return hub
    hub.conditions["TriggerChannelReady"] = true("TriggerChannelReady")
    hub.fields["annotations"] = _channel_annotations(key, template.kind)
    error = set_backing(world, hub, template.kind, channel_part(broker.metadata.annotations), template.spec)
    if error:
        block(hub, "TriggerChannelReady", "ChannelTemplateFailed", error)
        world.report(broker, error, path="spec.config")
    return hub


def _kafka_broker_topic(world: World, broker: Broker, broker_class: str, defaults: Defaults) -> KafkaTopic:
    config, namespace = broker.spec.config if broker.spec else None, broker.key.namespace
    if config is not None:
        if (config.apiVersion, config.kind) != ("v1", "ConfigMap"):
            return KafkaTopic(error=f"expected a v1 ConfigMap, got {config.apiVersion} {config.kind} {config.name}")
        place = config.namespace or namespace, config.name
    else:
        entry = defaults.config_of(namespace, broker_class)
        own = entry.name if entry.name != SHIPPED_CONFIG else ""
        system = namespace if broker_class == KAFKA_NAMESPACED_CLASS else world.options.system_namespace
        place = entry.namespace if own and entry.namespace else system, own or BROKER_CONFIG
    return broker_topic(world, broker, broker_class, config=place)


def _set_kafka(world: World, hub: Hub, topic: KafkaTopic, *, path: str = "") -> None:
    """The hub is a topic of its own."""
    hub.backing = KAFKA
    hub.options = dict(topic.options)
    if topic.error:
        block(hub, "ConfigParsed", "ConfigNotParsed", topic.error)
        world.report(hub.owner, topic.error, path=path)
        return
    hub.conditions = {name: true(name) for name in (*_KAFKA_PARTS, "Subscribers")}
    if topic.annotations:
        hub.fields["annotations"] = dict(topic.annotations)


def _kafka_channel_hub(world: World, channel: KafkaChannel, features: Features) -> Hub:
    hub = channel_hub(world, channel, channel.key.name)
    spec = channel.spec
    hub.backing = KAFKA
    if block_invalid(hub, channel, _flaws(world, channel, features, spec.delivery if spec else None)) or spec is None:
        return hub
    hub.delivery = spec.delivery
    hub.tuning = tuning(channel.metadata.annotations)
    _set_kafka(world, hub, channel_topic(world, channel.key, spec, uid=channel.metadata.uid))
    return hub


def _kafka_sink_hub(world: World, sink: KafkaSink) -> Hub:
    key = sink.key
    path = f"/{key.namespace}/{key.name}"
    hub = Hub(sink, key.name, key.namespace, world.options.ingress_url + path, (path,), is_broker=False, is_sink=True)
    hub.backing = KAFKA
    if not block_invalid(hub, sink, []):
        _set_kafka(world, hub, sink_topic(world, sink), path="spec")
    return hub


def _ignore_foreign(world: World, broker: Broker, hub: Hub, broker_class: str) -> None:
    hub.foreign = True
    world.ignored.append(
        broker.problem(
            f'ignored: brokers of class "{broker_class}" and their triggers are not served by this version',
            path="metadata.annotations.eventing.knative.dev/broker.class",
            hint=f"{', '.join((MT_CLASS, *KAFKA_CLASSES))} are",
            severity="warning",
        )
    )


def _defaulted(delivery: DeliverySpec | None) -> DeliverySpec | None:
    """What the webhook copies of a default: not timeout, retryAfterMax and format."""
    if delivery is None:
        return None
    return DeliverySpec(
        deadLetterSink=delivery.deadLetterSink,
        retry=delivery.retry,
        backoffPolicy=delivery.backoffPolicy,
        backoffDelay=delivery.backoffDelay,
    )


def _broker_template(broker: Broker, config: KReference | None, defaults: Defaults) -> Template:
    namespace = broker.key.namespace
    if config is not None:
        where = config.namespace or namespace
        if (config.apiVersion, config.kind) != ("v1", "ConfigMap"):
            return Template(
                error=f"expected a v1 ConfigMap, got {config.apiVersion} {config.kind} {where}/{config.name}"
            )
        if defaults.is_namespace_bound(namespace) and where != namespace:
            return Template(error=f"ConfigMap {where}/{config.name} must be in namespace {namespace}")
        return defaults.broker_template(where, config.name)
    if defaults.broker_error:
        return Template(error=defaults.broker_error)
    entry = defaults.config_of(namespace, MT_CLASS)
    if not entry.name:
        return defaults.own_template()
    return defaults.broker_template(entry.namespace or defaults.world.options.system_namespace, entry.name)


def _channel_annotations(key: Key, kind: str) -> dict[str, str]:
    group = CHANNEL_GROUPS[kind]
    return {
        "knative.dev/channelAPIVersion": join_version(group, SERVED[group, kind][0]),
        "knative.dev/channelKind": kind,
        "knative.dev/channelName": child_name(key.name, _BEHIND_BROKER),
        "knative.dev/channelNamespace": key.namespace,
    }


def channel_part(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that a Broker or Channel hands to the channel behind it."""
    return {
        name: value for name, value in annotations.items() if name.startswith(ANNOTATION_PREFIX) or name == RETENTION
    }


def set_backing(
    world: World,
    hub: Hub,
    kind: str,
    annotations: Mapping[str, str],
    spec: BackingSpec | None = None,
) -> str:
    """Which channel holds the events, and what its annotations or its spec ask of it. Returns why that cannot be had."""
    hub.backing = kind
    if kind == MEMORY:
        hub.options = {"sync": not parse_bool(annotations.get(ASYNC_HANDLER, "false"))}
        return ""
    if isinstance(spec, KafkaChannelSpec):
        name = child_name(hub.name, _BEHIND_BROKER) if hub.is_broker else hub.name
        topic = channel_topic(world, Key(MESSAGING, KAFKA, hub.namespace, name), spec)
        hub.options = dict(topic.options)
        return topic.error
    seconds = retention_s(annotations)
    hub.options = {} if seconds is None else {"retention_s": seconds}
    if isinstance(spec, PluginChannelSpec):
        return _set_plugin(world, hub, spec)
    if kind == REDIS:
        redis = spec if isinstance(spec, RedisStreamChannelSpec) else RedisStreamChannelSpec()
        try:
            hub.options |= channel_options(world, hub.namespace, redis)
        except UnusableError as error:
            return str(error)
    return ""


def _set_plugin(world: World, hub: Hub, spec: PluginChannelSpec) -> str:
    hub.backend = spec.backend
    hub.options |= spec.options
    installed = world.options.backends
    if spec.backend in installed:
        return ""
    hint = did_you_mean(spec.backend, installed) or f"there are {', '.join(sorted(installed))}"
    return f'no backend named "{spec.backend}" is installed ({hint})'


# Channels.


def _channel_addresses(world: World, namespace: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The path on the ingress port and the Host names of a channel."""
    child = child_name(name, CHANNEL_SUFFIX)
    host = f"{child}.{namespace}"
    hosts = (f"{host}.svc.{world.options.cluster_domain}", f"{host}.svc", host)
    return f"/{namespace}/{child}", tuple(name.lower() for name in hosts)


def channel_hub(world: World, owner: Resource, name: str) -> Hub:
    """A channel of that name, which is its owner's own for all but flows."""
    path, hosts = _channel_addresses(world, owner.key.namespace, name)
    hub = Hub(owner, name, owner.key.namespace, world.options.ingress_url + path, (path,), is_broker=False)
    hub.hosts = hosts
    return hub


def _backing_hub(world: World, channel: BackingChannel, features: Features) -> Hub:
    hub = channel_hub(world, channel, channel.key.name)
    spec = channel.spec
    hub.backing = channel.key.kind
    if block_invalid(hub, channel, _flaws(world, channel, features, spec.delivery if spec else None)) or spec is None:
        return hub
    hub.delivery = spec.delivery
    hub.tuning = tuning(channel.metadata.annotations)
    parts = ("ServiceReady", "EndpointsReady", "Addressable", "ChannelServiceReady")
    hub.conditions = {name: true(name) for name in parts}
    error = set_backing(world, hub, channel.key.kind, channel.metadata.annotations, spec)
    if error:
        is_plugin = channel.key.kind == PLUGIN
        block(hub, "ServiceReady", "BackendNotInstalled" if is_plugin else "SecretNotUsable", error)
        world.report(channel, error, path="spec.backend" if is_plugin else "spec.auth")
    return hub


def _sink_hub(world: World, sink: RedisStreamSink) -> Hub:
    """A place to send events to, which nobody subscribes to."""
    key = sink.key
    path = f"/{key.namespace}/{child_name(key.name, _SINK_SUFFIX)}"
    hub = Hub(sink, key.name, key.namespace, world.options.ingress_url + path, (path,), is_broker=False, is_sink=True)
    host = f"{key.name}.{key.namespace}.svc"
    hub.hosts = (f"{host}.{world.options.cluster_domain}".lower(), host.lower())
    hub.backing = REDIS_SINK
    if block_invalid(hub, sink, []) or sink.spec is None:
        return hub
    hub.conditions = {name: true(name) for name in ("ServiceReady", "Addressable")}
    try:
        hub.options = sink_options(world, key.namespace, sink.spec)
    except UnusableError as error:
        block(hub, "ServiceReady", "SecretNotUsable", str(error))
        world.report(sink, str(error), path="spec.auth")
    return hub


def _enter_channel(world: World, channel: Channel, features: Features, defaults: Defaults) -> None:
    """A generic Channel is another name of what stands behind it, which is made where it is not there yet."""
    hub = channel_hub(world, channel, channel.key.name)
    spec = channel.spec
    if block_invalid(hub, channel, _flaws(world, channel, features, spec.delivery if spec else None)) or spec is None:
        _enter(world, channel, hub)
        return
    given = spec.channelTemplate
    template = check_template(given) if given else defaults.channel_template(channel.key.namespace)
    if template.error:
        path = ".".join(filter(None, ("spec.channelTemplate", template.field)))
        problem = world.report(channel, template.error, path=path)
        block(hub, "BackingChannelReady", "ChannelFailure", problem.sentence)
        _enter(world, channel, hub)
        return
    backing = Key(CHANNEL_GROUPS[template.kind], template.kind, channel.key.namespace, channel.key.name)
    delivery = spec.delivery if spec.delivery is not None else template.delivery
    if backing in world.hubs:
        hub = world.hubs[backing]
        hub.delivery = delivery if hub.delivery is None else hub.delivery
        world.hubs[channel.key] = hub
        return
    hub.delivery = delivery
    hub.tuning = tuning(channel.metadata.annotations)
    hub.conditions = {name: true(name) for name in ("BackingChannelReady", "Addressable")}
    error = set_backing(world, hub, template.kind, channel_part(channel.metadata.annotations), template.spec)
    if error:
        block(hub, "BackingChannelReady", "ChannelFailure", error)
        world.report(channel, error, path="spec.channelTemplate")
    _enter(world, channel, hub)
    if not hub.blocked:
        world.hubs[backing] = hub


# Dead letters and statuses.


def resolve_dead_letters(world: World) -> None:
    """A hub whose sink cannot be resolved is not ready, and so are those whose sink it is: until nothing changes."""
    waiting: list[tuple[Hub, Destination]] = []
    for hub in unique_hubs(world):
        sink = hub.delivery.deadLetterSink if hub.delivery is not None else None
        if hub.blocked or hub.foreign:
            continue
        if sink is None and hub.condition_kind.startswith("Kafka"):
            continue
        if sink is None:
            hub.conditions["DeadLetterSinkResolved"] = true("DeadLetterSinkResolved", *NO_DEAD_LETTER)
        else:
            waiting.append((hub, sink))
    is_settled = False
    while not is_settled:
        is_settled = True
        for hub, sink in waiting:
            if not hub.blocked and not _resolve_dead_letter(world, hub, sink):
                is_settled = False


def _resolve_dead_letter(world: World, hub: Hub, sink: Destination) -> bool:
    found = resolve(world, sink, hub.namespace)
    path = f"{hub.delivery_path}.deadLetterSink"
    if isinstance(found, Unresolved):
        block(hub, _sink_condition(hub), "Unable to get the dead letter sink's URI", found.sentence)
        world.report(hub.owner, found.message, path=path, hint=found.hint)
        return False
    if found.topic == hub.topic_key and hub.dead_letter is None:
        world.warn(hub.owner, "dead letters go back to where they failed", path=path)
    hub.dead_letter = found
    hub.conditions[_sink_condition(hub)] = true(_sink_condition(hub))
    return True


def _sink_condition(hub: Hub) -> str:
    """Kafka's kinds have no condition of their own for it (§15)."""
    return "ConfigParsed" if hub.condition_kind.startswith("Kafka") else "DeadLetterSinkResolved"


def unique_hubs(world: World) -> list[Hub]:
    """Every hub once."""
    return list({id(hub): hub for hub in world.hubs.values()}.values())


def report_hubs(world: World) -> None:
    """Write the statuses of Brokers and channels."""
    own: dict[str, list[Problem]] = {}
    for problem in world.problems:
        own.setdefault(problem.resource, []).append(problem)
    sinks = (*world.of(KafkaSink), *world.of(RedisStreamSink))
    backings = (*world.of(BackingChannel), *world.of(KafkaChannel))
    for resource in (*world.of(Broker), *backings, *world.of(Channel), *sinks):
        hub = world.hubs[resource.key]
        if hub.foreign:
            continue
        if not resource.is_valid or (hub.blocked and not hub.conditions and hub.owner is resource):
            world.statuses[resource.key] = invalid_status(resource, own.get(str(resource.key), ()))
            continue
        fields = dict(hub.fields)
        if "Addressable" in hub.conditions and hub.conditions["Addressable"].status == "True":
            fields["address"] = {"name": "http", "url": hub.url}
        fields |= target_fields("deadLetterSink", hub.dead_letter)
        if isinstance(resource, Channel) and not hub.blocked:
            fields["channel"] = channel_reference(hub)
        conditions = dict(hub.conditions)
        if hub.owner is not resource:
            reason = ("ChannelFailure", hub.blocked)
            name = "BackingChannelReady"
            conditions[name] = false(name, *reason) if hub.blocked else true(name)
        kind = hub.condition_kind if hub.owner is resource else resource.key.kind
        world.statuses[resource.key] = status_of(kind, conditions, fields)


def channel_reference(hub: Hub) -> dict[str, str]:
    """The object that holds the events, as a status names it."""
    group = CHANNEL_GROUPS[hub.backing]
    return {
        "apiVersion": join_version(group, SERVED[group, hub.backing][0]),
        "kind": hub.backing,
        "name": hub.name,
        "namespace": hub.namespace,
    }
