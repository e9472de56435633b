"""What a Sequence and a Parallel do, seen from outside: those parts of `data/channels.yaml`, on each kind of channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.test_broker_contract import PAUSES, no_backlog
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Behaviour, Recorder, Reply, Seen, event_reply

Case = dict[str, Any]
CASES: dict[str, list[Case]] = yaml.load(
    (Path(__file__).parent / "data" / "channels.yaml").read_text(), Loader=yaml.BaseLoader
)
SEQUENCES, PARALLELS = CASES["sequence"], CASES["parallel"]
BACKENDS = {
    "async": ("messaging.knative.dev/v1", "InMemoryChannel"),
    "sync": ("messaging.knative.dev/v1", "InMemoryChannel"),
    "log": ("messaging.knit.dev/v1alpha1", "LogChannel"),
}
SILENT = ("null", "answers nothing")


def answering(text: str, fails: int = 0) -> Behaviour:
    """Answers with the data it got and the text behind it, or with no event; fails its first calls."""

    def behave(seen: Seen, number: int) -> Reply:
        if number < fails:
            return Reply(503)
        if text in SILENT:
            return Reply(202)
        answer = event_reply("appended", body=seen.body + text.encode(), event_id=seen.id)
        return Reply(answer.status, {**answer.headers, "content-type": "text/plain"}, answer.body)

    return behave


def flow(kind: str, ns: str, spec: dict[str, Any], name: str = "f") -> dict[str, Any]:
    backend = ns.partition("-")[0]
    version, channel = BACKENDS[backend]
    annotations = {"messaging.knative.dev/async-handler": "true"} if backend == "async" else {}
    return {
        "apiVersion": "flows.knative.dev/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": ns, "annotations": annotations},
        "spec": {"channelTemplate": {"apiVersion": version, "kind": channel}, **spec},
    }


def sequence(sink: Recorder, ns: str, case: Case) -> Iterator[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    deliveries = case.get("delivery", ["null"] * len(case["steps"]))
    for index, (text, given) in enumerate(zip(case["steps"], deliveries, strict=True)):
        path = f"/{ns}/step{index}"
        sink.behaviours[path] = answering(text, int(case.get("fail_first", ["0"] * 9)[index]))
        own = {} if given == "null" else {"delivery": {"retry": int(given["retry"]), **PAUSES}}
        steps.append({"uri": sink.url(path), **own})
    end: dict[str, Any] = {"uri": sink.url(f"/{ns}/reply")}
    if case["reply"] != "true":
        path = f"/{ns}/second"
        sink.behaviours[path] = answering(case["reply"].removeprefix("sequence of "))
        yield flow("Sequence", ns, {"steps": [{"uri": sink.url(path)}], "reply": end}, "second")
        end = {"ref": {"apiVersion": "flows.knative.dev/v1", "kind": "Sequence", "name": "second"}}
    yield flow("Sequence", ns, {"steps": steps, "reply": end})


def parallel(sink: Recorder, ns: str, case: Case) -> dict[str, Any]:
    branches = []
    for index, spec in enumerate(case["branches"]):
        branch = {"subscriber": {"uri": sink.url(f"/{ns}/branch{index}")}}
        sink.behaviours[f"/{ns}/branch{index}"] = answering(spec["append"])
        if "filter" in spec:
            branch["filter"] = {"uri": sink.url(f"/{ns}/filter{index}")}
            sink.behaviours[f"/{ns}/filter{index}"] = answering(spec["filter"])
        branches.append(branch)
    reply = {"reply": {"uri": sink.url(f"/{ns}/reply")}} if case["reply"] == "true" else {}
    return flow("Parallel", ns, {"branches": branches, **reply})


def documents(sink: Recorder) -> Iterator[dict[str, Any]]:
    for backend in BACKENDS:
        for number, case in enumerate(SEQUENCES):
            yield from sequence(sink, f"{backend}-seq{number}", case)
        for number, case in enumerate(PARALLELS):
            yield parallel(sink, f"{backend}-par{number}", case)


@pytest.fixture(scope="module")
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def mesh(sink: Recorder) -> Iterator[Mesh]:
    with Mesh("\n---\n".join(json.dumps(document) for document in documents(sink))) as running:
        yield running


def send(mesh: Mesh, address: str, data: str, event_id: str) -> None:
    path = "/" + address.partition("://")[2].partition("/")[2]
    headers = binary(event_id=event_id) | {"content-type": "text/plain"}
    assert mesh.post(path, headers, data.encode())[0] == 202


def address_of(mesh: Mesh, kind: str, ns: str) -> str:
    status = mesh.status(kind, "f", ns)
    assert next(c for c in status["conditions"] if c["type"] == "Ready")["status"] == "True"
    return str(status["address"]["url"])


def bodies(sink: Recorder, path: str) -> list[str]:
    return [seen.body.decode() for seen in sink.at(path)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", range(len(SEQUENCES)), ids=[case["name"] for case in SEQUENCES])
def test_sequence(number: int, backend: str, mesh: Mesh, sink: Recorder) -> None:
    case, ns = SEQUENCES[number], f"{backend}-seq{number}"
    address = address_of(mesh, "Sequence", ns)
    assert address.endswith(f"/{ns}/f-kn-sequence-0-kn-channel")
    many = int(case.get("send_many", 0))
    sent = [f"x{one}" for one in range(many)] or [case["send"]]
    for one, data in enumerate(sent):
        send(mesh, address, data, f"{ns}-{one}")
    each = case.get("at_reply_each", "").removeprefix("xN")
    wanted = [data + each for data in sent] if many else case["at_reply"]
    sink.wait(f"/{ns}/reply", len(wanted))
    mesh.wait_for(lambda: no_backlog(mesh, f"subscription/{ns}/"))
    assert sorted(bodies(sink, f"/{ns}/reply")) == sorted(wanted)
    for index, seen in enumerate(case.get("at_steps", ())):
        assert bodies(sink, f"/{ns}/step{index}") == seen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("number", range(len(PARALLELS)), ids=[case["name"] for case in PARALLELS])
def test_parallel(number: int, backend: str, mesh: Mesh, sink: Recorder) -> None:
    case, ns = PARALLELS[number], f"{backend}-par{number}"
    address = address_of(mesh, "Parallel", ns)
    assert address.endswith(f"/{ns}/f-kn-parallel-kn-channel")
    send(mesh, address, case["send"], ns)
    sink.wait(f"/{ns}/reply", len(case["at_reply"]))
    for index, count in enumerate(case.get("at_branch", ())):
        sink.wait(f"/{ns}/branch{index}", int(count))
    mesh.wait_for(lambda: no_backlog(mesh, f"subscription/{ns}/"))
    assert sorted(bodies(sink, f"/{ns}/reply")) == sorted(case["at_reply"])
    for index, count in enumerate(case.get("at_branch", ())):
        assert len(bodies(sink, f"/{ns}/branch{index}")) == int(count)
