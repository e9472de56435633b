"""The lanes of one process: topics with the same access share one, in a cluster each topic has its own."""

from __future__ import annotations

from channels.redis_streams.keys import Names
from channels.redis_streams.lane import Lane, Trouble
from channels.redis_streams.locate import Access
from mesh.runtime.clock import Clock
from mesh.settings import RedisSettings


class Lanes:
    """Made when first asked for; ended when nobody uses them any more."""

    def __init__(self, *, settings: RedisSettings, clock: Clock, on_trouble: Trouble) -> None:
        self._settings = settings
        self._clock = clock
        self._on_trouble = on_trouble
        self._lanes: dict[tuple[Access, str], Lane] = {}

    def get(self, topic: str, access: Access) -> Lane:
        """The lane for this topic; it begins to connect at once."""
        key = Names(topic).prefix
        place = (access, key if access.address.mode == "cluster" else "")
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = Lane(
                access, key, settings=self._settings, clock=self._clock, on_trouble=self._on_trouble
            )
            lane.open()
        return lane

    def all(self) -> list[Lane]:
        return list(self._lanes.values())

    def close_unused(self) -> None:
        """End those that nobody uses and that owe nothing."""
        for place, lane in list(self._lanes.items()):
            if not lane.guests and (lane.is_idle or not lane.is_up):
                del self._lanes[place]
                lane.kill()
