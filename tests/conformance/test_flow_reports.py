"""What hurt users of flows elsewhere (`data/reports.yaml`), against a running mesh; what needs none is in test_reports_yaml.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.test_broker_contract import no_backlog
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Reply, event_reply

REPORTS = {
    case["id"]: case["setup"]
    for case in yaml.safe_load((Path(__file__).parent / "data" / "reports.yaml").read_text())
    if "setup" in case
}
IN_MEMORY, ON_LOG = "InMemoryChannel", "LogChannel"
ONE = {"specversion": "1.0", "id": "one", "source": "/one", "type": "flow.one", "data": {"name": "ä"}}
DONE = {"specversion": "1.0", "id": "two", "source": "/two", "type": "flow.done", "num": 5, "data": {"name": "ö"}}


def setup(report: str, ns: str, sink: Recorder) -> str:
    """The report's resources in a namespace of their own, each path of the receiver below that name."""
    text = str(REPORTS[report]).replace("namespace: default", f"namespace: {ns}")
    return text.replace("127.0.0.1:SINK/", f"127.0.0.1:{sink.port}/{ns}/")


def structured(event: dict[str, Any]) -> Reply:
    body = json.dumps(event, ensure_ascii=False).encode()
    return Reply(200, {"content-type": "application/cloudevents+json; charset=utf-8"}, body)


@pytest.fixture(scope="module")
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        for ns in ("waits", "stored"):
            recorder.behaviours[f"/{ns}/step"] = lambda _s, _n: Reply(500)
        recorder.behaviours["/structured/one"] = lambda _s, _n: structured(ONE)
        recorder.behaviours["/structured/two"] = lambda _s, _n: structured(DONE)
        recorder.behaviours["/fresh/step"] = lambda _s, _n: event_reply("made.by.step", event_id="fresh")
        yield recorder


@pytest.fixture(scope="module")
def mesh(sink: Recorder) -> Iterator[Mesh]:
    stored = setup("broker-dls-is-not-the-steps-dls", "stored", sink)
    texts = [
        setup("broker-dls-is-not-the-steps-dls", "waits", sink),
        stored.replace("messaging.knative.dev/v1", "messaging.knit.dev/v1alpha1").replace(IN_MEMORY, ON_LOG),
        setup("step-answers-in-structured-mode", "structured", sink),
        setup("sequence-reply-enters-a-broker", "fresh", sink),
    ]
    with Mesh("\n---\n".join(texts)) as running:
        yield running


def told(mesh: Mesh, event_id: str, what: str) -> list[dict[str, Any]]:
    steps = mesh.get(f"/api/v1/stories/{event_id}")["steps"]
    return [step for step in steps if step["what"] == what and "flow-kn-sequence" in step.get("subscription", "")]


@pytest.mark.parametrize(("ns", "at_broker_sink"), [("waits", 1), ("stored", 0)])
def test_broker_dls_is_not_the_steps_dls(ns: str, at_broker_sink: int, mesh: Mesh, sink: Recorder) -> None:
    """A channel that waits for its subscribers hands the failure back to the Trigger; one that stores events does not."""
    assert mesh.send(path=f"/{ns}/default", event_id=ns) == 202
    sink.wait(f"/{ns}/step", 2)
    (buried,) = mesh.wait_for(lambda: told(mesh, ns, "buried"))
    assert buried["origin"] == f"step 0 of Sequence {ns}/flow"
    assert f"step 0 of Sequence {ns}/flow has no dead letter sink" in buried["text"]
    assert "steps[0].delivery.deadLetterSink" in buried["text"]
    rejected = told(mesh, ns, "rejected")
    assert [(step["attempt"], step["status"]) for step in rejected] == [(1, 500), (2, 500)]
    assert {step["origin"] for step in rejected} == {f"step 0 of Sequence {ns}/flow"}
    sink.wait(f"/{ns}/broker-dead", at_broker_sink)
    mesh.wait_for(lambda: no_backlog(mesh, f"/{ns}/"))
    assert len(sink.at(f"/{ns}/step")) == 2
    assert [seen.id for seen in sink.at(f"/{ns}/broker-dead")] == [ns] * at_broker_sink


def test_step_answers_in_structured_mode(mesh: Mesh, sink: Recorder) -> None:
    path = "/structured/flow-kn-sequence-0-kn-channel"
    assert mesh.post(path, binary(event_id="s"), b"{}")[0] == 202
    (two,) = sink.wait("/structured/two")
    assert (two.headers["ce-type"], two.headers["ce-id"]) == ("flow.one", "one")
    assert json.loads(two.body) == ONE["data"]
    (done,) = sink.wait("/structured/done")
    assert (done.headers["ce-type"], done.headers["ce-num"]) == ("flow.done", "5")
    assert json.loads(done.body) == DONE["data"]


def test_sequence_reply_enters_a_broker(mesh: Mesh, sink: Recorder) -> None:
    assert mesh.post("/fresh/flow-kn-sequence-0-kn-channel", binary(event_id="s"), b"{}")[0] == 202
    (out,) = sink.wait("/fresh/out")
    mesh.wait_for(lambda: no_backlog(mesh, "/fresh/"))
    assert len(sink.at("/fresh/out")) == 1
    assert out.headers["ce-type"] == "made.by.step"
    assert "ce-knativebrokerttl" not in out.headers
