"""`knit run` with its events in Redis: one, two that share the work, and what `kill -9` of either leaves."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.servers.redis import RedisServer
from tests.support.mesh import KNIT, ROOT, Mesh
from tests.support.recorder import Recorder, Reply, Seen

RESOURCES = """
apiVersion: v1
kind: Secret
metadata: {{name: redis}}
stringData: {{password: s3cret}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: config-br-default-channel, namespace: knative-eventing}}
data:
  channel-template-spec: |
    apiVersion: messaging.knit.dev/v1alpha1
    kind: RedisStreamChannel
    spec: {{address: "{address}", auth: {{secret: {{ref: {{name: redis}}}}}}}}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: all}}
spec:
  broker: default
  delivery: {{retry: 3, backoffPolicy: linear, backoffDelay: PT0.2S}}
  subscriber: {{uri: "{sink}/all"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: ordered, annotations: {{delivery.knit.dev/parallelism: "1"}}}}
spec:
  broker: default
  filter: {{attributes: {{type: ordered}}}}
  subscriber: {{uri: "{sink}/ordered"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: refused}}
spec:
  broker: default
  filter: {{attributes: {{type: refused}}}}
  delivery: {{retry: 1, backoffPolicy: linear, backoffDelay: PT0.01S}}
  subscriber: {{uri: "{sink}/refused"}}
---
apiVersion: sinks.knative.dev/v1alpha1
kind: RedisStreamSink
metadata: {{name: out}}
spec: {{address: "{address}", stream: mine, auth: {{secret: {{ref: {{name: redis}}}}}}}}
"""
FAST = {"KNIT_REDIS_BEAT_S": "0.1", "KNIT_REDIS_DEAD_S": "1", "KNIT_REDIS_ANSWER_TIMEOUT_S": "1"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", "--requirepass", "s3cret") as running:
        yield running


@pytest.fixture
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        recorder.behaviours["/refused"] = lambda _seen, _before: Reply(503)
        yield recorder


def mesh(server: RedisServer, sink: Recorder, folder: Path, *, workers: int = 1) -> Mesh:
    folder.mkdir()
    text = RESOURCES.format(address=server.address, sink=sink.url("").rstrip("/"))
    return Mesh(text, folder=folder, workers=workers, env=FAST)


def test_events_go_through_redis_and_everything_can_be_seen(
    server: RedisServer, sink: Recorder, tmp_path: Path
) -> None:
    with mesh(server, sink, tmp_path / "one", workers=2) as one, Redis(port=server.port, password="s3cret") as client:
        for number in range(20):
            assert one.send("ordered", event_id=str(number)) == 202
        sink.wait("/all", 20)
        assert [seen.id for seen in sink.wait("/ordered", 20)] == [str(number) for number in range(20)]
        assert one.send("refused", event_id="bad") == 202
        (letter,) = one.wait_for(lambda: one.get("/api/v1/deadletters")["items"])
        assert (letter["id"], letter["code"], letter["attempts"]) == ("bad", 503, 2)
        backend = one.wait_for(lambda: one.condition("Broker", "default", "BackendReady"))
        assert (backend["status"], backend["reason"]) == ("True", "Durable")
        assert "s3cret" not in json.dumps(one.get("/api/v1/resources"))
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        assert one.post("/default/out-redis-stream-sink", headers, b'["a", "b"]')[0] == 202
        assert one.post("/default/out-redis-stream-sink", headers, b'{"a": "b"}')[0] == 400
        assert [fields for _, fields in client.xrange("mine")] == [{b"a": b"b"}]
        streams = client.keys("knit:*:s:*")
        one.wait_for(lambda: sum(client.xlen(stream) for stream in streams) == 0)
        assert "s3cret" not in one.output.read_text()


def test_a_redis_that_goes_is_told_and_used_again_when_it_comes(
    server: RedisServer, sink: Recorder, tmp_path: Path
) -> None:
    with mesh(server, sink, tmp_path / "one") as one:
        assert one.send(event_id="before") == 202
        server.kill()
        one.wait_for(lambda: one.condition("Broker", "default")["status"] == "False")
        assert "connection refused" in one.condition("Broker", "default")["message"]
        assert one.send(event_id="during") == 503
        checked = subprocess.run(
            [*KNIT, "check", "--connect", str(one.dir)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 1
        assert "Broker default/default: redis://127.0.0.1" in checked.stdout
        assert "connection refused (is Redis running there?)" in checked.stdout
        server.start()
        one.wait_for(lambda: one.send(event_id="after") == 202)
        one.wait_for(lambda: one.condition("Broker", "default")["status"] == "True")
        sink.wait_until(lambda seen: {"before", "after"} <= {each.id for each in seen})


def test_two_share_the_work_and_kill_9_of_each_loses_nothing(
    server: RedisServer, sink: Recorder, tmp_path: Path
) -> None:
    def slow(_seen: Seen, _before: int) -> Reply:
        return Reply(202, delay_s=0.02)

    sink.behaviours["/all"] = slow
    taken: set[str] = set()
    with mesh(server, sink, tmp_path / "one") as one, mesh(server, sink, tmp_path / "two") as two:

        def send(to: Mesh, name: str, over: threading.Event) -> None:
            number = 0
            while not over.is_set():
                number += 1
                event_id = f"{name}-{number}"
                try:
                    if to.send("ordered", event_id=event_id) == 202:
                        taken.add(event_id)
                except OSError:
                    over.wait(0.02)

        over = threading.Event()
        senders = [
            threading.Thread(target=send, args=(to, f"{name}{lane}", over))
            for to, name in ((one, "a"), (two, "b"))
            for lane in range(4)
        ]
        for sender in senders:
            sender.start()
        try:
            sink.wait("/all", 100)
            one.kill_group()
            sink.wait("/all", 400, limit_s=20)
            two.kill_group()
            two.start()
            sink.wait("/all", 600, limit_s=20)
        finally:
            over.set()
            for sender in senders:
                sender.join(20)
        for path in ("/all", "/ordered"):
            sink.wait_until(lambda seen, at=path: taken <= {s.id for s in seen if s.path == at}, limit_s=30)
        counts = Counter(seen.id for seen in sink.at("/all"))
        again = sum(count - 1 for count in counts.values())
        assert again <= 2 * 100, "what each of the two had in hand, at most"
        in_order = [seen.id for seen in sink.at("/ordered")]
        for lane in {event_id.partition("-")[0] for event_id in taken}:
            first = list(dict.fromkeys(i for i in in_order if i.startswith(f"{lane}-")))
            assert first == sorted(first, key=lambda i: int(i.partition("-")[2]))
