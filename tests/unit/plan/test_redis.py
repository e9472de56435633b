"""RedisStreamChannel, RedisStreamSink and PluginChannel as parts of a plan."""

from __future__ import annotations

import base64

import pytest

from mesh.plan.model import Target
from tests.unit.plan.worlds import BROKER, World, config_map, trigger

SECRET = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: redis}\nstringData: {user: knit, password: s3cret}\n"
AUTH = "auth: {secret: {ref: {name: redis}}}"
LOGIN = {"username": "knit", "password": "s3cret"}


def channel(spec: str, kind: str = "RedisStreamChannel") -> str:
    return f"---\napiVersion: messaging.knit.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: c}}\nspec: {{{spec}}}\n"


def sink(spec: str) -> str:
    return f"---\napiVersion: sinks.knative.dev/v1alpha1\nkind: RedisStreamSink\nmetadata: {{name: out}}\nspec: {{{spec}}}\n"


def test_a_channel_says_where_and_how() -> None:
    spec = f"address: 'redis://h', {AUTH}, retention: PT1M, maxLength: 5, waitReplicas: 2"
    topic = World(channel(spec) + SECRET).topic("channel/default/c")
    assert (topic.backend, topic.kind) == ("redis", "RedisStreamChannel")
    expected = {"address": "redis://h", "retention_s": 60.0, "max_length": 5.0, "wait_replicas": 2.0}
    assert topic.options == expected | LOGIN


def test_data_of_a_secret_is_base64() -> None:
    data = {name: base64.b64encode(value.encode()).decode() for name, value in {"password": "s3cret"}.items()}
    secret = f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: redis}}\ndata: {data}\n"
    assert World(channel(AUTH) + secret).topic("channel/default/c").options == {"password": "s3cret"}


def test_a_broker_and_a_channel_hand_the_spec_of_their_template_on() -> None:
    template = (
        f"apiVersion: messaging.knit.dev/v1alpha1\nkind: RedisStreamChannel\nspec: {{address: 'redis://h', {AUTH}}}"
    )
    generic = (
        "---\napiVersion: messaging.knative.dev/v1\nkind: Channel\nmetadata: {name: g}\nspec: {channelTemplate: "
        "{apiVersion: messaging.knit.dev/v1alpha1, kind: RedisStreamChannel, spec: {address: 'redis://g'}}}\n"
    )
    world = World(
        BROKER
        + trigger()
        + config_map("config-br-default-channel", {"channel-template-spec": template})
        + generic
        + SECRET
    )
    assert world.topic("broker/default/default").options == {"address": "redis://h"} | LOGIN
    assert world.topic("channel/default/g").options == {"address": "redis://g"}
    assert world.status("Channel", "g").fields["channel"]["kind"] == "RedisStreamChannel"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (AUTH, "Secret default/redis does not exist"),
        ("auth: {secret: {ref: {}}}", "spec.auth.secret.ref.name: missing field"),
        ("address: 'http://h'", "spec.address: expected redis://"),
        ("retention: 5m", "spec.retention: "),
        ("maxLength: -1", "spec.maxLength: expected an integer >= 0"),
        ("adress: x", "did you mean address?"),
    ],
)
def test_what_cannot_be_is_told(spec: str, told: str) -> None:
    world = World(channel(spec))
    assert world.condition("RedisStreamChannel", "c").status == "False"
    assert told in world.condition("RedisStreamChannel", "c").message
    assert not world.plan.topics


@pytest.mark.parametrize(
    ("data", "told"),
    [("{}", "has none of the keys"), ("{user.crt: x}", "only one of user.crt and user.key")],
)
def test_a_secret_that_does_not_help_is_told(data: str, told: str) -> None:
    secret = f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: redis}}\nstringData: {data}\n"
    assert told in World(channel(AUTH) + secret).condition("RedisStreamChannel", "c").message


def test_a_sink_is_an_address_that_others_can_name() -> None:
    dial = "dialOptions: {useTLS: true, caCert: CA, password: {name: redis}}"
    ref = "{apiVersion: sinks.knative.dev/v1alpha1, kind: RedisStreamSink, name: out}"
    to_sink = trigger(subscriber=f"{{ref: {ref}}}")
    world = World(BROKER + to_sink + sink(f"address: 'redis://h', stream: s, {dial}") + SECRET)
    topic = world.topic("sink/default/out")
    expected = {"address": "rediss://h", "stream": "s", "ca": "CA", "password": "s3cret"}
    assert (topic.backend, topic.options) == ("redis-sink", expected)
    assert world.condition("RedisStreamSink", "out").status == "True"
    address = world.status("RedisStreamSink", "out").fields["address"]["url"]
    assert address == "http://localhost:8080/default/out-redis-stream-sink"
    ingress = next(each for each in world.plan.ingresses if each.topic == topic.key)
    assert ingress.hosts == ("out.default.svc.cluster.local", "out.default.svc")
    (egress,) = world.topic("broker/default/default").egresses
    assert egress.subscriber == Target(address, topic.key)


def test_a_sink_without_a_stream_is_not_ready() -> None:
    world = World(sink("address: 'redis://h'"))
    assert "spec.stream: missing field" in world.condition("RedisStreamSink", "out").message


def test_a_plugin_channel_is_kept_by_its_backend() -> None:
    world = World(channel("backend: log, options: {a: 1, b: x, c: true}", "PluginChannel"))
    topic = world.topic("channel/default/c")
    assert (topic.backend, topic.options) == ("log", {"a": 1, "b": "x", "c": True})
    wrong = World(channel("backend: mine", "PluginChannel")).condition("PluginChannel", "c")
    assert wrong.reason == "BackendNotInstalled"
    assert 'no backend named "mine" is installed' in wrong.message
