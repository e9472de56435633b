"""Where an event goes inside this process: topic → channel, or the worker that owns the topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from channels.api import Channel, Done, Refusal
from mesh.delivery.outcome import Answer, Outcome
from mesh.events.event import Event
from mesh.events.http import at_broker
from mesh.http.client import Endpoint
from mesh.plan.model import Topic
from mesh.telemetry.story import timestamp

FORWARDED = b"knit-forwarded: 1\r\n"
"""Marks a request from another worker: it is handled here, whoever owns the topic, so that it cannot go in circles."""


@dataclass(frozen=True, slots=True)
class Route:
    """A topic of the plan in this process. `forward`: the topic is served by another worker, reached there."""

    topic: Topic
    channel: Channel
    forward: Endpoint | None = None


class Router:
    """The table of routes, replaced as a whole when the plan changes."""

    def __init__(self, now_ns: Callable[[], int], call_soon: Callable[..., object]) -> None:
        self._now_ns = now_ns
        self._call_soon = call_soon
        self._routes: Mapping[str, Route] = {}

    def replace(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes

    def route(self, topic: str) -> Route | None:
        return self._routes.get(topic)

    def publish(self, topic: str, event: Event, done: Done) -> None:
        """Hand an event to a topic from inside: a reply, a dead letter, a subscriber that is a Broker or Channel.

        Always through the loop, so that topics that feed each other can never recurse. `done` is always called.
        """
        self._call_soon(self._publish, topic, event, done)

    def _publish(self, topic: str, event: Event, done: Done) -> None:
        route = self._routes.get(topic)
        if route is None:
            done(Refusal("unknown", f"{topic} does not exist any more"))
        elif route.forward is not None:
            ttl = b"ce-knativebrokerttl: %d\r\n" % event.ttl if event.ttl >= 0 else b""
            route.forward.send(FORWARDED, event.block + ttl + event.passed, event.body, lambda o: done(_refusal(o)))
        elif not route.topic.is_broker:
            route.channel.publish(topic, (event,), done)
        else:
            arrived = at_broker(event, timestamp(self._now_ns()))
            if arrived.ttl <= 0:
                done(Refusal("loop", "knativebrokerttl is used up: the event has gone round too often"))
            else:
                route.channel.publish(topic, (arrived,), done)


def _refusal(outcome: Outcome) -> Refusal | None:
    if isinstance(outcome, Answer):
        if 200 <= outcome.status < 300:
            return None
        kind = {429: "full", 404: "unknown", 500: "failed", 400: "loop"}.get(outcome.status, "unavailable")
        return Refusal(kind, outcome.body[:500].decode("utf-8", "replace"))
    return Refusal("unavailable", outcome.why)
