"""Resources that change while the mesh runs: what takes effect, what is kept, what is forgotten."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.kill import is_idle, metric
from tests.integration.rude import Rude
from tests.integration.sockets import dial, event_head
from tests.integration.test_run import BROKER, knit, trigger
from tests.support.mesh import Mesh
from tests.support.recorder import Recorder

SOON_S = 3.0
"""An edit takes effect within a second; on a machine that is busy with other tests, within this."""


@pytest.fixture
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


class Sending:
    """A sender on one connection that goes on while files are edited."""

    def __init__(self, mesh: Mesh) -> None:
        self.statuses: list[int] = []
        self._port = int(mesh.ingress.rpartition(":")[2])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        with dial(self._port) as wire:
            while not self._stop.wait(0.005):
                wire.send(event_head(f"n{len(self.statuses)}", "content-length: 2") + b"{}")
                answer = wire.answer()
                self.statuses.append(answer.status if answer is not None else 0)
                if answer is None:
                    return


def within_moments(sink: Recorder, path: str, *, more_than: int) -> None:
    sink.wait(path, more_than + 1, limit_s=SOON_S)


def stops(sink: Recorder, path: str) -> None:
    """No more events come to this path, though they are sent: 50 others came to /a meanwhile, and none here."""
    until = time.monotonic() + SOON_S
    while True:
        count, others = len(sink.at(path)), len(sink.at("/a"))
        sink.wait("/a", others + 50)
        if len(sink.at(path)) == count:
            return
        assert time.monotonic() < until, f"events still come to {path}"


@pytest.mark.slow
def test_edits_take_effect_while_it_runs_and_lose_nothing(sink: Recorder) -> None:
    with Mesh(BROKER + trigger("a", sink.url("/a")), workers=2) as mesh, Sending(mesh) as sending:
        other = mesh.dir / "other.yaml"
        sink.wait("/a")
        other.write_text(trigger("b", sink.url("/b"), wants="t"))
        within_moments(sink, "/b", more_than=0)
        other.write_text(trigger("b", sink.url("/b"), wants="something-else"))
        stops(sink, "/b")
        other.write_text(trigger("b", sink.url("/moved")))
        within_moments(sink, "/moved", more_than=0)
        _break_and_mend(mesh, sink, other)
        other.unlink()
        stops(sink, "/moved")
        mesh.wait_for(lambda: mesh.status("Trigger", "b") == {}, limit_s=SOON_S)
        sending.stop()
        assert set(sending.statuses) == {202}
        sink.wait("/a", len(sending.statuses))
        assert Counter(seen.id for seen in sink.at("/a")) == dict.fromkeys(
            (f"n{number}" for number in range(len(sending.statuses))), 1
        )


def _break_and_mend(mesh: Mesh, sink: Recorder, file: Path) -> None:
    """A file that is not valid leaves its last good version running, and everybody who asks is told."""
    good = file.read_text()
    for broken in ("spec: [unclosed", good.replace("subscriber:", "subscribed:")):
        file.write_text(broken)
        mesh.wait_for(lambda: mesh.get("/readyz?verbose")["bad_files"], limit_s=SOON_S)
        detail = mesh.get("/readyz?verbose")
        assert [path for path in detail["bad_files"] if path.endswith("other.yaml")]
        assert detail["ready"] is True
        assert metric(mesh.text("/metrics"), "knit_plan_valid") == 0
        assert mesh.condition("Trigger", "b", "LatestFileValid")["status"] == "False"
        listed = knit("get", "triggers", "-o", "wide", cwd=mesh.folder, env={"KNIT_ADMIN": mesh.admin})
        assert "other.yaml" in listed.stdout + listed.stderr
        within_moments(sink, "/moved", more_than=len(sink.at("/moved")))
        file.write_text(good)
        mesh.wait_for(lambda: not mesh.get("/readyz?verbose")["bad_files"], limit_s=SOON_S)
        assert metric(mesh.text("/metrics"), "knit_plan_valid") == 1
        within_moments(sink, "/moved", more_than=len(sink.at("/moved")))


# What public reports tell, as far as it is about running.


def test_broker_whose_config_is_not_there_becomes_ready_when_it_is(sink: Recorder) -> None:
    """knative/eventing#3183: the reason was told without the name of what was missing."""
    broker = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: default
  namespace: default
  annotations: {eventing.knative.dev/broker.class: MTChannelBasedBroker}
spec:
  config: {apiVersion: v1, kind: ConfigMap, name: imc-channel, namespace: knative-eventing}
"""
    config = """
apiVersion: v1
kind: ConfigMap
metadata: {name: imc-channel, namespace: knative-eventing}
data:
  channel-template-spec: |
    apiVersion: messaging.knative.dev/v1
    kind: InMemoryChannel
"""
    with Mesh(broker + trigger("t", sink.url("/t")), workers=2) as mesh:
        ready = mesh.condition("Broker", "default", "TriggerChannelReady")
        assert (ready["status"], ready["reason"]) == ("False", "ChannelTemplateFailed")
        assert "knative-eventing/imc-channel" in ready["message"]
        assert mesh.condition("Broker", "default")["status"] == "False"
        assert mesh.condition("Trigger", "t", "BrokerReady")["status"] == "False"
        status, _, text = mesh.post("/default/default", {**binary_headers("1")}, b"{}")
        assert status >= 400
        assert b"not ready" in text
        (mesh.dir / "config.yaml").write_text(config)
        mesh.wait_for(lambda: mesh.send(event_id="2") == 202, limit_s=SOON_S)
        assert sink.wait("/t")[0].id == "2"
        assert mesh.condition("Broker", "default")["status"] == "True"
        assert mesh.condition("Trigger", "t")["status"] == "True"


def binary_headers(event_id: str) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "/s", "ce-type": "t"}


def test_broker_removed_before_its_trigger_leaves_nothing_behind(sink: Recorder) -> None:
    """knative-extensions/eventing-kafka-broker#1590: clean-up must not need what was deleted first."""
    broker = BROKER.replace("name: default", "name: b", 1)
    with Mesh(broker + trigger("t", sink.url("/t"), broker="b"), workers=2) as mesh:
        assert mesh.send(path="/default/b") == 202
        sink.wait("/t")
        assert '"trigger/default/t"' in mesh.text("/metrics")
        (mesh.dir / "mesh.yaml").write_text(trigger("t", sink.url("/t"), broker="b"))
        mesh.wait_for(lambda: mesh.send(path="/default/b", event_id="late") == 404, limit_s=SOON_S)
        condition = mesh.condition("Trigger", "t", "BrokerReady")
        assert (condition["status"], condition["reason"]) == ("False", "BrokerDoesNotExist")
        (mesh.dir / "mesh.yaml").write_text("")
        mesh.wait_for(lambda: mesh.status("Trigger", "t") == {}, limit_s=SOON_S)
        mesh.wait_for(lambda: '"trigger/default/t"' not in mesh.text("/metrics"), limit_s=SOON_S)
        assert mesh.send(path="/default/b", event_id="later") == 404
        taken = [seen.id for seen in sink.at("/t")]
        assert taken.count("1") == 1
        assert set(taken) <= {"1", "late"}


def test_trigger_deleted_while_it_was_not_ready_keeps_no_events(sink: Recorder) -> None:
    service = f"""---
apiVersion: v1
kind: Service
metadata: {{name: s, namespace: default, annotations: {{run.knit.dev/url: "{sink.url("/t")}"}}}}
"""
    waiting = trigger("t", "").replace('uri: ""', "ref: {apiVersion: v1, kind: Service, name: s}")
    with Mesh(BROKER + service + waiting) as mesh:
        file = mesh.dir / "mesh.yaml"
        assert mesh.send(event_id="1") == 202
        sink.wait("/t")
        file.write_text(BROKER + waiting)
        mesh.wait_for(lambda: mesh.condition("Trigger", "t").get("status") == "False", limit_s=SOON_S)
        assert mesh.send(event_id="2") == 202
        # It exists, so what it wants is kept for it.
        mesh.wait_for(lambda: metric(mesh.text("/metrics"), "knit_backlog_events") == 1, limit_s=SOON_S)
        file.write_text(BROKER)
        mesh.wait_for(lambda: '"trigger/default/t"' not in mesh.text("/metrics"), limit_s=SOON_S)
        file.write_text(BROKER + service + waiting)
        mesh.wait_for(lambda: mesh.condition("Trigger", "t").get("status") == "True", limit_s=SOON_S)
        assert mesh.send(event_id="3") == 202
        sink.wait("/t", 2)
    assert [seen.id for seen in sink.at("/t")] == ["1", "3"]


@pytest.mark.slow
@pytest.mark.parametrize("tagged", [True, False])
def test_ten_thousand_event_types_do_not_blow_up_the_metrics(tagged: bool) -> None:
    """knative-extensions/eventing-kafka-broker#4672: generated type names used up the memory."""
    count, per_batch = 10_000, 500
    env = {} if tagged else {"METRICS_DISABLE_EVENT_TYPE_TAG": "true"}
    arrived = threading.Semaphore(0)

    def take(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        arrived.release()

    with Rude(take) as sink, Mesh(BROKER + trigger("t", f"http://127.0.0.1:{sink.port}/"), env=env) as mesh:
        for first in range(0, count, per_batch):
            events = [
                {"specversion": "1.0", "id": str(number), "source": "/s", "type": f"order.{number}"}
                for number in range(first, first + per_batch)
            ]
            headers = {"content-type": "application/cloudevents-batch+json"}
            assert mesh.post("/default/default", headers, json.dumps(events).encode())[0] == 202
        for _ in range(count):
            assert arrived.acquire(timeout=30)
        mesh.wait_for(lambda: is_idle(mesh))
        asked = time.monotonic()
        page = mesh.text("/metrics")
        assert time.monotonic() - asked < 1.0
    types = set(re.findall(r'event_type="([^"]*)"', page)) | set(re.findall(r'cloudevents_type="([^"]*)"', page))
    assert len(types) <= (102 if tagged else 1)
    assert page.count("\n") < 12_000
    assert metric(page, "mt_broker_ingress_event_count") == count
    assert metric(page, "mt_broker_filter_event_count") == count
    assert metric(page, "knit_received_total") == count
