"""Dead letters, read with redis-py and without the loop: the Protocol's calls are plain, and this is asked by people only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from channels.api import DeadLetter
from channels.redis_streams.keys import Names, order, read_dead
from channels.redis_streams.lane import Lane
from mesh.errors import NotConnectedError

if TYPE_CHECKING:
    from redis import Redis

_PAGE = 64
_LIMIT_S = 1.0
_Page = list[tuple[bytes, dict[bytes, bytes]]]


@contextmanager
def _client(lane: Lane) -> Iterator[Redis]:
    """Raises NotConnectedError when Redis does not answer what is asked within."""
    from redis import Redis  # noqa: PLC0415  # a worker that is never asked for dead letters needs none of it
    from redis.exceptions import RedisError  # noqa: PLC0415

    access, (host, port) = lane.access, lane.peer
    address = access.address
    options: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if address.tls:
            options = {"ssl": True, "ssl_ca_data": access.ca or None}
        if access.certificate:
            chain = Path(folder) / "chain.pem"
            chain.touch(mode=0o600)
            chain.write_text(f"{access.certificate}\n{access.private_key}\n")
            options |= {"ssl_certfile": str(chain), "ssl_keyfile": str(chain)}
        client = Redis(
            host, port, db=address.database, username=address.username or None, password=address.password or None,
            socket_timeout=_LIMIT_S, socket_connect_timeout=_LIMIT_S, **options,
        )  # fmt: skip
        try:
            yield client
        except RedisError as exc:
            raise NotConnectedError(str(exc)) from exc
        finally:
            client.close()


def dead_letters(lane: Lane, topic: str) -> Iterator[DeadLetter]:
    """Newest first, a page at a time. Ends early where Redis does not answer."""
    name = Names(topic).dead
    before = "+"
    try:
        with _client(lane) as client:
            while page := cast("_Page", client.xrevrange(name, max=before, min="-", count=_PAGE)):
                for entry, fields in page:
                    letter = _letter(topic, entry, fields)
                    if letter is not None:
                        yield letter
                before = f"({page[-1][0].decode()}"
    except NotConnectedError:
        return


def _letter(topic: str, entry: bytes, fields: dict[bytes, bytes]) -> DeadLetter | None:
    try:
        subscription, burial, event, arrived_ns = read_dead([part for pair in fields.items() for part in pair])
    except (ValueError, KeyError):
        return None
    buried_ns = max(order(entry)[0] * 1_000_000, arrived_ns)
    return DeadLetter(f"{topic}#{entry.decode()}", subscription, event, burial, arrived_ns, buried_ns)


def remove(lane: Lane, name: str, entry: str) -> bool:
    """Whether there was such a dead letter."""
    try:
        with _client(lane) as client:
            return bool(client.xdel(name, entry))
    except NotConnectedError:
        return False
