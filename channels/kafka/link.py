"""How a cluster is reached: the options of a topic → arguments for aiokafka's clients. The Secret format of Knative's Kafka."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider

from mesh.errors import NotConnectedError

Options = Mapping[str, str | float | bool]
PREFIX = "auth."
"""Options that begin so are the keys of the Secret."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a cluster is and who we are there. Two topics with equal links share their connections.

    secret: keys as in Knative's Secret (`protocol`, `sasl.mechanism`, `user`, `password`, `ca.crt`, `user.crt`, `user.key`,
    `user.skip`, `token`); never shown.
    """

    bootstrap: str
    secret: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, options: Options) -> Link:
        secret = sorted((k.removeprefix(PREFIX), str(v)) for k, v in options.items() if k.startswith(PREFIX))
        return cls(str(options.get("bootstrap", "")), tuple(secret))

    def arguments(self) -> dict[str, Any]:
        """For AIOKafkaClient and AIOKafkaConsumer.

        Raises:
            NotConnectedError: a certificate or key cannot be read.
        """
        secret = dict(self.secret)
        protocol = secret.get("protocol") or "PLAINTEXT"
        found: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",") if server.strip()],
            "security_protocol": protocol,
        }
        if protocol.endswith("SSL"):
            found["ssl_context"] = _ssl_context(secret, self.bootstrap)
        if protocol.startswith("SASL_"):
            mechanism = secret.get("sasl.mechanism") or "PLAIN"
            found["sasl_mechanism"] = mechanism
            if mechanism == "OAUTHBEARER":
                found["sasl_oauth_token_provider"] = _Token(secret.get("token", ""))
            else:
                found["sasl_plain_username"] = secret.get("user", "")
                found["sasl_plain_password"] = secret.get("password", "")
        return found


def _ssl_context(secret: Mapping[str, str], bootstrap: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=secret.get("ca.crt") or None)
        if secret.get("user.crt") and secret.get("user.key") and secret.get("user.skip") != "true":
            _load_key(context, secret["user.crt"], secret["user.key"])
    except (ssl.SSLError, ValueError) as exc:
        raise NotConnectedError(f"{bootstrap}: a certificate or key of the Secret cannot be read: {exc}") from exc
    return context


def _load_key(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL reads keys from files only: a private one that is gone at once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "client.pem"
        path.touch(mode=0o600)
        path.write_text(f"{key}\n{certificate}\n")
        context.load_cert_chain(path)


class _Token(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """A token from the Secret: a changed Secret brings a new one, and with it new connections."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def token(self) -> str:
        return self._token


async def forever(
    work: Callable[[], Awaitable[None]], *, report: Callable[[str], None], first_s: float = 0.1, longest_s: float = 5.0
) -> None:
    """Run `work` again and again while the cluster is gone, with pauses that double. Ends when it returns, or is cancelled."""
    pause = first_s
    while True:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await work()
        except NotConnectedError as exc:
            report(str(exc))
        else:
            return
        if loop.time() - begun > longest_s:
            pause = first_s
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest_s)
