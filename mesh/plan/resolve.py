"""Destination → address. Pure. Eventing reference §1.2; on one machine a Service gets its URL as §17.12 says."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from mesh.plan.hub import Hub
from mesh.plan.model import Target
from mesh.plan.world import SERVICE_TABLE, World, is_addressable
from mesh.resources.core import SERVICE_BUILTIN, SERVICE_URL
from mesh.resources.duck import Destination, KReference
from mesh.resources.kinds import LATER, SERVED, right_versions, split_version, why_unknown
from mesh.resources.meta import Key
from mesh.resources.problem import did_you_mean

_INGRESSES = ("broker-ingress", "kafka-broker-ingress", "kafka-channel-ingress", "kafka-sink-ingress")
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why a destination has no address."""

    message: str
    hint: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def resolve(world: World, destination: Destination, namespace: str) -> Target | Unresolved:
    """Find the address of a destination whose owner lives in `namespace`. Brokers and channels must be compiled before."""
    found = _of_ref(world, destination, namespace) if destination.ref else _of_uri(world, destination.uri or "")
    if isinstance(found, Unresolved):
        return found
    return Target(
        found.url,
        found.topic,
        destination.CACerts or found.ca_certs,
        destination.audience or found.audience,
    )


def _of_uri(world: World, uri: str) -> Target | Unresolved:
    hub = _hub_at(world, uri)
    if hub is not None:
        return Unresolved(f"{hub.owner.key} is not ready: {hub.blocked}") if hub.blocked else hub.target()
    return Target(_outside_cluster(world, uri))


def _hub_at(world: World, uri: str) -> Hub | None:
    """The Broker or channel that a URL names, whether written for this machine or for a cluster."""
    parts = urlsplit(uri)
    host, path = (parts.hostname or "").lower(), parts.path.rstrip("/")
    if parts.query or parts.scheme != "http":
        return None
    names = [f"{name}.{world.options.system_namespace}.svc" for name in _INGRESSES]
    own = urlsplit(world.options.ingress_url)
    if _is_same_place(parts, own) or host.removesuffix(f".{world.options.cluster_domain}") in names:
        return world.doors.get(path)
    return world.doors.get(host) if not path else None


def _is_same_place(one: SplitResult, other: SplitResult) -> bool:
    hosts = {one.hostname, other.hostname}
    return one.port == other.port and (len(hosts) == 1 or hosts <= _LOOPBACK)


def _outside_cluster(world: World, uri: str) -> str:
    """A URL of a Service's cluster name, moved to where that Service is on this machine if that is known."""
    parts = urlsplit(uri)
    labels = (parts.hostname or "").lower().split(".")
    if len(labels) < 3 or labels[2] != "svc" or ".".join(labels[3:]) not in ("", world.options.cluster_domain):
        return uri
    base = _service_url(world, Key("", "Service", labels[1], labels[0]))
    if isinstance(base, Unresolved):
        return uri
    tail = parts._replace(scheme="", netloc="").geturl()
    return urljoin(base, tail) if tail else base


def _of_ref(world: World, destination: Destination, namespace: str) -> Target | Unresolved:
    ref = destination.ref or KReference()
    key = Key(ref.api_group, ref.kind, ref.namespace or namespace, ref.name)
    found = _of_key(world, key, ref)
    if isinstance(found, Unresolved) or not destination.uri:
        return found
    # A topic is reached by its address only; with another path it is another place.
    return Target(urljoin(found.url, destination.uri), "", found.ca_certs, found.audience)


def _of_key(world: World, key: Key, ref: KReference) -> Target | Unresolved:
    kind = key.group, key.kind
    if key.kind == "Service" and kind in (("", "Service"), ("serving.knative.dev", "Service")):
        url = _service_url(world, key)
        return url if isinstance(url, Unresolved) else Target(url)
    if kind not in SERVED:
        return Unresolved(_why_no_kind(ref, key))
    _, version = split_version(ref.apiVersion)
    if version and version not in SERVED[kind]:
        return Unresolved(f"{ref.apiVersion} {key.kind} is not served", f"use {right_versions(*kind)}")
    if not is_addressable(key):
        return Unresolved(f"{key} is not addressable: a {key.kind} takes no events")
    return _of_hub(world, key, ref)


def _why_no_kind(ref: KReference, key: Key) -> str:
    if (key.group, key.kind) in LATER:
        return f"{key}: {why_unknown(ref.apiVersion or key.group, key.kind)}"
    return why_unknown(ref.apiVersion or key.group, key.kind)


def _of_hub(world: World, key: Key, ref: KReference) -> Target | Unresolved:
    hub = world.hubs.get(key)
    if hub is None:
        hint = did_you_mean(key.name, world.names_of(key.kind, key.namespace)) or _other_namespace(world, key)
        return Unresolved(f"{key} does not exist", hint)
    if hub.foreign:
        return Unresolved(f"URL missing in address of {key}: its class is not served here")
    if hub.blocked:
        return Unresolved(f"{key} is not ready: {hub.blocked}")
    if ref.address and ref.address != "http":
        return Unresolved(f'{key} has no address named "{ref.address}"', "there is http")
    return hub.target()


def _other_namespace(world: World, key: Key) -> str:
    others = [k.namespace for k in world.hubs if (k.group, k.kind, k.name) == (key.group, key.kind, key.name)]
    return f"there is one in namespace {others[0]}" if others else ""


def _service_url(world: World, key: Key) -> str | Unresolved:
    found = world.resources.get(key)
    if found is not None and found.is_valid:
        url = found.metadata.annotations.get(SERVICE_URL)
        if url:
            return url
        if found.metadata.annotations.get(SERVICE_BUILTIN):
            return _builtin(world, key)
    listed = world.services.get((key.namespace, key.name)) or world.services.get(("", key.name))
    if listed:
        return listed
    there = "has no URL here" if found is not None else "does not exist"
    return Unresolved(f"Service {key.namespace}/{key.name} {there}", _how_to_give_a_url(world, key))


def _builtin(world: World, key: Key) -> str | Unresolved:
    if not world.options.admin_url:
        return Unresolved(f"Service {key.namespace}/{key.name} is built in, and the admin address is off")
    return f"{world.options.admin_url}/event-display/{key.namespace}/{key.name}"


def _how_to_give_a_url(world: World, key: Key) -> str:
    cluster = f"{key.name}.{key.namespace}.svc.{world.options.cluster_domain}"
    return (
        f"on a cluster it would be http://{cluster}; here give the Service the annotation {SERVICE_URL}: http://..., "
        f"or list {key.name}.{key.namespace} in a ConfigMap named {SERVICE_TABLE}"
    )
