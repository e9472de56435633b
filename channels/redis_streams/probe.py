"""Whether a topic's Redis can be used, asked once: `knit check --connect`."""

from __future__ import annotations

from channels.api import TopicHealth, TopicSpec
from channels.redis_streams.lane import Lane
from channels.redis_streams.locate import access_of
from mesh.runtime.clock import Clock
from mesh.settings import RedisSettings


async def probe(spec: TopicSpec, settings: RedisSettings, clock: Clock) -> TopicHealth:
    """Connect, log in, look at the settings, and end."""
    try:
        access = access_of(spec.options, settings.address)
    except ValueError as exc:
        return TopicHealth(is_up=False, reason="AddressNotValid", message=str(exc))
    lane = Lane(access, f"knit:{{{spec.key}}}:", settings=settings, clock=clock, on_trouble=lambda _what, _fields: None)
    lane.open()
    try:
        await lane.tried()
        return lane.health()
    finally:
        lane.kill()
