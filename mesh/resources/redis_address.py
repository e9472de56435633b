"""Where a Redis is: the text of `spec.address`, taken apart. Pure, and light: workers read it too.

`redis://` or `rediss://` (TLS) with user, password and database, as redis-cli takes it; `+sentinel` and `+cluster` behind the
scheme name several hosts: `redis+sentinel://h1:26379,h2:26379/SERVICE/DB`, `rediss+cluster://h1:6379,h2:6379`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

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
