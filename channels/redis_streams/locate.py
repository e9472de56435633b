"""Where to connect to, and as whom: one server, the master that the sentinels name, or the cluster's node of a key.

Sentinels and the cluster's slots are asked through redis-py.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mesh.resources.redis_address import RedisAddress, parse_address


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that makes one connection another one; the key of a lane."""

    address: RedisAddress
    ca: str = ""
    certificate: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    wait_replicas: int = 0


def access_of(options: Mapping[str, str | float | bool], default_address: str) -> Access:
    """The access that a topic's options describe. Raises ValueError."""
    address = parse_address(str(options.get("address") or default_address))
    if options.get("username"):
        address = replace(address, username=str(options["username"]))
    if options.get("password"):
        address = replace(address, password=str(options["password"]))
    return Access(
        address,
        str(options.get("ca") or ""),
        str(options.get("certificate") or ""),
        str(options.get("private_key") or ""),
        int(options.get("wait_replicas") or 0),
    )


def tls_of(access: Access) -> ssl.SSLContext | None:
    """The TLS context, None without TLS. Raises ssl.SSLError, ValueError where a certificate cannot be read."""
    if not access.address.tls:
        return None
    context = ssl.create_default_context(cadata=access.ca or None)
    if access.certificate:
        with tempfile.TemporaryDirectory() as folder:
            # The ssl module reads certificate and key from files only.
            chain = Path(folder) / "chain.pem"
            chain.touch(mode=0o600)
            chain.write_text(f"{access.certificate}\n{access.private_key}\n")
            context.load_cert_chain(chain)
    return context


async def locate(access: Access, key: str, *, timeout_s: float) -> tuple[str, int]:
    """Host and port of who answers for this key now. Raises OSError where nobody can tell."""
    address = access.address
    if address.mode == "single":
        return address.hosts[0]
    from redis.exceptions import RedisError  # noqa: PLC0415  # a worker that only knows one server needs none of it

    try:
        if address.mode == "sentinel":
            return await _master(address, timeout_s)
        return await _node(access, key, timeout_s)
    except RedisError as exc:
        raise OSError(str(exc)) from exc


async def _master(address: RedisAddress, timeout_s: float) -> tuple[str, int]:
    from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415  # as above

    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py has no annotation there
        address.hosts, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
    )
    try:
        host, port = await sentinel.discover_master(address.service)
        return str(host), int(port)
    finally:
        for client in sentinel.sentinels:
            await client.aclose()


async def _node(access: Access, key: str, timeout_s: float) -> tuple[str, int]:
    from redis.asyncio import RedisCluster  # noqa: PLC0415  # as above
    from redis.asyncio.cluster import ClusterNode  # noqa: PLC0415

    address = access.address
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    cluster = RedisCluster(
        startup_nodes=nodes, username=address.username or None, password=address.password or None,
        socket_timeout=timeout_s, socket_connect_timeout=timeout_s, ssl=address.tls,
        ssl_ca_data=access.ca or None,
    )  # fmt: skip
    try:
        cluster = await cluster.initialize()
        node = cluster.get_node_from_key(key)
        if node is None:
            raise OSError("no node of the cluster has the slot of this topic")
        return str(node.host), int(node.port)
    finally:
        await cluster.aclose()
