"""The parent's mind: world → plan → workers, and back: what they count and tell → the admin API and the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from channels.api import TopicHealth
from channels.registry import backends
from mesh import __version__
from mesh.app.options import DATAPLANE, RunOptions, WorkerConfig
from mesh.app.screen import Screen
from mesh.control.directory import DirectoryWorld, FileText
from mesh.control.instances import Instance, announce
from mesh.control.memory import FILE_NAME, Memory, write_durably
from mesh.control.reconcile import Reconciler, Snapshot
from mesh.delivery.outcome import Answer, Outcome
from mesh.errors import KnitError, NotConnectedError, SettingsError
from mesh.http.client import Sender
from mesh.plan.check import own_problems
from mesh.plan.compile import compile_plan
from mesh.plan.options import CompileOptions
from mesh.runtime.clock import SystemClock
from mesh.runtime.workers import Worker, WorkerPool
from mesh.telemetry.story import timestamp
from mesh.telemetry.totals import Totals
from sources.api import Emission
from sources.cron import check_schedule
from sources.runner import SourceRunner

DEFAULT_WORLD = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: %s}
"""
Started = Sequence[tuple["subprocess.Popen[bytes]", socket.socket]]
ServeAdmin = Callable[["Mesh", str, int], AbstractAsyncContextManager[int]]


class Stop(Exception):  # noqa: N818 - it ends the task group, and is no error
    """It has drained: everything that still runs is cancelled."""


async def serve(
    options: RunOptions, count: int, listener: socket.socket, *, started: Started, serve_admin: ServeAdmin
) -> int:
    """Run until a signal comes. Returns the exit code. serve_admin: opens the admin API of this mesh on a host and port.

    Raises:
        SettingsError, StoreError: it cannot start; nothing is left running.
    """
    mesh = Mesh(options, count, listener)
    try:
        await mesh.run(started, serve_admin)
    except* KnitError as failed:
        raise _first_leaf(failed) from None
    except* Stop:
        pass
    return 0


def _first_leaf(group: BaseExceptionGroup[KnitError]) -> KnitError:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


class Mesh:
    """One running `knit run`."""

    def __init__(self, options: RunOptions, count: int, listener: socket.socket) -> None:
        self.options = options
        self.count = count
        self.clock = SystemClock()
        self.screen = Screen(log_format=options.log_format)
        self.port = int(listener.getsockname()[1])
        self.ingress_url = f"http://{_reachable(options.host)}:{self.port}"
        self.admin_url = ""
        self.data_dir = data_dir(options)
        self.snapshot: Snapshot | None = None
        self.totals = Totals()
        self.pool = WorkerPool(
            DATAPLANE, count, clock=self.clock, greet=self._greet, on_message=self._heard, on_death=self._died
        )
        self.health: dict[int, Mapping[str, TopicHealth]] = {}
        self._version = 0
        self._applied: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._failed: str | None = None
        self._draining = False
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._emissions: deque[tuple[int, Emission]] = deque(maxlen=1024)

    @property
    def is_draining(self) -> bool:
        return self._draining

    @property
    def is_started(self) -> bool:
        """Every worker has run a plan."""
        return len(self._applied) == self.count

    # Start.

    async def run(self, started: Started, serve_admin: ServeAdmin) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(NotImplementedError):
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._signalled)
        admin_host = self.options.settings.run.admin_host
        async with contextlib.AsyncExitStack() as stack:
            admin_port = await stack.enter_async_context(serve_admin(self, admin_host, self.options.admin_port))
            self.admin_url = f"http://{_reachable(admin_host)}:{admin_port}"
            world = self._world()
            reconciler = self._reconciler()
            files = await world.settled() if world is not None else (_default_world(self.options),)
            self._take(reconciler.reconcile(files))
            sources = await stack.enter_async_context(self._source_runner())
            dirs = tuple(str(path.absolute()) for path in self.options.dirs)
            stack.enter_context(
                announce(Instance(pid=os.getpid(), admin=self.admin_url, ingress=self.ingress_url, dirs=dirs))
            )
            async with asyncio.TaskGroup() as group:
                workers = group.create_task(self.pool.run(started))
                group.create_task(self._until_ready(sources, group, world, reconciler))
                await self._stopping.wait()
                await self._drain(workers)
                raise Stop

    def _world(self) -> DirectoryWorld | None:
        if not self.options.dirs:
            return None
        return DirectoryWorld(self.options.dirs, namespace=self.options.namespace, clock=self.clock)

    def _reconciler(self) -> Reconciler:
        options = CompileOptions(
            ingress_url=self.ingress_url,
            admin_url=self.admin_url,
            parallelism=self.options.settings.run.parallelism,
            check_schedule=check_schedule,
            backends=frozenset(backends()),
        )
        return Reconciler(
            functools.partial(compile_plan, options=options),
            memory=Memory(self.data_dir / FILE_NAME),
            clock=self.clock,
            namespace=self.options.namespace,
            check=functools.partial(own_problems, check_schedule=check_schedule),
        )

    async def _until_ready(
        self, sources: SourceRunner, group: asyncio.TaskGroup, world: DirectoryWorld | None, reconciler: Reconciler
    ) -> None:
        await self._all_applied()
        assert self.snapshot is not None
        self.screen.first(
            self.snapshot,
            ingress=self.ingress_url,
            admin=self.admin_url,
            version=__version__,
            workers=self.count,
            data=str(self.data_dir),
        )
        if self.options.ready_file is not None:
            facts = {"ingress": self.ingress_url, "admin": self.admin_url, "pid": os.getpid(), "version": __version__}
            write_durably(self.options.ready_file, json.dumps(facts))
        await sources.apply(self.snapshot.plan.sources)
        if world is not None:
            group.create_task(self._follow(world, reconciler, sources))

    async def _all_applied(self) -> None:
        """Until every worker runs the plan of now, and takes requests."""
        while any(self._applied.get(index, -1) < self._version for index in range(self.count)):
            if self._failed is not None:
                raise SettingsError(self._failed)
            self._changed.clear()
            await self._changed.wait()

    async def _follow(self, world: DirectoryWorld, reconciler: Reconciler, sources: SourceRunner) -> None:
        """Take each change of the directory."""
        async for files in world.changes():
            before = self.snapshot
            snapshot = await asyncio.to_thread(reconciler.reconcile, files)
            self._take(snapshot)
            if before is not None and snapshot.problems != before.problems:
                self.screen.problems(snapshot)
                for path, why in snapshot.bad_files.items():
                    self.screen.log("error", "file_not_valid", {"file": path, "why": why})
            await sources.apply(snapshot.plan.sources)

    def _take(self, snapshot: Snapshot) -> None:
        before = self.snapshot
        self.snapshot = snapshot
        if before is not None and before.plan == snapshot.plan and before.known == snapshot.known:
            return
        self._version += 1
        self.totals.keep(snapshot.known)
        self._tell_plan()

    def _tell_plan(self) -> None:
        """To all workers, once each of them has said where it can be reached."""
        ports = {worker.index: worker.facts["inner_port"] for worker in self.pool.workers if worker.ready.is_set()}
        if self.snapshot is None or len(ports) < self.count:
            return
        self.pool.tell(
            {
                "op": "plan",
                "plan": self.snapshot.plan,
                "known": self.snapshot.known,
                "peers": ports,
                "version": self._version,
            }
        )

    # Workers.

    def _greet(self, index: int) -> dict[str, Any]:
        assert self.snapshot is not None
        orphans = [
            path
            for path in sorted(self.data_dir.glob("worker-*"))
            if (number := path.name.removeprefix("worker-")).isdecimal()
            and int(number) >= self.count
            and int(number) % self.count == index
        ]
        config = WorkerConfig(
            index=index,
            count=self.count,
            host=self.options.host,
            port=self.port,
            data_dir=self.data_dir,
            settings=self.options.settings,
            adopt=tuple(orphans),
            live=True,
            tag_event_types="METRICS_DISABLE_EVENT_TYPE_TAG" not in os.environ,
        )
        return {"op": "hello", "config": config, "plan": self.snapshot.plan, "known": self.snapshot.known}

    def _heard(self, worker: Worker, message: Mapping[str, Any]) -> None:
        match message["op"]:
            case "ready":
                worker.facts = dict(message)
                worker.ready.set()
                self._tell_plan()
            case "applied":
                self._applied[worker.index] = message["version"]
            case "failed":
                self._worker_failed(worker, message["why"])
            case "live":
                self.screen.live(message["lines"], more=message["more"])
            case "health":
                self.health[worker.index] = message["health"]
            case "log":
                self.screen.log(message["level"], message["what"], {"worker": worker.index, **message["fields"]})
            case _:
                pass
        self._changed.set()

    def _worker_failed(self, worker: Worker, why: str) -> None:
        """It could not start. At our own start that is the end; later it is tried again with growing pauses."""
        self.screen.log("error", "worker_cannot_start", {"worker": worker.index, "why": why})
        if worker.index not in self._applied:
            self._failed = why

    def _died(self, worker: Worker, code: int) -> None:
        self.totals.died(worker.index)
        self.health.pop(worker.index, None)
        if not self._draining:
            self.screen.log(
                "error", "worker_died", {"worker": worker.index, "exit_code": code, "restarts": worker.restarts}
            )

    # Sources.

    def _source_runner(self) -> SourceRunner:
        sender = Sender(self.options.settings.http, self.clock, self._loop)

        async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            ended: asyncio.Future[Outcome] = self._loop.create_future()
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()

            def answer(outcome: Outcome) -> None:
                if not ended.done():
                    ended.set_result(outcome)

            sender.endpoint(url).send(lines, b"", body, answer)
            outcome = await ended
            if isinstance(outcome, Answer):
                return outcome.status
            raise NotConnectedError(f"{url}: {outcome.why}")

        return SourceRunner(clock=self.clock, post=post, report=self._emitted, on_crash=self._source_crashed)

    def _emitted(self, emission: Emission) -> None:
        self._emissions.append((self.clock.now_ns(), emission))
        if not emission.delivered:
            fields = {"source": emission.source, "event_id": emission.event.id, "attempts": emission.attempts}
            self.screen.log("error", "event_not_taken_by_sink", {**fields, "why": emission.why})

    def _source_crashed(self, key: str, error: Exception | None, pause_s: float) -> None:
        self.screen.log("error", "source_ended", {"source": key, "why": repr(error), "again_in_s": pause_s})

    def emissions(self, event_id: str, source: str) -> list[dict[str, Any]]:
        """What became of a source's event on its way into the mesh, as steps of its story."""
        steps = []
        for at_ns, emission in self._emissions:
            event = emission.event
            if event.id == event_id and source in ("", event.source):
                ending = "taken by its sink" if emission.delivered else f"given up: {emission.why}"
                steps.append(
                    {
                        "at": timestamp(at_ns),
                        "what": "emitted" if emission.delivered else "not-emitted",
                        "event": {"id": event.id, "source": event.source, "type": event.type},
                        "subscription": emission.source,
                        "attempt": emission.attempts,
                        "text": f"sent by {emission.source}, {ending}",
                    }
                )
        return steps

    def origins(self) -> dict[str, str]:
        """Subscription key → what in whose resource it is, of those that have no resource of their own."""
        topics = self.snapshot.plan.topics if self.snapshot is not None else ()
        return {egress.key: egress.origin for topic in topics for egress in topic.egresses if egress.origin}

    # The end.

    def _signalled(self) -> None:
        if self._draining:
            self.screen.say("stopping at once")
            self.pool.kill()
            os._exit(130)
        self._draining = True
        self.screen.say("draining: no new requests, deliveries in hand are settled; once more stops at once")
        self._stopping.set()

    async def _drain(self, workers: asyncio.Task[None]) -> None:
        await self.pool.stop(drain_s=self.options.settings.run.drain_s)
        workers.cancel()


def _reachable(host: str) -> str:
    """The host as it stands in a URL on this machine."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"[{host}]" if ":" in host else host


def data_dir(options: RunOptions) -> Path:
    """Where state is kept: as asked, else `.knit` beside what is run."""
    if options.data_dir is not None:
        return options.data_dir
    if not options.dirs:
        return Path(".knit")
    first = options.dirs[0]
    return (first if first.is_dir() else first.parent) / ".knit"


def _default_world(options: RunOptions) -> FileText:
    return FileText("built in", "1", DEFAULT_WORLD % options.namespace)
