"""messaging.knit.dev: RedisStreamChannel; sinks.knative.dev: RedisStreamSink. Pure. Eventing reference §6.6, §9.5.

Where a Redis is says the text of `spec.address`:

`redis://` or `rediss://` (TLS) with user, password and database, as redis-cli takes it; `+sentinel` and `+cluster` behind the
scheme name several hosts: `redis+sentinel://h1:26379,h2:26379/SERVICE/DB`, `rediss+cluster://h1:6379,h2:6379`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from pydantic import Field

from mesh.resources.duck import Flaw, Spec
from mesh.resources.duration import hint_for, parse_duration
from mesh.resources.messaging import BackingChannel, BackingSpec
from mesh.resources.meta import Resource

SINKS = "sinks.knative.dev"

_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}
SHAPES = "redis://HOST:PORT/DB, redis+sentinel://HOST:PORT,…/SERVICE/DB or redis+cluster://HOST:PORT,…; rediss for TLS"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """mode: `single`, `sentinel` (hosts are the sentinels, service the master's name) or `cluster`."""

    mode: str
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    service: str = ""

    def shown(self) -> str:
        """For people: without user and password."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        mode = "" if self.mode == "single" else f"+{self.mode}"
        service = f"/{self.service}" if self.service else ""
        return f"redis{'s' if self.tls else ''}{mode}://{hosts}{service}" + (
            f"/{self.database}" if self.database else ""
        )


def parse_address(text: str) -> RedisAddress:
    """Take an address apart.

    Raises:
        ValueError: what is wrong with it, without its password.
    """
    scheme, separator, rest = text.partition("://")
    base, _, mode = scheme.lower().partition("+")
    mode = mode or "single"
    if not separator or base not in ("redis", "rediss") or mode not in _PORTS:
        raise ValueError(f"expected {SHAPES}")
    place, _, path = rest.partition("?")[0].partition("/")
    user, at, names = place.rpartition("@")
    username, _, password = user.partition(":") if at else ("", "", "")
    hosts = tuple(_host(name, _PORTS[mode]) for name in names.split(","))
    if mode == "single" and len(hosts) > 1:
        raise ValueError("several hosts need redis+sentinel:// or redis+cluster://")
    parts = [part for part in path.split("/") if part]
    service = unquote(parts.pop(0)) if mode == "sentinel" and parts else ""
    if mode == "sentinel" and not service:
        raise ValueError("the name of the master is missing: redis+sentinel://HOST:PORT/SERVICE")
    if len(parts) > 1 or (parts and not parts[0].isdecimal()):
        raise ValueError(f'expected a database number after the host, got "{"/".join(parts)}"')
    database = int(parts[0]) if parts else 0
    if mode == "cluster" and database:
        raise ValueError("a cluster has database 0 only")
    return RedisAddress(mode, hosts, base == "rediss", unquote(username), unquote(password), database, service)


def _host(name: str, port: int) -> tuple[str, int]:
    host, colon, number = name.rpartition(":")
    if not colon or "]" in number:
        host, number = name, str(port)
    host = host.strip("[]")
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise ValueError(f'"{name}" is no HOST:PORT')
    return host, int(number)


class SecretName(Spec):
    """The name of a Secret in the namespace of who refers to it."""

    name: str = ""


class SecretRef(Spec):
    ref: SecretName = SecretName()


class Auth(Spec):
    """`auth.secret.ref.name`, written as Knative writes it for Kafka. Keys: user, password, ca.crt, user.crt, user.key."""

    secret: SecretRef = SecretRef()

    def flaws(self, path: str) -> Iterator[Flaw]:
        """A reference without a name."""
        if not self.secret.ref.name:
            yield Flaw(f"{path}.secret.ref.name", "missing field")


def address_flaws(address: str, path: str) -> Iterator[Flaw]:
    """An address that cannot be read."""
    try:
        parse_address(address)
    except ValueError as error:
        yield Flaw(path, str(error))


class RedisStreamChannelSpec(BackingSpec):
    """address "": the process's own (KNIT_REDIS_ADDRESS). maxLength: events that may wait for a subscription.

    retention: how long every event can be read again by time, settled or not. waitReplicas: answered when so many have it.
    """

    address: str = ""
    auth: Auth | None = None
    retention: str = ""
    maxLength: int = Field(default=0, ge=0)  # noqa: N815  # camel case as all of Kubernetes
    waitReplicas: int = Field(default=0, ge=0)  # noqa: N815

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        yield from super().flaws(path)
        if self.address:
            yield from address_flaws(self.address, f"{path}.address")
        if self.auth is not None:
            yield from self.auth.flaws(f"{path}.auth")
        if self.retention:
            yield from _retention_flaws(self.retention, f"{path}.retention")


def _retention_flaws(text: str, path: str) -> Iterator[Flaw]:
    try:
        if parse_duration(text) < 0:
            yield Flaw(path, f'invalid value "{text}": it must not be negative')
    except ValueError as error:
        yield Flaw(path, str(error), hint_for(text))


@dataclass(frozen=True, kw_only=True)
class RedisStreamChannel(BackingChannel):
    """spec is None where it could not be read."""

    spec: RedisStreamChannelSpec | None


class DialOptions(Spec):
    """As in Knative's RedisStreamSink. skipVerify is taken and not followed: a certificate is always checked."""

    password: SecretName | None = None
    useTLS: bool = False  # noqa: N815  # Knative's names
    skipVerify: bool = False  # noqa: N815
    cert: str = ""
    key: str = ""
    caCert: str = ""  # noqa: N815


class RedisStreamSinkSpec(Spec):
    """The data of an event is a JSON array, whose items become the fields and values of an entry."""

    address: str = ""
    stream: str = ""
    dialOptions: DialOptions | None = None  # noqa: N815
    auth: Auth | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if not self.stream:
            yield Flaw(f"{path}.stream", "missing field")
        if not self.address:
            yield Flaw(f"{path}.address", "missing field")
        else:
            yield from address_flaws(self.address, f"{path}.address")
        if self.auth is not None:
            yield from self.auth.flaws(f"{path}.auth")


@dataclass(frozen=True, kw_only=True)
class RedisStreamSink(Resource):
    """spec is None where it could not be read."""

    spec: RedisStreamSinkSpec | None
