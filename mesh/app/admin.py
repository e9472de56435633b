"""What the admin API asks, answered from the parent and from every worker."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from channels.api import DeadLetter
from mesh import __version__
from mesh.app.health import overlay
from mesh.app.mesh import Mesh
from mesh.console.app import ConsoleServer, Readiness
from mesh.console.display import event_text
from mesh.errors import NotConnectedError, SettingsError
from mesh.events.event import Event
from mesh.telemetry.metrics import MeshFacts, render
from mesh.telemetry.story import timestamp


@asynccontextmanager
async def admin_server(mesh: Mesh, host: str, port: int) -> AsyncIterator[int]:
    """Serve the admin API of this mesh; yields the port.

    Raises:
        SettingsError: the port is taken.
    """
    server = ConsoleServer(Admin(mesh))
    try:
        bound = await server.listen(host, port)
    except OSError as exc:
        await server.aclose()
        hint = "; --admin-port 0 takes a free one"
        raise SettingsError(f"cannot listen on {host}:{port} for the admin API: {exc.strerror or exc}{hint}") from exc
    try:
        yield bound
    finally:
        await server.aclose()


class Admin:
    """The backend of `mesh/console/app.py`."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    async def readiness(self) -> Readiness:
        mesh = self._mesh
        workers = {
            str(worker.index): {"pid": worker.pid, "ready": worker.ready.is_set(), "restarts": worker.restarts}
            for worker in mesh.pool.workers
        }
        snapshot = mesh.snapshot
        detail: dict[str, Any] = {"version": __version__, "workers": workers, "draining": mesh.is_draining}
        if snapshot is not None:
            detail["plan"] = {"valid": snapshot.is_valid, "topics": len(snapshot.plan.topics)}
            detail["bad_files"] = dict(snapshot.bad_files)
            detail["not_ready"] = _not_ready(overlay(snapshot.resources, mesh.health.values()))
        ready = mesh.is_started and not mesh.is_draining and any(w.ready.is_set() for w in mesh.pool.workers)
        return Readiness(ready, detail)

    async def metrics(self, *, accept: str, role: str) -> str:
        mesh = self._mesh
        for index, snapshot in (await mesh.pool.ask("metrics")).items():
            mesh.totals.update(index, snapshot)
        facts = MeshFacts(
            now_ns=mesh.clock.now_ns(),
            workers=mesh.count,
            workers_ready=sum(worker.ready.is_set() for worker in mesh.pool.workers),
            worker_restarts=sum(worker.restarts for worker in mesh.pool.workers),
            plan_valid=mesh.snapshot is not None and mesh.snapshot.is_valid,
            pod=socket.gethostname(),
        )
        plan = mesh.snapshot.plan if mesh.snapshot is not None else None
        return render(mesh.totals.snapshots(), facts, plan=plan, accept=accept, role=role)

    async def resources(self) -> Sequence[Mapping[str, Any]]:
        snapshot = self._mesh.snapshot
        if snapshot is None:
            raise NotConnectedError("the resources are being loaded")
        return overlay(snapshot.resources, self._mesh.health.values())

    async def story(self, event_id: str, *, source: str) -> Mapping[str, Any]:
        told = await self._mesh.pool.ask("story", event_id=event_id, source=source)
        steps = [step | {"worker": index} for index, of_worker in told.items() for step in of_worker]
        steps += self._mesh.emissions(event_id, source)
        steps.sort(key=lambda step: str(step["at"]))
        events = {(step["event"]["source"], step["event"]["type"]): step["event"] for step in steps}
        origins = self._mesh.origins()
        for step in steps:
            step.pop("event")
            origin = origins.get(step.get("subscription", ""))
            if origin:
                step["origin"] = origin
        return {"id": event_id, "events": list(events.values()), "steps": steps}

    async def dead_letters(self) -> Sequence[Mapping[str, Any]]:
        found: Mapping[int, list[DeadLetter]] = await self._mesh.pool.ask("deadletters")
        letters = [(index, letter) for index, of_worker in found.items() for letter in of_worker]
        letters.sort(key=lambda pair: pair[1].buried_ns, reverse=True)
        return [_dead_letter(index, letter) for index, letter in letters]

    async def summary(self) -> Mapping[str, Any]:
        mesh = self._mesh
        snapshot = mesh.snapshot
        if snapshot is None:
            raise NotConnectedError("the resources are being loaded")
        loaded = {"files": snapshot.loaded.files, "kinds": dict(snapshot.loaded.kinds)}
        ignored = [asdict(problem) for problem in snapshot.ignored]
        urls = {"ingress": mesh.ingress_url, "admin": mesh.admin_url, "data_dir": str(mesh.data_dir)}
        return {"version": __version__, "loaded": loaded, "ignored": ignored, **urls}

    async def problems(self) -> Sequence[Mapping[str, Any]]:
        snapshot = self._mesh.snapshot
        return [asdict(problem) for problem in snapshot.problems] if snapshot is not None else []

    async def display(self, namespace: str, name: str, event: Event) -> None:
        self._mesh.screen.display(f"{namespace}/{name}", event_text(event))


def _not_ready(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each resource whose Ready is not True, with the reason."""
    told = []
    for resource in resources:
        for condition in resource.get("status", {}).get("conditions", ()):
            if condition["type"] == "Ready" and condition["status"] != "True":
                metadata = resource["metadata"]
                where = f"{resource['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
                told.append(f"{where}: {condition.get('reason', '')} {condition.get('message', '')}".strip())
    return told


def _dead_letter(worker: int, letter: DeadLetter) -> dict[str, Any]:
    event, burial = letter.event, letter.burial
    return {
        "ref": f"{worker}/{letter.ref}",
        "subscription": letter.subscription,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "why": burial.why,
        "code": burial.code,
        "attempts": burial.attempts,
        "destination": burial.destination,
        "arrived": timestamp(letter.arrived_ns),
        "buried": timestamp(letter.buried_ns),
    }
