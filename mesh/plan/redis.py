"""RedisStreamChannel and RedisStreamSink → options of a topic. Pure. Eventing reference §6.6, §9.5.

A Secret is looked for in the namespace of the object it is for; behind a Broker that is the Broker's.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.plan.world import World
from mesh.resources.core import Secret
from mesh.resources.duration import parse_duration
from mesh.resources.meta import Key
from mesh.resources.problem import did_you_mean
from mesh.resources.redis import Auth, RedisStreamChannelSpec, RedisStreamSinkSpec

Options = dict[str, str | float | bool]
_SECRET_KEYS = {
    "user": "username",
    "password": "password",
    "ca.crt": "ca",
    "user.crt": "certificate",
    "user.key": "private_key",
}


class UnusableError(Exception):
    """What is asked for cannot be had; the text says why. Stays inside this package."""


def channel_options(world: World, namespace: str, spec: RedisStreamChannelSpec) -> Options:
    """What `channels/redis_streams` wants to know.

    Raises:
        UnusableError: the Secret is missing or has nothing to offer.
    """
    options: Options = {}
    if spec.address:
        options["address"] = spec.address
    options |= _login(world, namespace, spec.auth)
    if spec.retention and parse_duration(spec.retention) > 0:
        options["retention_s"] = parse_duration(spec.retention)
    if spec.maxLength:
        options["max_length"] = float(spec.maxLength)
    if spec.waitReplicas:
        options["wait_replicas"] = float(spec.waitReplicas)
    return options


def sink_options(world: World, namespace: str, spec: RedisStreamSinkSpec) -> Options:
    """The same for a sink. Raises UnusableError."""
    dial = spec.dialOptions
    address = spec.address
    options: Options = {"stream": spec.stream}
    if dial is not None:
        if dial.useTLS and address.startswith("redis:"):
            address = f"rediss:{address.removeprefix('redis:')}"
        said = {"ca": dial.caCert, "certificate": dial.cert, "private_key": dial.key}
        options |= {name: value for name, value in said.items() if value}
        if dial.password is not None and dial.password.name:
            data = _secret(world, namespace, dial.password.name)
            options["password"] = data.get("password", "")
    return {**options, "address": address, **_login(world, namespace, spec.auth)}


def _login(world: World, namespace: str, auth: Auth | None) -> Options:
    if auth is None:
        return {}
    name = auth.secret.ref.name
    data = _secret(world, namespace, name)
    found: Options = {option: data[key] for key, option in _SECRET_KEYS.items() if data.get(key)}
    if not found:
        raise UnusableError(f"Secret {namespace}/{name} has none of the keys {', '.join(_SECRET_KEYS)}")
    if ("certificate" in found) != ("private_key" in found):
        raise UnusableError(f"Secret {namespace}/{name} has only one of user.crt and user.key")
    return found


def _secret(world: World, namespace: str, name: str) -> Mapping[str, str]:
    found = world.resources.get(Key("", "Secret", namespace, name))
    if not isinstance(found, Secret) or not found.is_valid:
        hint = did_you_mean(name, world.names_of("Secret", namespace))
        raise UnusableError(f"Secret {namespace}/{name} does not exist" + (f" ({hint})" if hint else ""))
    return found.data
