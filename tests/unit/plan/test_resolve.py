"""Destination → address (eventing reference §1.2, §17.12)."""

from __future__ import annotations

import pytest

from mesh.plan.model import Target
from tests.unit.plan.worlds import BROKER, World, config_map, trigger

SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {{name: sink, annotations: {{{}}}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n"
REF = "{ref: {apiVersion: v1, kind: Service, name: sink}}"
CERTIFICATE = r"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----"


def target(subscriber: str, more: str = "") -> Target | str:
    """The subscriber of a Trigger, or the error."""
    world = World(BROKER + more + trigger(subscriber=subscriber))
    if world.has_egress("trigger/default/t"):
        assert world.errors == []
        found = world.egress("trigger/default/t").subscriber
        assert found is not None
        return found
    return world.condition("Trigger", "t", "SubscriberResolved").message


def ref(kind: str, name: str, api_version: str = "eventing.knative.dev/v1", more: str = "") -> str:
    return f"{{ref: {{apiVersion: {api_version}, kind: {kind}, name: {name}{more}}}}}"


CHANNEL = "{apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, metadata: {name: c, namespace: other}}\n---\n"


def test_uri_is_taken_as_it_is_with_what_belongs_to_it() -> None:
    text = f'{{uri: "https://h/x?y=1", CACerts: "{CERTIFICATE}", audience: me}}'
    found = target(text)
    assert isinstance(found, Target)
    assert (found.url, found.topic, found.audience) == ("https://h/x?y=1", "", "me")
    assert found.ca_certs.startswith("-----BEGIN CERTIFICATE-----")


def test_objects_of_this_world_are_topics() -> None:
    assert target(ref("Broker", "default")) == Target("http://localhost:8080/default/default", "broker/default/default")
    assert target(ref("InMemoryChannel", "c", "messaging.knative.dev/v1", ", namespace: other"), CHANNEL) == Target(
        "http://localhost:8080/other/c-kn-channel", "channel/other/c"
    )


def test_certificates_and_audience_stay_with_a_reference() -> None:
    assert target("{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}, audience: me}") == Target(
        "http://localhost:8080/default/default", "broker/default/default", audience="me"
    )


def test_relative_uri_is_resolved_against_the_address() -> None:
    service = SERVICE.format("run.knit.dev/url: 'http://localhost:9000/a/b'")
    for uri, url in (
        ("/x", "http://localhost:9000/x"),
        ("x", "http://localhost:9000/a/x"),
        ("?q=1", "http://localhost:9000/a/b?q=1"),
    ):
        assert target(f"{{ref: {{apiVersion: v1, kind: Service, name: sink}}, uri: '{uri}'}}", service) == Target(url)
    found = target("{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}, uri: /x}")
    assert found == Target("http://localhost:8080/x")


def test_group_alone_names_the_kind() -> None:
    found = target("{ref: {group: eventing.knative.dev, kind: Broker, name: default}}")
    assert found == Target("http://localhost:8080/default/default", "broker/default/default")


def test_named_address() -> None:
    assert isinstance(target(ref("Broker", "default", more=", address: http")), Target)
    assert 'has no address named "https"' in str(target(ref("Broker", "default", more=", address: https")))


def test_service_gets_its_url_by_annotation() -> None:
    assert target(REF, SERVICE.format("run.knit.dev/url: 'http://localhost:9000'")) == Target("http://localhost:9000")


def test_builtin_service_is_at_the_admin_address() -> None:
    service = SERVICE.format("run.knit.dev/builtin: event-display")
    assert target(REF, service) == Target("http://localhost:8081/event-display/default/sink")
    world = World(BROKER + service + trigger(subscriber=REF), admin_url="")
    assert "the admin address is off" in world.errors[0]


@pytest.mark.parametrize("name", ["sink", "sink.default"])
@pytest.mark.parametrize("api_version", ["v1", "serving.knative.dev/v1"])
def test_table_gives_the_url_of_a_service_without_object(name: str, api_version: str) -> None:
    table = config_map("knit-services", {name: "http://localhost:9000/t"}, "anywhere")
    assert target(ref("Service", "sink", api_version), table) == Target("http://localhost:9000/t")


def test_annotation_is_read_on_a_service_of_knative_serving_too() -> None:
    service = SERVICE.format("run.knit.dev/url: 'http://localhost:9000'").replace("v1", "serving.knative.dev/v1", 1)
    assert target(ref("Service", "sink", "serving.knative.dev/v1"), service) == Target("http://localhost:9000")
    assert "does not exist" in str(target(REF, service))


def test_entry_with_a_namespace_wins_and_others_do_not_count() -> None:
    table = config_map(
        "knit-services", {"sink": "http://any", "sink.default": "http://mine", "sink.other": "http://theirs"}
    )
    assert target(REF, table) == Target("http://mine")
    assert "does not exist" in str(target(REF, config_map("knit-services", {"sink.other": "http://theirs"})))


def test_bad_entry_of_the_table_is_reported() -> None:
    world = World(config_map("knit-services", {"sink": "localhost:9000"}))
    assert [problem.path for problem in world.compiled.problems] == ["data.sink"]


@pytest.mark.parametrize(("more", "words"), [("", "does not exist"), (SERVICE.format(""), "has no URL here")])
def test_service_without_a_url_says_how_to_give_one(more: str, words: str) -> None:
    message = str(target(REF, more))
    assert words in message
    assert "run.knit.dev/url" in message
    assert "knit-services" in message
    assert "http://sink.default.svc.cluster.local" in message


def test_invalid_url_of_a_service_is_not_used() -> None:
    assert "has no URL here" in str(target(REF, SERVICE.format("run.knit.dev/url: 'localhost:9000'")))


@pytest.mark.parametrize(
    ("subscriber", "words"),
    [
        (ref("Broker", "default", "v1"), "v1 has no kind Broker; did you mean eventing.knative.dev/v1?"),
        (ref("Broker", "default", "eventing.knative.dev/v1beta1"), "is not served (use eventing.knative.dev/v1)"),
        (ref("Broker", "defualt"), "Broker default/defualt does not exist (did you mean default?)"),
        (ref("InMemoryChannel", "c", "messaging.knative.dev/v1"), "does not exist (there is one in namespace other)"),
        (ref("Trigger", "t"), "is not addressable"),
        (ref("ConfigMap", "t", "v1"), "is not addressable"),
        (
            ref("JobSink", "s", "sinks.knative.dev/v1alpha1"),
            "JobSink default/s: sinks.knative.dev/v1alpha1 JobSink is not served yet",
        ),
        (ref("Brokr", "b"), "did you mean Broker?"),
    ],
)
def test_reference_that_leads_nowhere(subscriber: str, words: str) -> None:
    assert words in str(target(subscriber, CHANNEL))


def test_unready_and_foreign_objects_have_no_address() -> None:
    unready = BROKER.replace("---", "spec: {config: {apiVersion: v1, kind: ConfigMap, name: nope}}\n---").replace(
        "default}", "sick}"
    )
    assert "Broker default/sick is not ready" in str(target(ref("Broker", "sick"), unready))
    foreign = BROKER.replace(
        "{name: default}", "{name: kafka, annotations: {eventing.knative.dev/broker.class: RabbitMQBroker}}"
    )
    assert "URL missing in address of Broker default/kafka" in str(target(ref("Broker", "kafka"), foreign))
    assert "is not ready" in str(target("{uri: 'http://localhost:8080/default/sick'}", unready))


@pytest.mark.parametrize(
    ("uri", "topic"),
    [
        ("http://localhost:8080/default/default", "broker/default/default"),
        ("http://127.0.0.1:8080/default/default/", "broker/default/default"),
        ("http://broker-ingress.knative-eventing.svc.cluster.local/default/default", "broker/default/default"),
        ("http://broker-ingress.knative-eventing.svc/default/default", "broker/default/default"),
        ("http://c-kn-channel.other.svc.cluster.local", "channel/other/c"),
        ("http://c-kn-channel.other.svc/", "channel/other/c"),
        ("http://localhost:8080/default/default?x=1", ""),
        ("http://localhost:8082/default/default", ""),
        ("http://localhost:8080/default/nobody", ""),
        ("http://example.com/default/default", ""),
    ],
)
def test_url_of_a_broker_or_channel_is_its_topic(uri: str, topic: str) -> None:
    found = target(f"{{uri: '{uri}'}}", CHANNEL)
    assert isinstance(found, Target)
    assert found.topic == topic
    if not topic:
        assert found.url == uri


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("http://sink.default.svc.cluster.local/x?y=1", "http://localhost:9000/x?y=1"),
        ("http://sink.default.svc.cluster.local", "http://localhost:9000"),
        ("http://sink.default.svc/x", "http://localhost:9000/x"),
        ("http://other.default.svc.cluster.local/x", "http://other.default.svc.cluster.local/x"),
        ("http://sink.default.example.com/x", "http://sink.default.example.com/x"),
    ],
)
def test_cluster_name_of_a_known_service_is_moved_here(uri: str, url: str) -> None:
    assert target(f"{{uri: '{uri}'}}", SERVICE.format("run.knit.dev/url: 'http://localhost:9000'")) == Target(url)
