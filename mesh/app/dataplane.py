"""A worker: the data plane of one process. `python -m mesh.app.dataplane FD INDEX`, started by the parent.

It listens on the shared port, keeps its own store, sends to subscribers, and does what the parent tells it over the pipe.
It never reads resources and never waits for the parent: with the parent's mind elsewhere the last plan runs on. When the
parent is gone (the pipe ends) it stops.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import zlib
from collections.abc import Mapping
from itertools import islice
from typing import Any

from channels.api import Channel, SubscriptionSpec, TopicHealth, TopicSpec
from channels.registry import Site, backends
from mesh.app.options import WorkerConfig
from mesh.broker.dispatch import Dispatch
from mesh.broker.egress import Egress
from mesh.broker.ingress import Ingress
from mesh.broker.router import Route, Router
from mesh.errors import KnitError
from mesh.events.template import Learner
from mesh.filters.dialects import CompiledFilter, compile_filters
from mesh.http.client import Endpoint, Sender
from mesh.http.server import HttpServer
from mesh.plan.diff import diff
from mesh.plan.model import Plan, Topic
from mesh.runtime.clock import SystemClock
from mesh.runtime.pipe import Pipe
from mesh.telemetry.signals import Signals
from mesh.telemetry.tracing import open_tracing

_LIVE_PERIOD_S = 0.25
_LIVE_LINES = 8


class DataPlane:
    """Everything of one worker, joined."""

    def __init__(self, config: WorkerConfig, pipe: Pipe) -> None:
        self._config = config
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        clock = self._clock = SystemClock()
        settings = config.settings
        self._signals = Signals(
            clock.now_ns,
            story_events=settings.run.story_events,
            max_event_types=settings.run.max_event_types,
            log=self._log,
            tag_event_types=config.tag_event_types,
        )
        self._sender = Sender(settings.http, clock, self._loop)
        self._router = Router(clock.now_ns, self._loop.call_soon)
        self._tracing = open_tracing(os.environ)
        self._ingress = Ingress(self._router, self._signals, clock.now_ns, tracing=self._tracing)
        self._server = HttpServer(
            self._ingress, settings.http, clock, learner=Learner(), on_refused=self._refused_by_http
        )
        self._inner = HttpServer(self._ingress, settings.http, clock)
        self._inner_port = 0
        self._channels: dict[str, Channel] = {}
        self._dispatch = Dispatch(
            sender=self._sender,
            router=self._router,
            signals=self._signals,
            now_ns=clock.now_ns,
            keeps_dead_letters=self._keeps_dead_letters,
        )
        self._topics: dict[str, Topic] = {}
        self._backend_of: dict[str, str] = {}
        self._peers: Mapping[int, int] = {}
        self._plan = Plan()
        self._known: frozenset[str] = frozenset()
        self._filters: dict[str, list[tuple[str, CompiledFilter]]] = {}
        self._seen_ns = clock.now_ns()
        self._draining = False
        self._listening = False
        self._health: dict[str, TopicHealth] = {}

    async def start(self, plan: Plan, known: frozenset[str]) -> None:
        """Open the stores, take the plan, then listen. Raises StoreError, OSError."""
        config = self._config
        site = Site(
            settings=config.settings,
            clock=self._clock,
            path=config.data_dir / f"worker-{config.index}",
            share=(config.index, config.count),
            adopt=config.adopt,
            on_trouble=lambda what, fields: self._log("error", what.replace(" ", "_"), fields),
        )
        for name, make in backends().items():
            self._channels[name] = channel = make(site)
            await channel.start()
        self._inner_port = await self._inner.listen("127.0.0.1", 0)
        self.apply(plan, known)
        self._forget_unknown()

    async def listen(self) -> None:
        """Begin to take requests; does nothing where it has begun. Called once the other workers' addresses are known."""
        if self._listening or self._draining:
            return
        self._listening = True
        await self._server.listen(self._config.host, self._config.port, reuse_port=True)
        gc.collect()
        gc.freeze()
        if self._config.live:
            self._loop.call_later(_LIVE_PERIOD_S, self._live)

    # The plan.

    def apply(self, plan: Plan, known: frozenset[str]) -> None:
        """Make what runs equal to the plan. `known` are the keys of all topics and subscriptions that exist as resources, those
        that are broken at the moment included: what is not among them was deleted, and its position is forgotten."""
        deleted = self._known - known
        change = diff(Plan(topics=tuple(self._topics.values())), plan)
        self._plan, self._known = plan, known
        for key in change.stop_topics:
            self._drop_topic(self._topics[key])
        routes: dict[str, Route] = {}
        for topic in plan.topics:
            channel = self._channels[topic.backend]
            routes[topic.key] = Route(topic, channel, self._forward(topic))
        self._router.replace(routes)
        for topic in (*change.start_topics, *change.changed_topics):
            self._take_topic(topic)
        self._ingress.replace(plan.ingresses)
        if deleted:
            self._forget_deleted(deleted)

    def _take_topic(self, topic: Topic) -> None:
        channel = self._channels[topic.backend]
        options = {**topic.options, "whole": self._is_pinned(topic)}
        channel.open_topic(TopicSpec(topic.key, options))
        old = self._topics.get(topic.key)
        keys = {egress.key for egress in topic.egresses}
        for egress in old.egresses if old is not None else ():
            if egress.key not in keys:
                self._drop_egress(topic, egress.key)
        before = {egress.key: egress for egress in old.egresses} if old is not None else {}
        for spec in topic.egresses:
            if before.get(spec.key) == spec:
                continue
            at_work = Egress(
                spec,
                self._dispatch,
                sender=self._sender,
                signals=self._signals,
                now_ns=self._clock.now_ns,
                tracing=self._tracing,
            )
            channel.subscribe(
                topic.key,
                SubscriptionSpec(spec.key, spec.filters, parallelism=spec.parallelism, options=spec.options),
                at_work.deliver,
            )
            self._backend_of[spec.key] = topic.backend
        self._topics[topic.key] = topic
        self._filters[topic.key] = [(spec.key, compile_filters(spec.filters)) for spec in topic.egresses]

    def _drop_egress(self, topic: Topic, key: str) -> None:
        forget = key not in self._known
        self._channels[topic.backend].unsubscribe(topic.key, key, forget=forget)
        if forget:
            self._signals.forget(key)

    def _drop_topic(self, topic: Topic) -> None:
        for egress in topic.egresses:
            self._drop_egress(topic, egress.key)
        if topic.key not in self._known:
            self._channels[topic.backend].close_topic(topic.key)
            self._signals.forget_topic(topic.key)
        del self._topics[topic.key]
        self._filters.pop(topic.key, None)

    def _forget_unknown(self) -> None:
        """What the store still holds of topics and subscriptions that were deleted while nothing ran."""
        log = self._channels["log"]
        for state in log.states():
            if state.topic not in self._known:
                log.close_topic(state.topic)
            elif state.key not in self._known:
                log.unsubscribe(state.topic, state.key, forget=True)

    def _forget_deleted(self, deleted: frozenset[str]) -> None:
        """What was deleted while it was not part of the plan, as a Trigger without its Broker is not: nothing of it is left."""
        for channel in self._channels.values():
            for state in channel.states():
                if state.topic in deleted:
                    channel.close_topic(state.topic)
                elif state.key in deleted:
                    channel.unsubscribe(state.topic, state.key, forget=True)
        for key in deleted:
            self._signals.forget(key)
            self._signals.forget_topic(key)

    def _is_pinned(self, topic: Topic) -> bool:
        """A topic with a limit that cannot be divided among the workers is served whole by one of them: order, and small
        limits, then hold for the mesh and not only for a worker."""
        count = self._config.count
        if topic.backend == "kafka":  # partitions are divided among the workers, and order is theirs
            return False
        return count > 1 and any(egress.parallelism < count for egress in topic.egresses)

    def _forward(self, topic: Topic) -> Endpoint | None:
        if not self._is_pinned(topic):
            return None
        owner = zlib.crc32(topic.key.encode()) % self._config.count
        if owner == self._config.index:
            return None
        door = next((door for door in self._plan_doors(topic.key)), "/")
        return self._sender.endpoint(f"http://127.0.0.1:{self._peers.get(owner, 9)}{door}")

    def _plan_doors(self, topic: str) -> list[str]:
        return [path for ingress in self._plan.ingresses if ingress.topic == topic for path in ingress.paths]

    def _keeps_dead_letters(self, egress: str) -> bool:
        backend = self._backend_of.get(egress)
        return backend is not None and self._channels[backend].capabilities.keeps_dead_letters

    # What the parent asks and tells.

    async def serve(self) -> None:
        """Do what the parent says, until it says drain or is gone. Takes requests from the first plan on."""
        while (message := await self._pipe.receive()) is not None:
            match message["op"]:
                case "plan":
                    self._peers = message["peers"]
                    self.apply(message["plan"], message["known"])
                    await self.listen()
                    self._pipe.send({"op": "applied", "version": message["version"]})
                case "ask":
                    self._pipe.send({"op": "answer", "id": message["id"], "value": self._answer(message)})
                case "drain":
                    await self.drain()
                    return
                case _:
                    pass
        await self.stop()

    def _answer(self, message: dict[str, Any]) -> object:
        arguments = message["arguments"]
        match message["what"]:
            case "metrics":
                return self._metrics()
            case "story":
                self._signals.flush()
                return self._signals.story.tell(arguments["event_id"], arguments["source"], self._explain)
            case "deadletters":
                return [
                    letter for channel in self._channels.values() for letter in islice(channel.dead_letters(), 1000)
                ]
            case "states":
                return [state for channel in self._channels.values() for state in channel.states()]
            case _:
                return None

    def _metrics(self) -> object:
        subscriptions = [
            (s.topic, s.key, s.backlog, s.in_flight, s.retrying, s.oldest_ns)
            for channel in self._channels.values()
            for s in channel.states()
        ]
        gauges = {
            "open_connections": float(self._server.stats.connections),
            "story_events": float(self._signals.story.size),
        }
        return self._signals.snapshot(subscriptions=subscriptions, gauges=gauges)

    def _explain(self, topic: str, attributes: Mapping[str, str]) -> Mapping[str, str]:
        return {key: compiled.explain(attributes) for key, compiled in self._filters.get(topic, ())}

    def _tell_health(self) -> None:
        """How the backends stand with their servers, when it changes."""
        health = {key: each for channel in self._channels.values() for key, each in channel.health().items()}
        if health != self._health:
            self._health = health
            self._pipe.send({"op": "health", "health": health})

    def _live(self) -> None:
        self._tell_health()
        now = self._clock.now_ns()
        self._signals.flush()
        lines = self._signals.story.since(self._seen_ns, _LIVE_LINES)
        self._seen_ns = now
        if lines:
            self._pipe.send({"op": "live", "lines": lines, "more": len(lines) == _LIVE_LINES})
        if not self._draining:
            self._loop.call_later(_LIVE_PERIOD_S, self._live)

    def _refused_by_http(self, code: str, status: int) -> None:
        self._signals.refused(why=code, status=status, reason=code)

    def _log(self, level: str, what: str, fields: Mapping[str, object]) -> None:
        self._pipe.send({"op": "log", "level": level, "what": what, "fields": dict(fields)})

    # The end.

    async def drain(self) -> None:
        """Refuse new connections, settle what is in hand (bounded), keep the rest on disk, close."""
        self._draining = True
        limit = self._config.settings.run.drain_s
        self._server.stop_accepting()
        self._inner.stop_accepting()
        try:
            async with asyncio.timeout(limit):
                await self._server.drained()
                for channel in self._channels.values():
                    await channel.drain()
        except TimeoutError:
            self._log("warning", "drain_limit_reached", {"limit_s": limit})
        await self.stop()

    async def stop(self) -> None:
        self._draining = True
        await self._server.aclose()
        await self._inner.aclose()
        await self._sender.aclose()
        for channel in self._channels.values():
            await channel.aclose()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
        await self._pipe.flush()

    @property
    def facts(self) -> dict[str, Any]:
        return {"inner_port": self._inner_port, "pid": os.getpid()}


async def _main(fd: int) -> int:
    pipe = await Pipe.open(socket.socket(fileno=fd))
    hello = await pipe.receive()
    if hello is None:
        return 0
    plane = DataPlane(hello["config"], pipe)
    try:
        await plane.start(hello["plan"], hello["known"])
    except (KnitError, OSError) as exc:
        pipe.send({"op": "failed", "why": str(exc)})
        await pipe.flush()
        return 1
    pipe.send({"op": "ready", **plane.facts})
    await plane.serve()
    return 0


def main() -> None:
    """Entry of the worker process. Ctrl-C and SIGTERM are the parent's to hear: it tells us to drain."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        import uvloop  # noqa: PLC0415  # where there is none (Windows), asyncio's own loop does

        run: Any = uvloop.run
    except ImportError:
        run = asyncio.run
    sys.exit(run(_main(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
