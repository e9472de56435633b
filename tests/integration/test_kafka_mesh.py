"""`knit run` on a real Kafka: Brokers of Knative's Kafka classes, KafkaChannel, KafkaSink, seen from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from tests.servers.kafka import PASSWORD, USER, Kafka
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Reply, event_reply

KAFKA = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: kafka-broker-config, namespace: knative-eventing}}
data:
  bootstrap.servers: "{bootstrap}"
  default.topic.partitions: "{partitions}"
  default.topic.replication.factor: "1"
  default.topic.config.retention.ms: "3600000"
{auth}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: kafka-channel-config, namespace: knative-eventing}}
data: {{bootstrap.servers: "{bootstrap}"}}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: {name}, annotations: {{eventing.knative.dev/broker.class: Kafka}}}}
spec: {{delivery: {{retry: 3, backoffDelay: PT0.05S, backoffPolicy: linear}}}}
"""
TRIGGER = """\
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: {name}-{path}, annotations: {{kafka.eventing.knative.dev/delivery.order: {order}}}}}
spec:
  broker: {name}
  filters: [{{prefix: {{type: "{prefix}"}}}}]
  subscriber: {{uri: "http://127.0.0.1:{port}/{path}"}}
"""


@pytest.fixture
def name() -> str:
    return "b" + uuid.uuid4().hex[:8]


def world(kafka: Kafka, name: str, *, partitions: int = 3, bootstrap: str = "", auth: str = "") -> str:
    return KAFKA.format(bootstrap=bootstrap or kafka.bootstrap, name=name, partitions=partitions, auth=auth)


def trigger(name: str, sink: Recorder, path: str, *, prefix: str = "t", order: str = "unordered") -> str:
    return TRIGGER.format(name=name, path=path, port=sink.port, prefix=prefix, order=order)


def path(name: str) -> str:
    return f"/default/{name}"


async def records(kafka: Kafka, topic: str) -> list[Any]:
    """Everything a topic holds."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        parts = list(consumer.assignment())
        await consumer.seek_to_beginning(*parts)
        ends = await consumer.end_offsets(parts)
        found: list[Any] = []
        while any([await consumer.position(part) < end for part, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


def test_a_kafka_broker_delivers_replies_and_writes_records_as_knative_does(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        sink.behaviours["/a"] = lambda seen, _: event_reply("answer") if seen.headers["ce-type"] == "t" else Reply()
        text = world(kafka, name) + trigger(name, sink, "a") + trigger(name, sink, "replies", prefix="answer")
        with Mesh(text, workers=2) as mesh:
            assert mesh.send("t", path=path(name), event_id="1", ce_partitionkey="k") == 202
            sink.wait("/a", 1)
            (reply,) = sink.wait("/replies", 1)
            assert reply.headers["ce-type"] == "answer"
            assert mesh.condition("Broker", name)["status"] == "True"
            status = mesh.status("Broker", name)
            assert status["annotations"]["default.topic"] == f"knative-broker-default-{name}"
            group = mesh.status("Trigger", f"{name}-a")["annotations"]["group.id"]
            assert group == f"knative-trigger-default-{name}-a"
    first = next(r for r in asyncio.run(records(kafka, f"knative-broker-default-{name}")) if r.key == b"k")
    assert dict(first.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"1",
        "ce_source": b"/s",
        "ce_type": b"t",
        "ce_partitionkey": b"k",
        "content-type": b"application/json",
    }
    assert first.value == b'{"a":1}'


def test_positions_are_where_knative_and_lag_tools_look(kafka: Kafka, name: str) -> None:
    topic = f"knative-broker-default-{name}"
    with Recorder() as sink:
        with Mesh(world(kafka, name) + trigger(name, sink, "a")) as mesh:
            for number in range(30):
                assert mesh.send(path=path(name), event_id=str(number)) == 202
            sink.wait("/a", 30)

        async def offsets() -> int:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
            await admin.start()
            found = await admin.list_consumer_group_offsets(f"knative-trigger-default-{name}-a")
            await admin.close()
            return sum(each.offset for part, each in found.items() if part.topic == topic)

        assert asyncio.run(offsets()) == 30

        async def take_over() -> list[bytes]:
            """Knative's dispatcher: an ordinary member of the Trigger's group."""
            producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
            await producer.start()
            await producer.send_and_wait(topic, b"next")
            await producer.stop()
            consumer = AIOKafkaConsumer(
                topic, bootstrap_servers=kafka.bootstrap, group_id=f"knative-trigger-default-{name}-a",
                auto_offset_reset="earliest", enable_auto_commit=False,
            )  # fmt: skip
            await consumer.start()
            record = await asyncio.wait_for(consumer.getone(), 10)
            await consumer.stop()
            return [record.value]

        assert asyncio.run(take_over()) == [b"next"]


def test_what_was_not_delivered_comes_after_a_restart_and_kill_9(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        sink.behaviours["/a"] = lambda *_: Reply(503)
        text = world(kafka, name) + trigger(name, sink, "a").replace(
            "  subscriber", "  delivery: {retry: 1000, backoffDelay: PT0.05S, backoffPolicy: linear}\n  subscriber"
        )
        with Mesh(text, workers=2) as mesh:
            for number in range(20):
                assert mesh.send(path=path(name), event_id=str(number)) == 202
            sink.wait("/a", 20)
            mesh.kill_group()
            sink.behaviours["/a"] = lambda *_: Reply()
            before = len(sink.seen)
            mesh.start()
            mesh.wait_for(lambda: {s.id for s in sink.seen[before:]} == {str(n) for n in range(20)}, limit_s=25)
        assert max(Counter(seen.id for seen in sink.seen[before:]).values()) == 1


def test_attempts_survive_kill_9_and_the_dead_letter_is_reached(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        sink.behaviours["/a"] = lambda *_: Reply(503)
        delivery = (
            f"  delivery: {{retry: 5, backoffDelay: PT0.4S, backoffPolicy: linear, "
            f"deadLetterSink: {{uri: 'http://127.0.0.1:{sink.port}/dead'}}}}\n  subscriber"
        )
        with Mesh(world(kafka, name) + trigger(name, sink, "a").replace("  subscriber", delivery)) as mesh:
            assert mesh.send(path=path(name), event_id="poison") == 202
            crashes = 0
            for attempts in (2, 3):
                sink.wait("/a", attempts)
                mesh.kill_group()
                crashes += 1
                mesh.start()
            (dead,) = sink.wait("/dead", 1, limit_s=40)
            assert dead.headers["ce-knativeerrorcode"] == "503"
        tried = sum(seen.path == "/a" for seen in sink.seen)
        assert 6 <= tried <= 6 + crashes


def test_ordered_is_one_after_the_other_in_each_partition(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        sink.behaviours["/a"] = lambda seen, count: Reply(503) if count % 7 == 0 else Reply()
        with Mesh(world(kafka, name) + trigger(name, sink, "a", order="Ordered"), workers=2) as mesh:
            for number in range(60):
                assert mesh.send(path=path(name), event_id=str(number), ce_partitionkey=f"k{number % 5}") == 202
            mesh.wait_for(lambda: len({seen.id for seen in sink.seen}) == 60, limit_s=20)
        for key in range(5):
            first = list(dict.fromkeys(int(s.id) for s in sink.seen if s.headers["ce-partitionkey"] == f"k{key}"))
            assert first == sorted(first)


def test_channels_and_sinks(kafka: Kafka, name: str) -> None:
    text = f"""
---
apiVersion: messaging.knative.dev/v1beta1
kind: KafkaChannel
metadata: {{name: c{name}}}
spec: {{numPartitions: 2, replicationFactor: 1, retentionDuration: PT1H}}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {{name: s}}
spec:
  channel: {{apiVersion: messaging.knative.dev/v1, kind: KafkaChannel, name: c{name}}}
  subscriber: {{uri: "http://127.0.0.1:PORT/a"}}
---
apiVersion: eventing.knative.dev/v1alpha1
kind: KafkaSink
metadata: {{name: k{name}}}
spec: {{topic: "out-{name}", bootstrapServers: ["{kafka.bootstrap}"], numPartitions: 1, replicationFactor: 1, contentMode: structured}}
"""
    with Recorder() as sink, Mesh(world(kafka, name) + text.replace("PORT", str(sink.port))) as mesh:
        assert mesh.send(path=f"/default/c{name}-kn-channel", event_id="c") == 202
        sink.wait("/a", 1)
        assert mesh.send(path=f"/default/k{name}", event_id="k") == 202
        assert mesh.condition("KafkaChannel", f"c{name}")["status"] == "True"
        assert mesh.condition("KafkaSink", f"k{name}")["status"] == "True"
    (record,) = asyncio.run(records(kafka, f"knative-messaging-kafka.default.c{name}"))
    assert ("ce_id", b"c") in record.headers
    (record,) = asyncio.run(records(kafka, f"out-{name}"))
    assert record.headers == (("content-type", b"application/cloudevents+json"),)
    assert b'"id":"k"' in record.value


def test_topics_go_with_their_broker_and_external_ones_stay(kafka: Kafka, name: str) -> None:
    external = f"external-{name}"

    async def topics(make: str = "") -> set[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        if make:
            await admin.create_topics([NewTopic(make, 1, 1)])
        found = set(await admin.list_topics())
        await admin.close()
        return found

    asyncio.run(topics(external))
    other = f"""
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: e{name}
  annotations: {{eventing.knative.dev/broker.class: Kafka, kafka.eventing.knative.dev/external.topic: {external}}}
"""
    with Recorder() as sink, Mesh(world(kafka, name) + other + trigger(f"e{name}", sink, "a")) as mesh:
        assert mesh.send(path=path(name)) == mesh.send(path=path(f"e{name}")) == 202
        sink.wait("/a", 1)
        assert {f"knative-broker-default-{name}", external} <= asyncio.run(topics())
        (mesh.dir / "mesh.yaml").write_text(world(kafka, name).split("---\napiVersion: eventing")[0])
        mesh.wait_for(lambda: f"knative-broker-default-{name}" not in asyncio.run(topics()))
        assert external in asyncio.run(topics())


def test_a_password_that_changes_is_taken_up(kafka: Kafka, name: str) -> None:
    def text(password: str) -> str:
        secret = f"""---
apiVersion: v1
kind: Secret
metadata: {{name: kafka-login, namespace: knative-eventing}}
stringData: {{protocol: SASL_PLAINTEXT, sasl.mechanism: SCRAM-SHA-512, user: {USER}, password: {password}}}
"""
        auth = "  auth.secret.ref.name: kafka-login"
        return world(kafka, name, bootstrap=kafka.sasl, auth=auth) + secret

    with Mesh(text("wrong"), env={"KNIT_KAFKA_PUBLISH_TIMEOUT_S": "2"}) as mesh:
        assert mesh.send(path=path(name)) == 503
        assert "password" not in mesh.text("/api/v1/resources").lower()
        (mesh.dir / "mesh.yaml").write_text(text(PASSWORD))
        mesh.wait_for(lambda: mesh.send(path=path(name)) == 202, limit_s=20)


def test_a_worker_that_is_killed_leaves_its_partitions_to_the_other(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        text = world(kafka, name, partitions=6) + trigger(name, sink, "a")
        with Mesh(text) as one, Mesh(text) as two:
            for number in range(40):
                assert (one, two)[number % 2].send(path=path(name), event_id=str(number)) == 202
            sink.wait("/a", 40)
            one.kill_group()
            for number in range(40, 80):
                assert two.send(path=path(name), event_id=str(number)) == 202
            two.wait_for(lambda: len({seen.id for seen in sink.seen}) == 80, limit_s=30)
            one.start()


def test_a_kafka_that_stops_answers_503_and_is_used_again_without_a_restart(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        env = {"KNIT_KAFKA_PUBLISH_TIMEOUT_S": "2"}
        with Mesh(world(kafka, name) + trigger(name, sink, "a"), env=env) as mesh:
            assert mesh.send(path=path(name), event_id="before") == 202
            sink.wait("/a", 1)
            kafka.kill()
            status, headers, body = mesh.post(path(name), binary(event_id="refused"))
            assert (status, headers["retry-after"]) == (503, "1")
            assert b"afka" in body
            assert mesh.wait_for(lambda: mesh.condition("Broker", name)["status"] == "False")
            assert mesh.condition("Broker", name, "TopicReady")["reason"] == "BackendNotReady"
            kafka.start(1)
            mesh.wait_for(lambda: mesh.send(path=path(name), event_id="after") == 202, limit_s=30)
            mesh.wait_for(lambda: "after" in {seen.id for seen in sink.seen}, limit_s=30)
            mesh.wait_for(lambda: mesh.condition("Broker", name)["status"] == "True")


def test_a_trigger_whose_group_somebody_else_is_a_member_of_says_so_and_stays_away(kafka: Kafka, name: str) -> None:
    group = f"knative-trigger-default-{name}-a"

    async def occupied(mesh: Mesh) -> None:
        other = AIOKafkaConsumer(f"knative-broker-default-{name}", bootstrap_servers=kafka.bootstrap, group_id=group)
        await other.start()
        (mesh.dir / "trigger.yaml").write_text(text)
        await asyncio.to_thread(mesh.wait_for, lambda: ready().get("status") == "False")
        assert "UnknownMemberId" in ready()["message"]
        await other.stop()

    with Recorder() as sink, Mesh(world(kafka, name)) as mesh:

        def ready() -> dict[str, Any]:
            return mesh.condition("Trigger", f"{name}-a")

        text = trigger(name, sink, "a")
        assert mesh.send(path=path(name), event_id="0") == 202
        asyncio.run(occupied(mesh))
        mesh.wait_for(lambda: ready()["status"] == "True", limit_s=15)
        assert mesh.send(path=path(name), event_id="1") == 202
        assert sink.wait("/a")[0].id == "1"


def test_a_position_that_an_operator_moves_is_heeded(kafka: Kafka, name: str) -> None:
    async def rewind() -> None:
        other = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap, group_id=f"knative-trigger-default-{name}-a", enable_auto_commit=False
        )
        await other.start()
        part = TopicPartition(f"knative-broker-default-{name}", 0)
        other.assign([part])
        await other.commit({part: 2})
        await other.stop()

    with Recorder() as sink, Mesh(world(kafka, name, partitions=1) + trigger(name, sink, "a")) as mesh:
        for number in range(5):
            assert mesh.send(path=path(name), event_id=str(number)) == 202
        sink.wait("/a", 5)
        mesh.wait_for(lambda: mesh.condition("Trigger", f"{name}-a")["status"] == "True")
        asyncio.run(asyncio.sleep(0.3))  # ours is stored by then
        asyncio.run(rewind())
        assert mesh.send(path=path(name), event_id="5") == 202
        mesh.wait_for(lambda: Counter(seen.id for seen in sink.seen)["4"] == 2)
        assert Counter(seen.id for seen in sink.seen) == Counter({"0": 1, "1": 1, "2": 2, "3": 2, "4": 2, "5": 2})


def test_a_frozen_kafka_answers_503_within_the_limit(kafka: Kafka, name: str) -> None:
    with Recorder() as sink:
        env = {"KNIT_KAFKA_PUBLISH_TIMEOUT_S": "2"}
        with Mesh(world(kafka, name) + trigger(name, sink, "a"), env=env) as mesh:
            assert mesh.send(path=path(name), event_id="before") == 202
            kafka.pause()
            try:
                loop = asyncio.new_event_loop()
                begun = loop.time()
                assert mesh.send(path=path(name), event_id="refused") == 503
                assert loop.time() - begun < 4
                loop.close()
            finally:
                kafka.resume()
            mesh.wait_for(lambda: mesh.send(path=path(name), event_id="after") == 202, limit_s=30)
            mesh.wait_for(lambda: "after" in {seen.id for seen in sink.seen}, limit_s=30)


def test_a_record_that_is_no_event_is_passed_over(kafka: Kafka, name: str) -> None:
    async def spoil() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        await producer.start()
        for number in range(3):
            await producer.send_and_wait(f"knative-broker-default-{name}", b"rubbish", partition=number)
        await producer.stop()

    with Recorder() as sink, Mesh(world(kafka, name) + trigger(name, sink, "a")) as mesh:
        assert mesh.send(path=path(name), event_id="1") == 202
        asyncio.run(spoil())
        assert mesh.send(path=path(name), event_id="2") == 202
        mesh.wait_for(lambda: {"1", "2"} == {seen.id for seen in sink.seen})
        mesh.wait_for(lambda: "kafka record is no event" in mesh.output.read_text())


def test_a_worker_that_is_killed_alone_loses_nothing(kafka: Kafka, name: str) -> None:
    with Recorder() as sink, Mesh(world(kafka, name) + trigger(name, sink, "a"), workers=2) as mesh:
        for number in range(20):
            assert mesh.send(path=path(name), event_id=str(number)) == 202
        os.kill(mesh.worker_pids()[0], signal.SIGKILL)
        mesh.wait_for(lambda: len({seen.id for seen in sink.seen}) == 20, limit_s=30)
