"""What a channel does, seen from outside: the channel part of `data/channels.yaml`, in memory (asynchronous) and on the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.test_broker_contract import PAUSES, no_backlog
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Reply, event_reply

CASES: dict[str, list[dict[str, Any]]] = yaml.load(
    (Path(__file__).parent / "data" / "channels.yaml").read_text(), Loader=yaml.BaseLoader
)
KINDS = {
    "memory": ("messaging.knative.dev/v1", "InMemoryChannel"),
    "log": ("messaging.knit.dev/v1alpha1", "LogChannel"),
}


def delivery(spec: Any, url: str) -> dict[str, Any] | None:
    if not isinstance(spec, dict):
        return None
    full = {"retry": int(spec["retry"]), **PAUSES}
    return full | ({"deadLetterSink": {"uri": url}} if spec.get("dls") == "true" else {})


def reference(backend: str) -> dict[str, str]:
    version, kind = KINDS[backend]
    return {"apiVersion": version, "kind": kind, "name": "c"}


def documents(sink: Recorder) -> Iterator[dict[str, Any]]:
    for backend, (version, kind) in KINDS.items():
        for number, case in enumerate(CASES["channel"]):
            ns = f"{backend}{number}"
            given = delivery(case["channel"], sink.url(f"/{ns}/chdls"))
            annotations = {"messaging.knative.dev/async-handler": "true"} if backend == "memory" else {}
            yield {
                "apiVersion": version,
                "kind": kind,
                "metadata": {"name": "c", "namespace": ns, "annotations": annotations},
                "spec": {"delivery": given} if given else {},
            }
            for spec in case["subscriptions"]:
                yield subscription(sink, ns, spec, backend)


def subscription(sink: Recorder, ns: str, spec: dict[str, Any], backend: str) -> dict[str, Any]:
    name = spec["name"]
    own = delivery(spec.get("delivery"), sink.url(f"/{ns}/{name}-dls"))
    body: dict[str, Any] = {"channel": reference(backend), "subscriber": {"uri": sink.url(f"/{ns}/{name}")}}
    if spec.get("has_reply") == "true":
        body["reply"] = {"uri": sink.url(f"/{ns}/{name}-reply")}
    if own:
        body["delivery"] = own
    success = event_reply("reply") if spec.get("replies") == "true" else Reply(202)
    fails, reply_fails = int(spec.get("fail_first", 0)), int(spec.get("reply_fail_first", 0))
    sink.behaviours[f"/{ns}/{name}"] = lambda _s, n: Reply(503) if n < fails else success
    sink.behaviours[f"/{ns}/{name}-reply"] = lambda _s, n: Reply(503 if n < reply_fails else 202)
    metadata = {"name": name, "namespace": ns}
    return {"apiVersion": "messaging.knative.dev/v1", "kind": "Subscription", "metadata": metadata, "spec": body}


@pytest.fixture(scope="module")
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def mesh(sink: Recorder) -> Iterator[Mesh]:
    with Mesh("\n---\n".join(json.dumps(document) for document in documents(sink))) as running:
        yield running


@pytest.mark.parametrize("backend", KINDS)
@pytest.mark.parametrize("number", range(len(CASES["channel"])), ids=[case["name"] for case in CASES["channel"]])
def test_channel(number: int, backend: str, mesh: Mesh, sink: Recorder) -> None:
    case, ns = CASES["channel"][number], f"{backend}{number}"
    assert mesh.send(path=f"/{ns}/c-kn-channel", event_id=ns) == 202
    for name, wanted in case["expect"].items():
        sink.wait(f"/{ns}/{name}", len(wanted) if isinstance(wanted, list) else int(wanted))
    if case["subscriptions"]:
        mesh.wait_for(lambda: no_backlog(mesh, f"subscription/{ns}/"))
    for name, wanted in case["expect"].items():
        assert len(sink.at(f"/{ns}/{name}")) == (len(wanted) if isinstance(wanted, list) else int(wanted)), name


@pytest.mark.parametrize("number", range(len(CASES["requests"])), ids=[case["name"] for case in CASES["requests"]])
def test_requests(number: int, mesh: Mesh, sink: Recorder) -> None:
    case = CASES["requests"][number]
    headers = binary(event_id=f"request-{number}")
    if case.get("event", "").startswith("without "):
        del headers["ce-" + case["event"].removeprefix("without ")]
    path = "/log1/unknown-kn-channel" if case.get("target") == "unknown" else "/log1/c-kn-channel"
    status = mesh.post(path, headers, b"{}", method=case["method"])[0]
    assert str(status) == case["status"] or f"{status // 100}xx" == case["status"]
    if "delivered_specversion" in case:
        sink.wait_until(lambda seen: any(s.id == headers["ce-id"] for s in seen))
        got = next(s for s in sink.at("/log1/s1") if s.id == headers["ce-id"])
        assert got.headers["ce-specversion"] == case["delivered_specversion"]


@pytest.mark.parametrize(
    "host",
    [
        "c-kn-channel.log1.svc.cluster.local",
        "c-kn-channel.log1.svc.cluster.local:80",
        "c-kn-channel.log1.svc",
        "C-kn-channel.log1",
    ],
)
def test_channel_by_host(host: str, mesh: Mesh, sink: Recorder) -> None:
    event_id = f"host-{host}"
    assert mesh.post("/", binary(event_id=event_id) | {"Host": host}, b"{}")[0] == 202
    sink.wait_until(lambda seen: any(s.path == "/log1/s1" and s.id == event_id for s in seen))
