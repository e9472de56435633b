"""Channels and Subscriptions: what stands behind, addresses, inheritance, conditions (eventing reference §3.4, §6, §15)."""

from __future__ import annotations

import pytest

from mesh.delivery.policy import DeliveryPolicy
from mesh.plan.model import Ingress, Target
from tests.unit.plan.worlds import BROKER, World, config_map


def channel(kind: str = "Channel", spec: str = "{}", *, name: str = "c", annotations: str = "") -> str:
    group = "messaging.knit.dev/v1alpha1" if kind == "LogChannel" else "messaging.knative.dev/v1"
    metadata = f"{{name: {name}, annotations: {{{annotations}}}}}"
    return f"apiVersion: {group}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n---\n"


def subscription(
    rest: str = "", *, kind: str = "Channel", name: str = "s", of: str = "c", annotations: str = ""
) -> str:
    group = "messaging.knit.dev/v1alpha1" if kind == "LogChannel" else "messaging.knative.dev/v1"
    return (
        f"apiVersion: messaging.knative.dev/v1\nkind: Subscription\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n"
        f"spec: {{channel: {{apiVersion: {group}, kind: {kind}, name: {of}}}, subscriber: {{uri: 'http://h'}}, {rest}}}\n---\n"
    )


MEMORY = "channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel"
DLS = "deadLetterSink: {uri: 'http://dls'}"
URL = "http://localhost:8080/default/c-kn-channel"


def test_channel_stands_on_the_log_by_default() -> None:
    world = World(channel())
    topic = world.topic("channel/default/c")
    assert (topic.kind, topic.backend, topic.is_broker) == ("LogChannel", "log", False)
    hosts = ("c-kn-channel.default.svc.cluster.local", "c-kn-channel.default.svc", "c-kn-channel.default")
    assert world.plan.ingresses == (Ingress(("/default/c-kn-channel",), hosts, "channel/default/c"),)
    status = world.status("Channel", "c")
    assert [c.type for c in status.conditions] == [
        "Addressable",
        "BackingChannelReady",
        "DeadLetterSinkResolved",
        "EventPoliciesReady",
        "Ready",
    ]
    assert all(condition.status == "True" for condition in status.conditions)
    assert status.fields == {
        "address": {"name": "http", "url": URL},
        "channel": {
            "apiVersion": "messaging.knit.dev/v1alpha1",
            "kind": "LogChannel",
            "name": "c",
            "namespace": "default",
        },
    }


def test_template_says_what_stands_behind() -> None:
    world = World(channel(spec=f"{{{MEMORY}}}}}"))
    assert world.topic("channel/default/c").backend == "memory"
    assert world.status("Channel", "c").fields["channel"]["kind"] == "InMemoryChannel"


def webhook(text: str) -> str:
    return config_map("default-ch-webhook", {"default-ch-config": text})


CLUSTER = "clusterDefault: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel}\n"


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        (CLUSTER, "memory"),
        (CLUSTER + "namespaceDefaults: {default: {apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel}}", "log"),
        (CLUSTER + "namespaceDefaults: {other: {apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel}}", "memory"),
        ("{}", "log"),
    ],
)
def test_webhook_config_gives_the_template(text: str, backend: str) -> None:
    assert World(channel() + webhook(text)).topic("channel/default/c").backend == backend


def test_delivery_of_a_template_is_the_default_of_the_channel() -> None:
    spec = f"{{{MEMORY}, spec: {{delivery: {{retry: 4}}}}}}}}"
    world = World(channel(spec=spec) + subscription())
    assert world.egress("subscription/default/s").policy.retries == 4


@pytest.mark.parametrize(
    ("spec", "words", "path"),
    [
        (
            "{channelTemplate: {apiVersion: messaging.knative.dev/v1alpha7, kind: InMemoryChannel}}",
            "spec.channelTemplate.apiVersion: messaging.knative.dev/v1alpha7 has no InMemoryChannel; use messaging.knative.dev/v1",
            "spec.channelTemplate.apiVersion",
        ),
        (
            "{channelTemplate: {apiVersion: messaging.knative.dev/v1beta1, kind: NatsJetStreamChannel}}",
            "messaging.knative.dev/v1beta1 NatsJetStreamChannel comes with another version",
            "spec.channelTemplate",
        ),
        (
            f"{{{MEMORY}, spec: {{delivery: {{retry: x}}}}}}}}",
            "spec.delivery.retry: expected an integer",
            "spec.channelTemplate",
        ),
    ],
)
def test_template_that_cannot_be_used(spec: str, words: str, path: str) -> None:
    world = World(channel(spec=spec) + subscription())
    condition = world.condition("Channel", "c", "BackingChannelReady")
    assert (condition.status, condition.reason) == ("False", "ChannelFailure")
    assert words in condition.message
    assert world.compiled.problems[0].path == path
    assert world.plan.ingresses[0].topic == ""
    blocked = world.condition("Subscription", "s", "ChannelReady")
    assert (blocked.status, blocked.reason) == ("False", "SubscriptionNotMarkedReadyByChannel")


@pytest.mark.parametrize("text", ["[", "clusterDefault: 5", "clusterDefault: {apiVersion: v1, kind: Queue}"])
def test_broken_webhook_config_blocks_channels_that_need_it(text: str) -> None:
    world = World(channel() + webhook(text) + channel(spec=f"{{{MEMORY}}}}}", name="own"))
    assert "default-ch-webhook" in world.condition("Channel", "c").message
    assert world.is_ready("Channel", "own")


@pytest.mark.parametrize(
    ("kind", "annotations", "backend", "options"),
    [
        ("InMemoryChannel", "", "memory", {"sync": True}),
        ("InMemoryChannel", "messaging.knative.dev/async-handler: 'true'", "memory", {"sync": False}),
        ("InMemoryChannel", "messaging.knative.dev/async-handler: '0'", "memory", {"sync": True}),
        ("LogChannel", "", "log", {}),
        ("LogChannel", "log.knit.dev/retention: PT1H", "log", {"retention_s": 3600.0}),
    ],
)
def test_channels_that_hold_events(kind: str, annotations: str, backend: str, options: dict[str, object]) -> None:
    world = World(channel(kind, annotations=annotations))
    topic = world.topic("channel/default/c")
    assert (topic.kind, topic.backend, topic.options) == (kind, backend, options)
    status = world.status(kind, "c")
    assert [(c.type, c.status, c.severity) for c in status.conditions] == [
        ("Addressable", "True", ""),
        ("ChannelServiceReady", "True", ""),
        ("DeadLetterSinkResolved", "True", ""),
        ("DispatcherReady", "True", "Info"),
        ("EndpointsReady", "True", ""),
        ("EventPoliciesReady", "True", ""),
        ("Ready", "True", ""),
        ("ServiceReady", "True", ""),
    ]
    assert status.fields == {"address": {"name": "http", "url": URL}}


def test_annotations_of_a_channel_reach_what_stands_behind() -> None:
    world = World(channel(spec=f"{{{MEMORY}}}}}", annotations="messaging.knative.dev/async-handler: 'true'"))
    assert world.topic("channel/default/c").options == {"sync": False}


def test_channel_and_what_stands_behind_are_one_topic() -> None:
    text = (
        channel(spec=f"{{{MEMORY}, spec: {{}}}}}}") + subscription() + subscription(kind="InMemoryChannel", name="s2")
    )
    for world in (World(text), World(text + channel("InMemoryChannel", "{delivery: {retry: 2}}"))):
        keys = [egress.key for egress in world.topic("channel/default/c").egresses]
        assert keys == ["subscription/default/s", "subscription/default/s2"]
        assert len(world.plan.topics) == len(world.plan.ingresses) == 1
        assert world.errors == []
    assert world.egress("subscription/default/s").policy.retries == 2
    assert world.is_ready("Channel", "c")
    assert world.is_ready("InMemoryChannel", "c")


def test_channel_over_an_invalid_backing_channel_says_so() -> None:
    world = World(channel(spec=f"{{{MEMORY}}}}}") + channel("InMemoryChannel", "{delivery: {retry: x}}"))
    condition = world.condition("Channel", "c", "BackingChannelReady")
    assert condition.status == "False"
    assert "spec.delivery.retry" in condition.message
    assert world.condition("InMemoryChannel", "c").reason == "InvalidSpec"


def test_two_channels_of_one_name_cannot_have_one_address() -> None:
    world = World(channel("InMemoryChannel") + channel("LogChannel"))
    assert world.is_ready("InMemoryChannel", "c")
    assert world.condition("LogChannel", "c").reason == "AddressTaken"
    assert [topic.kind for topic in world.plan.topics] == ["InMemoryChannel"]


def test_invalid_channel_answers_and_says_why() -> None:
    world = World(channel(spec="{subscribers: [{uid: a}]}"))
    assert world.condition("Channel", "c").reason == "InvalidSpec"
    assert "subscribers on a Channel are not allowed" in world.plan.ingresses[0].not_ready


def test_long_names_are_cut_as_knative_cuts_them() -> None:
    world = World(channel(name="c" * 60))
    (ingress,) = world.plan.ingresses
    assert len(ingress.paths[0].removeprefix("/default/")) == 63
    assert ingress.paths[0].endswith("-kn-channel")


# Subscriptions.


def test_subscription_is_ready_and_written_as_knative_writes_it() -> None:
    reply = "reply: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}"
    world = World(channel() + BROKER + subscription(reply))
    status = world.status("Subscription", "s")
    assert [(c.type, c.status) for c in status.conditions] == [
        ("AddedToChannel", "True"),
        ("ChannelReady", "True"),
        ("OIDCIdentityCreated", "True"),
        ("Ready", "True"),
        ("ReferencesResolved", "True"),
    ]
    assert status.fields == {
        "physicalSubscription": {"subscriberUri": "http://h", "replyUri": "http://localhost:8080/default/default"}
    }
    egress = world.egress("subscription/default/s")
    assert egress.reply == Target("http://localhost:8080/default/default", "broker/default/default")
    assert (egress.kind, egress.strict_reply, egress.dead_letter) == ("Subscription", False, None)


def test_channel_gives_retries_and_sink_to_subscriptions_without_delivery() -> None:
    spec = f"{{delivery: {{retry: 4, backoffPolicy: linear, backoffDelay: PT1S, timeout: PT7S, retryAfterMax: PT9S, format: json, {DLS}}}}}"
    egress = World(channel(spec=spec) + subscription()).egress("subscription/default/s")
    assert egress.policy == DeliveryPolicy(4, "linear", 1.0, 7.0, 9.0)
    assert (egress.dead_letter, egress.format) == (Target("http://dls"), "")


def test_own_delivery_hides_the_retries_of_the_channel_and_not_its_sink() -> None:
    world = World(
        channel(spec=f"{{delivery: {{retry: 4, timeout: PT7S, {DLS}}}}}")
        + subscription("delivery: {backoffDelay: PT1S}")
    )
    egress = world.egress("subscription/default/s")
    assert egress.policy == DeliveryPolicy(0, "", 1.0)
    assert egress.dead_letter == Target("http://dls")
    assert world.status("Subscription", "s").fields["physicalSubscription"]["deadLetterSinkUri"] == "http://dls"


def test_own_dead_letter_sink_wins() -> None:
    world = World(
        channel(spec=f"{{delivery: {{{DLS}}}}}") + subscription("delivery: {deadLetterSink: {uri: 'http://own'}}")
    )
    assert world.egress("subscription/default/s").dead_letter == Target("http://own")


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        (subscription(of="x"), "ChannelReferenceFailed", "Channel default/x does not exist"),
        (subscription(of="cc"), "ChannelReferenceFailed", "did you mean c?"),
        (
            subscription("reply: {ref: {apiVersion: v1, kind: Service, name: x}}"),
            "ReplyResolveFailed",
            "Failed to resolve spec.reply",
        ),
        (
            subscription("delivery: {deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: x}}}"),
            "DeadLetterSinkResolveFailed",
            "Failed to resolve spec.delivery.deadLetterSink",
        ),
        (
            subscription().replace("{uri: 'http://h'}", "{ref: {apiVersion: v1, kind: Service, name: x}}"),
            "SubscriberResolveFailed",
            "Failed to resolve spec.subscriber",
        ),
        (subscription(kind="NatsJetStreamChannel"), "ChannelReferenceFailed", "not served yet"),
        (subscription(kind="Subscription"), "ChannelReferenceFailed", "is no channel"),
        (subscription(kind="Broker"), "ChannelReferenceFailed", "did you mean eventing.knative.dev/v1"),
        (
            subscription().replace(
                "channel: {apiVersion: messaging.knative.dev/v1", "channel: {apiVersion: messaging.knative.dev/v1beta1"
            ),
            "ChannelReferenceFailed",
            "use messaging.knative.dev/v1",
        ),
    ],
)
def test_reference_that_fails_gives_the_reason(text: str, reason: str, words: str) -> None:
    world = World(channel() + text)
    condition = world.condition("Subscription", "s", "ReferencesResolved")
    assert (condition.status, condition.reason) == ("False", reason)
    assert words in condition.message
    assert not world.has_egress("subscription/default/s")
    assert world.condition("Subscription", "s").reason == reason


def test_all_references_that_fail_are_reported() -> None:
    missing = "{ref: {apiVersion: v1, kind: Service, name: x}}"
    world = World(subscription(f"reply: {missing}").replace("{uri: 'http://h'}", missing))
    assert {problem.path for problem in world.problems} == {"spec.channel", "spec.subscriber", "spec.reply"}


def test_channel_of_another_namespace_needs_the_feature() -> None:
    text = channel().replace("{name: c,", "{name: c, namespace: other,") + subscription().replace(
        "name: c}", "name: c, namespace: other}"
    )
    assert "cross-namespace-event-links" in World(text).errors[0]
    world = World(text + config_map("config-features", {"cross-namespace-event-links": "enabled"}))
    assert [egress.key for egress in world.topic("channel/other/c").egresses] == ["subscription/default/s"]


def test_features_are_checked_on_channels_and_subscriptions() -> None:
    features = config_map("config-features", {"delivery-retryafter": "disabled"})
    delivery = "delivery: {retryAfterMax: PT1S}"
    world = World(
        features
        + channel("LogChannel", f"{{{delivery}}}", name="a")
        + channel(spec=f"{{{delivery}}}", name="b")
        + subscription(delivery)
    )
    assert [p.resource for p in world.problems if "must not set" in p.message] == [
        "LogChannel default/a",
        "Channel default/b",
        "Subscription default/s",
    ]
    for kind, name in (("LogChannel", "a"), ("Channel", "b"), ("Subscription", "s")):
        assert "spec.delivery.retryAfterMax" in world.condition(kind, name).message


def test_annotations_of_the_channel_hold_where_the_subscription_has_none() -> None:
    text = channel(annotations="delivery.knit.dev/parallelism: '7'")
    world = World(text + subscription() + subscription(name="own", annotations="delivery.knit.dev/parallelism: '1'"))
    assert world.egress("subscription/default/s").parallelism == 7
    assert world.egress("subscription/default/own").parallelism == 1
