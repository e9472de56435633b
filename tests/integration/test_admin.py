"""The admin API over a real socket: shapes, status codes, errors that say what would work."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession

from mesh.console.app import ConsoleServer, Readiness
from mesh.console.display import event_text
from mesh.errors import NotConnectedError
from mesh.events.event import Event
from mesh.telemetry.metrics import MeshFacts, render
from mesh.telemetry.snapshot import MetricsSnapshot


def resource(kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


@dataclass
class StillMesh:
    """A mesh in which nothing moves: the admin API's backend without processes."""

    is_ready: bool = True
    is_gone: bool = False
    shown: list[tuple[str, str, Event]] = field(default_factory=list)

    async def readiness(self) -> Readiness:
        return Readiness(self.is_ready, {"bad_files": {"t.yaml": "t.yaml:3: no valid YAML"}, "workers": {"0": "ready"}})

    async def metrics(self, *, accept: str, role: str) -> str:
        return render([MetricsSnapshot()], MeshFacts(now_ns=0), accept=accept, role=role)

    async def resources(self) -> Sequence[Mapping[str, Any]]:
        if self.is_gone:
            raise NotConnectedError("the resources are being loaded")
        return [resource("Broker", "orders"), resource("Trigger", "mail"), resource("Trigger", "mail", "shop")]

    async def story(self, event_id: str, *, source: str) -> Mapping[str, Any]:
        steps = [{"at": "2026-01-01T00:00:00.000000001Z", "what": "accepted"}] if event_id == "a/b c" else []
        return {"id": event_id, "events": [{"source": source}], "steps": steps}

    async def dead_letters(self) -> Sequence[Mapping[str, Any]]:
        return [{"ref": "0/1", "subscription": "trigger/default/mail"}]

    async def summary(self) -> Mapping[str, Any]:
        return {"ingress": "http://127.0.0.1:8080/<x>", "loaded": {"files": 1}}

    async def problems(self) -> Sequence[Mapping[str, Any]]:
        return [{"severity": "error", "message": "no"}]

    async def display(self, namespace: str, name: str, event: Event) -> None:
        self.shown.append((namespace, name, event))


@dataclass
class Api:
    mesh: StillMesh
    session: ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(path, headers=headers) as response:
            assert response.content_type == "application/json"
            return response.status, await response.json()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    mesh = StillMesh()
    server = ConsoleServer(mesh)
    port = await server.listen("127.0.0.1", 0)
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        yield Api(mesh, session)
    await server.aclose()


async def test_probes_of_the_kubelet_are_answered(api: Api) -> None:
    async with api.session.get("/healthz", headers={"User-Agent": "kube-probe/1.30"}) as response:
        assert response.status == 200
    assert await api.get("/readyz", **{"User-Agent": "kube-probe/1.30"}) == (200, {"ready": True})


async def test_readiness_tells_bad_files_without_being_unready_for_them(api: Api) -> None:
    status, told = await api.get("/readyz?verbose")
    assert status == 200
    assert told["bad_files"] == {"t.yaml": "t.yaml:3: no valid YAML"}


async def test_not_ready_is_503_with_the_reasons(api: Api) -> None:
    api.mesh.is_ready = False
    status, told = await api.get("/readyz")
    assert status == 503
    assert told["ready"] is False
    assert told["workers"] == {"0": "ready"}


async def test_resources_are_filtered(api: Api) -> None:
    async def names(query: str) -> list[str]:
        items = (await api.get(f"/api/v1/resources{query}"))[1]["items"]
        return [f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]

    assert len(await names("")) == 3
    assert await names("?kind=trigger&namespace=shop") == ["Trigger shop/mail"]
    assert await names("?name=orders") == ["Broker default/orders"]
    assert await names("?kind=Channel") == []


async def test_a_parameter_misspelt_is_no_filter_left_out(api: Api) -> None:
    status, told = await api.get("/api/v1/resources?kin=Trigger")
    assert status == 400
    assert "kin" in told["error"]


async def test_a_story_of_any_id_can_be_asked_for(api: Api) -> None:
    status, told = await api.get("/api/v1/stories/a%2Fb%20c?source=/s")
    assert (status, told["id"], told["events"]) == (200, "a/b c", [{"source": "/s"}])


async def test_an_unknown_event_is_404_with_a_hint(api: Api) -> None:
    status, told = await api.get("/api/v1/stories/none")
    assert status == 404
    assert told["hint"]


@pytest.mark.parametrize("path", ["/api/v1/deadletters", "/api/v1/problems"])
async def test_lists_are_items(api: Api, path: str) -> None:
    status, told = await api.get(path)
    assert status == 200
    assert len(told["items"]) == 1


async def test_metrics_in_both_formats(api: Api) -> None:
    async with api.session.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "knit_plan_valid 1.0" in await response.text()
    async with api.session.get("/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await response.text()).endswith("# EOF\n")
    assert (await api.get("/metrics?role=everything"))[0] == 400


EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"a": 1}}
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(BINARY, b'{"a": 1}', id="binary"),
        pytest.param({"content-type": "application/cloudevents+json"}, json.dumps(EVENT).encode(), id="structured"),
        pytest.param({"content-type": "application/cloudevents-batch+json"}, json.dumps([EVENT]).encode(), id="batch"),
    ],
)
async def test_the_event_display_takes_every_mode(api: Api, headers: dict[str, str], body: bytes) -> None:
    async with api.session.post("/event-display/shop/screen", headers=headers, data=body) as response:
        assert response.status == 202
        assert await response.read() == b""
    ((namespace, name, event),) = api.mesh.shown
    assert (namespace, name, event.id, json.loads(event.body)) == ("shop", "screen", "1", {"a": 1})


async def test_the_event_display_refuses_what_is_no_event(api: Api) -> None:
    async with api.session.post("/event-display/shop/screen", data=b"hello") as response:
        assert response.status == 400
        assert "ce-specversion" in (await response.json())["error"]
    assert api.mesh.shown == []


async def test_errors_say_what_would_work(api: Api) -> None:
    assert (await api.get("/nothing"))[0] == 404
    async with api.session.post("/api/v1/summary") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert "GET" in (await response.json())["hint"]
    api.mesh.is_gone = True
    status, told = await api.get("/api/v1/resources")
    assert (status, told["error"]) == (503, "the resources are being loaded")


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("localhost", 200), ("[::1]:80", 200), ("evil.example", 403), ("10.0.0.1", 403)],
)
async def test_on_loopback_a_foreign_name_is_refused(api: Api, host: str, status: int) -> None:
    """A web page could give its own name this address, and read what is here."""
    async with api.session.get("/api/v1/summary", headers={"Host": host}) as response:
        assert response.status == status


async def test_beyond_loopback_any_name_will_do() -> None:
    server = ConsoleServer(StillMesh())
    port = await server.listen("0.0.0.0", 0)
    name = {"Host": "knit-admin.shop.svc:8081"}
    async with (
        ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get("/api/v1/summary", headers=name) as response,
    ):
        assert response.status == 200
    await server.aclose()


async def test_the_front_page_links_what_there_is_and_every_link_works(api: Api) -> None:
    async with api.session.get("/") as response:
        page = await response.text()
        assert response.content_type == "text/html"
    assert "http://127.0.0.1:8080/&lt;x&gt;/" in page
    links = [part.partition('"')[0] for part in page.split('href="')[1:]]
    assert len(links) >= 7
    for link in links:
        async with api.session.get(link) as response:
            assert response.status == 200, link


def test_an_event_cannot_drive_the_terminal() -> None:
    attributes = {"specversion": "1.0", "id": "\x1b[2J", "source": "/s", "type": "t", "datacontenttype": "text/plain"}
    text = event_text(Event(b"", b"red \x1b[31m\nline two", attributes=attributes))
    assert "\x1b" not in text
    assert "  line two" in text
    assert "\\x1b[2J" in text


def test_the_event_display_reads_like_knatives() -> None:
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "application/json"}
    text = event_text(Event(b"", b'{"a":1}', attributes={**attributes, "tenant": "acme"}))
    assert text.splitlines() == [
        "☁️  cloudevents.Event",
        "Context Attributes,",
        "  specversion: 1.0",
        "  type: t",
        "  source: /s",
        "  id: 1",
        "  datacontenttype: application/json",
        "Extensions,",
        "  tenant: acme",
        "Data,",
        "  {",
        '    "a": 1',
        "  }",
    ]


@pytest.mark.parametrize("body", [b"\xff\x00" * 20, b"x" * 100_000, b"{" * 5000])
def test_any_data_can_be_shown(body: bytes) -> None:
    attributes = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    assert len(event_text(Event(b"", body, attributes=attributes))) < 80_000
