"""messaging.knit.dev: RedisStreamChannel; sinks.knative.dev: RedisStreamSink. Pure. Eventing reference §6.6, §9.5."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from mesh.resources.duck import Flaw, Spec
from mesh.resources.duration import hint_for, parse_duration
from mesh.resources.messaging import BackingChannel, BackingSpec
from mesh.resources.meta import Resource
from mesh.resources.redis_address import parse_address

SINKS = "sinks.knative.dev"


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
