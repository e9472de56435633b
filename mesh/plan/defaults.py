"""Which class, channel and delivery a resource gets that names none. Pure. Eventing reference §4.5, §6.2.

`config-br-defaults` and `default-ch-webhook` in the system namespace say it; without them Knit's own defaults hold, which
are Knative's shipped ones with Knit's log channel in place of the in-memory one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ConfigDict, Field

from mesh.plan.hub import KAFKA, LOG, MEMORY, PLUGIN, REDIS
from mesh.plan.world import World
from mesh.resources.decode import decode_spec
from mesh.resources.documents import read_documents
from mesh.resources.duck import DeliverySpec, Flaw, Spec
from mesh.resources.eventing import MT_CLASS
from mesh.resources.kinds import CHANNELS, LATER, SERVED, right_versions, split_version
from mesh.resources.messaging import BackingSpec, ChannelTemplate, KafkaChannelSpec
from mesh.resources.meta import Key
from mesh.resources.plugin import PluginChannelSpec
from mesh.resources.redis import RedisStreamChannelSpec

_Model = TypeVar("_Model", bound=Spec)
_CHOICES = "InMemoryChannel, KafkaChannel, LogChannel, RedisStreamChannel and PluginChannel"
_MODELS: dict[str, type[BackingSpec]] = {
    KAFKA: KafkaChannelSpec,
    REDIS: RedisStreamChannelSpec,
    PLUGIN: PluginChannelSpec,
}
"""Kinds whose spec says more than how to deliver."""
SHIPPED_CONFIG = "config-br-default-channel"
TEMPLATE_KEY = "channel-template-spec"
SHIPPED_DELIVERY = DeliverySpec(retry=10, backoffPolicy="exponential", backoffDelay="PT0.2S")


class ClassDefaults(Spec):
    """Where the config of one broker class stands, and its delivery."""

    model_config = ConfigDict(extra="allow")

    apiVersion: str = ""  # noqa: N815  # Knative's names
    kind: str = ""
    name: str = ""
    namespace: str = ""
    delivery: DeliverySpec | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """What is wrong with the delivery."""
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


class ScopeDefaults(ClassDefaults):
    """The defaults of a namespace or of the cluster."""

    brokerClass: str = ""  # noqa: N815
    brokerClasses: dict[str, ClassDefaults] = Field(default_factory=dict)  # noqa: N815
    disallowDifferentNamespaceConfig: bool = False  # noqa: N815

    def flaws(self, path: str) -> Iterator[Flaw]:
        """What is wrong with a delivery, its own or that of a class."""
        yield from super().flaws(path)
        for name, defaults in self.brokerClasses.items():
            yield from defaults.flaws(f"{path}.brokerClasses.{name}")


_SHIPPED = ScopeDefaults(
    brokerClass=MT_CLASS, apiVersion="v1", kind="ConfigMap", name=SHIPPED_CONFIG, delivery=SHIPPED_DELIVERY
)


class _BrokerDefaults(Spec):
    model_config = ConfigDict(extra="allow")

    clusterDefault: ScopeDefaults | None = None  # noqa: N815
    namespaceDefaults: dict[str, ScopeDefaults] = Field(default_factory=dict)  # noqa: N815

    def flaws(self, path: str) -> Iterator[Flaw]:
        """What is wrong with the scopes."""
        if self.clusterDefault is not None:
            yield from self.clusterDefault.flaws(f"{path}.clusterDefault")
        for name, scope in self.namespaceDefaults.items():
            yield from scope.flaws(f"{path}.namespaceDefaults.{name}")


class _ChannelDefaults(Spec):
    model_config = ConfigDict(extra="allow")

    clusterDefault: ChannelTemplate | None = None  # noqa: N815
    namespaceDefaults: dict[str, ChannelTemplate] = Field(default_factory=dict)  # noqa: N815


@dataclass(frozen=True, slots=True)
class Template:
    """Which channel to make. error: why that cannot be told, kind means nothing then; field: what of the template is wrong."""

    kind: str = LOG
    delivery: DeliverySpec | None = None
    error: str = ""
    field: str = ""
    spec: BackingSpec | None = None

    def within(self, where: str) -> Template:
        """The same, its error told for people who do not have the template before them."""
        if not self.error:
            return self
        return Template(error=f"{where}{'.' if self.field else ''}{self.field}: {self.error}")


@dataclass(slots=True)
class Defaults:
    """The defaults of one world. `error`: the ConfigMap is there and cannot be read; nothing is guessed then."""

    world: World
    cluster: ScopeDefaults = _SHIPPED
    namespaces: dict[str, ScopeDefaults] = field(default_factory=dict)
    broker_error: str = ""
    channel_cluster: ChannelTemplate | None = None
    channel_namespaces: dict[str, ChannelTemplate] = field(default_factory=dict)
    channel_error: str = ""

    def broker_class(self, namespace: str) -> str:
        """The class of a Broker there that names none."""
        scope = self.namespaces.get(namespace)
        return (scope.brokerClass if scope else "") or self.cluster.brokerClass or MT_CLASS

    def config_of(self, namespace: str, broker_class: str) -> ClassDefaults:
        """The entry for a class in a namespace: the namespace's for the class, its own, the cluster's for the class, its own."""
        scope = self.namespaces.get(namespace)
        if scope is not None and broker_class in scope.brokerClasses:
            return scope.brokerClasses[broker_class]
        if scope is not None and scope.brokerClass == broker_class:
            return scope
        return self.cluster.brokerClasses.get(broker_class, self.cluster)

    def is_namespace_bound(self, namespace: str) -> bool:
        """Whether a Broker there must have its config in its own namespace."""
        scope = self.namespaces.get(namespace, self.cluster)
        return scope.disallowDifferentNamespaceConfig

    def own_template(self) -> Template:
        """What stands behind Brokers and Channels where no ConfigMap says it."""
        return Template(MEMORY if self.world.options.default_backend == "memory" else LOG)

    def broker_template(self, namespace: str, name: str) -> Template:
        """The channel that a Broker's ConfigMap asks for. The shipped ConfigMap need not be there."""
        data = self.world.config_map(namespace, name)
        if data is None:
            if (namespace, name) == (self.world.options.system_namespace, SHIPPED_CONFIG):
                return self.own_template()
            return Template(error=f"ConfigMap {namespace}/{name} does not exist")
        where = f"ConfigMap {namespace}/{name}"
        if TEMPLATE_KEY not in data:
            return Template(error=f"{where} has no key {TEMPLATE_KEY}")
        template, error = _read(ChannelTemplate, data[TEMPLATE_KEY], f"{where}: {TEMPLATE_KEY}")
        return (
            Template(error=error) if template is None else check_template(template).within(f"{where}: {TEMPLATE_KEY}")
        )

    def channel_template(self, namespace: str) -> Template:
        """What stands behind a Channel without a template."""
        template = self.channel_namespaces.get(namespace) or self.channel_cluster
        if self.channel_error:
            return Template(error=self.channel_error)
        if template is None:
            return self.own_template()
        where = f"ConfigMap {self.world.options.system_namespace}/default-ch-webhook: default-ch-config"
        return check_template(template).within(where)


def check_template(template: ChannelTemplate) -> Template:
    """Whether this version has the channel that a template names."""
    group, version = split_version(template.apiVersion)
    what = f"{template.apiVersion} {template.kind}"
    if (group, template.kind) in CHANNELS:
        if version not in SERVED[group, template.kind]:
            right = right_versions(group, template.kind)
            error = f"{template.apiVersion} has no {template.kind}; use {right}"
            return Template(error=error, field="apiVersion")
        return _backing_template(template)
    if (group, template.kind) in LATER:
        return Template(error=f"{what} comes with another version of Knit; {_CHOICES} are served")
    known = [right_versions(*channel) for channel in CHANNELS if channel[1] == template.kind]
    if known:
        return Template(error=f"{template.apiVersion} has no {template.kind}; use {known[0]}", field="apiVersion")
    return Template(error=f"{what} is no channel; {_CHOICES} are served", field="kind")


def _backing_template(template: ChannelTemplate) -> Template:
    model = _MODELS.get(template.kind)
    if model is not None:
        found, errors = decode_spec(model, template.spec, "spec")
        if found is None or errors:
            return Template(error="; ".join(f"{flaw.path}: {flaw.message}" for flaw in errors))
        return Template(template.kind, found.delivery, spec=found)
    if "delivery" not in template.spec:
        return Template(template.kind)
    spec, flaws = decode_spec(DeliverySpec, template.spec["delivery"], "spec.delivery")
    if spec is None or flaws:
        return Template(error="; ".join(f"{flaw.path}: {flaw.message}" for flaw in flaws))
    return Template(template.kind, spec)


def read_defaults(world: World) -> Defaults:
    """Read both ConfigMaps; errors in them are reported on them and block what would rely on them."""
    defaults = Defaults(world)
    system = world.options.system_namespace
    text = (world.settings("config-br-defaults") or {}).get("default-br-config")
    if text is not None:
        path = "default-br-config"
        found, defaults.broker_error = _read(_BrokerDefaults, text, f"ConfigMap {system}/config-br-defaults: {path}")
        if found is not None:
            defaults.cluster, defaults.namespaces = found.clusterDefault or _SHIPPED, found.namespaceDefaults
        _report(world, "config-br-defaults", f"data.{path}", defaults.broker_error)
    text = (world.settings("default-ch-webhook") or {}).get("default-ch-config")
    if text is not None:
        path = "default-ch-config"
        ours, defaults.channel_error = _read(_ChannelDefaults, text, f"ConfigMap {system}/default-ch-webhook: {path}")
        if ours is not None:
            defaults.channel_cluster, defaults.channel_namespaces = ours.clusterDefault, ours.namespaceDefaults
        _report(world, "default-ch-webhook", f"data.{path}", defaults.channel_error)
    return defaults


def _report(world: World, name: str, path: str, error: str) -> None:
    owner = world.resources.get(Key("", "ConfigMap", world.options.system_namespace, name))
    if error and owner is not None:
        world.report(owner, error, path=path)


def _read(model: type[_Model], text: str, path: str) -> tuple[_Model | None, str]:
    documents, problems = read_documents(text, file=path)
    if problems:
        return None, f"{path}: line {problems[0].line}: {problems[0].message}"
    value = documents[0].value if documents else {}
    spec, flaws = decode_spec(model, value, "")
    if flaws or spec is None:
        return None, f"{path}: " + "; ".join(f"{flaw.path.lstrip('.')}: {flaw.message}" for flaw in flaws)
    return spec, ""
