"""Triggers: filters, inheritance, conditions, annotations (eventing reference §3.4, §5, §15)."""

from __future__ import annotations

import pytest

from mesh.delivery.policy import DeliveryPolicy
from mesh.filters.dialects import Attributes, Exact
from mesh.plan.model import Target
from tests.unit.plan.worlds import BROKER, World, config_map, trigger

DLS = "deadLetterSink: {uri: 'http://dls'}"


def broker(delivery: str, annotations: str = "") -> str:
    return (
        "apiVersion: eventing.knative.dev/v1\nkind: Broker\n"
        f"metadata: {{name: default, annotations: {{{annotations}}}}}\nspec: {{delivery: {delivery}}}\n---\n"
    )


def test_trigger_is_ready_and_answers_go_to_its_broker() -> None:
    world = World(BROKER + trigger())
    status = world.status("Trigger", "t")
    assert [(c.type, c.status) for c in status.conditions] == [
        ("BrokerReady", "True"),
        ("DeadLetterSinkResolved", "True"),
        ("DependencyReady", "True"),
        ("OIDCIdentityCreated", "True"),
        ("Ready", "True"),
        ("SubscriberResolved", "True"),
        ("SubscriptionReady", "True"),
    ]
    assert world.condition("Trigger", "t", "DeadLetterSinkResolved").reason == "DeadLetterSinkNotConfigured"
    assert status.fields == {"subscriberUri": "http://localhost:9000/"}
    egress = world.egress("trigger/default/t")
    assert egress.subscriber == Target("http://localhost:9000/")
    assert egress.reply == Target("http://localhost:8080/default/default", "broker/default/default")
    assert (egress.filters, egress.dead_letter, egress.strict_reply, egress.parallelism) == ((), None, True, 100)
    assert world.errors == []


def test_order_of_documents_does_not_matter() -> None:
    assert World(trigger() + BROKER).plan == World(BROKER + trigger()).plan


def test_delivery_of_the_broker_is_used_as_a_whole_where_the_trigger_has_none() -> None:
    world = World(
        broker(f"{{retry: 4, backoffPolicy: linear, backoffDelay: PT1S, timeout: PT7S, format: json, {DLS}}}")
        + trigger()
    )
    egress = world.egress("trigger/default/t")
    assert egress.policy == DeliveryPolicy(4, "linear", 1.0, 7.0)
    assert egress.format == "json"
    assert egress.dead_letter == Target("http://dls")
    assert world.status("Trigger", "t").fields["deadLetterSinkUri"] == "http://dls"


@pytest.mark.parametrize("own", ["{}", "{retry: 3}", "{backoffDelay: PT9S}"])
def test_own_delivery_replaces_all_but_the_dead_letter_sink(own: str) -> None:
    world = World(
        broker(f"{{retry: 4, backoffPolicy: linear, timeout: PT7S, format: json, {DLS}}}") + trigger(delivery=own)
    )
    egress = world.egress("trigger/default/t")
    assert egress.policy.retries == (3 if "retry" in own else 0)
    assert (egress.policy.backoff, egress.policy.timeout_s, egress.format) == ("", 0.0, "")
    assert egress.dead_letter == Target("http://dls")


def test_own_dead_letter_sink_wins() -> None:
    world = World(broker(f"{{{DLS}}}") + trigger(delivery="{deadLetterSink: {uri: 'http://own', audience: me}}"))
    assert world.egress("trigger/default/t").dead_letter == Target("http://own", audience="me")
    assert world.status("Trigger", "t").fields["deadLetterSinkAudience"] == "me"


def test_default_delivery_is_the_shipped_one() -> None:
    policy = World(BROKER + trigger()).egress("trigger/default/t").policy
    assert policy == DeliveryPolicy(10, "exponential", 0.2)


def test_empty_delivery_of_the_broker_stops_the_default() -> None:
    assert World(broker("{}") + trigger()).egress("trigger/default/t").policy == DeliveryPolicy()


def test_retry_after_max_is_heeded_unless_disabled() -> None:
    text = BROKER + trigger(delivery="{retry: 1, retryAfterMax: PT30S}")
    assert World(text).egress("trigger/default/t").policy.retry_after_max_s == 30.0
    world = World(text + config_map("config-features", {"delivery-retryafter": "Disabled"}))
    assert not world.has_egress("trigger/default/t")
    assert world.errors[0].startswith("spec.delivery.retryAfterMax: must not set the field")
    assert world.condition("Trigger", "t").reason == "InvalidSpec"


def test_timeout_can_be_disabled() -> None:
    world = World(
        BROKER + trigger(delivery="{timeout: PT1S}") + config_map("config-features", {"delivery-timeout": "disabled"})
    )
    assert "spec.delivery.timeout: must not set the field" in world.errors[0]


def test_filters_win_over_filter() -> None:
    world = World(BROKER + trigger(filters="[{exact: {type: a}}]", filter="{attributes: {type: b}}"))
    assert world.egress("trigger/default/t").filters == (Exact((("type", "a"),)),)
    assert [p.path for p in world.problems if p.severity == "warning"] == ["spec.filter"]


@pytest.mark.parametrize("filters", ["[]", "null"])
def test_filter_counts_where_filters_is_empty(filters: str) -> None:
    world = World(BROKER + trigger(filters=filters, filter="{attributes: {type: b}}"))
    assert world.egress("trigger/default/t").filters == (Attributes((("type", "b"),)),)


def test_broken_filter_is_not_no_filter_and_stops_nobody_else() -> None:
    world = World(BROKER + trigger("one", filters="{exact: {type: a}}") + trigger("all"))
    assert not world.has_egress("trigger/default/one")
    assert world.has_egress("trigger/default/all")
    condition = world.condition("Trigger", "one")
    assert (condition.status, condition.reason) == ("False", "InvalidSpec")
    assert condition.message in world.errors
    assert "spec.filters" in condition.message


@pytest.mark.parametrize("attributes", ["5", "[a]", "{Type: a}"])
def test_broken_attributes_are_not_no_filter(attributes: str) -> None:
    world = World(BROKER + trigger(filter=f"{{attributes: {attributes}}}"))
    assert not world.has_egress("trigger/default/t")
    assert "spec.filter.attributes" in world.errors[0]


def test_missing_broker_is_named_with_the_likely_one() -> None:
    world = World(BROKER + trigger(broker="defalt"))
    condition = world.condition("Trigger", "t", "BrokerReady")
    assert (condition.status, condition.reason) == ("False", "BrokerDoesNotExist")
    assert "did you mean default?" in condition.message
    assert world.condition("Trigger", "t").reason == "BrokerDoesNotExist"
    assert [problem.path for problem in world.problems] == ["spec.broker"]
    assert "trigger/default/t" in world.compiled.known


def test_unready_broker_is_propagated() -> None:
    text = BROKER.replace("---", "spec: {config: {apiVersion: v1, kind: ConfigMap, name: nope}}\n---")
    world = World(text + trigger())
    condition = world.condition("Trigger", "t", "BrokerReady")
    assert (condition.status, condition.reason) == ("False", "ChannelTemplateFailed")
    assert not world.has_egress("trigger/default/t")


def test_broker_ref_names_the_broker() -> None:
    world = World(BROKER + trigger(broker=None, brokerRef="{name: default}"))
    assert world.has_egress("trigger/default/t")


def test_broker_of_another_namespace_needs_the_feature() -> None:
    text = BROKER.replace("name: default", "name: b, namespace: other") + trigger(
        broker=None, brokerRef="{name: b, namespace: other}"
    )
    world = World(text)
    assert "cross-namespace-event-links" in world.errors[0]
    assert not world.is_ready("Trigger", "t")
    world = World(text + config_map("config-features", {"cross-namespace-event-links": "enabled"}))
    assert [egress.key for egress in world.topic("broker/other/b").egresses] == ["trigger/default/t"]


def test_unresolved_subscriber_clears_its_uri() -> None:
    world = World(BROKER + trigger(subscriber="{ref: {apiVersion: v1, kind: Service, name: gone}}"))
    condition = world.condition("Trigger", "t", "SubscriberResolved")
    assert (condition.status, condition.reason) == ("False", "Unable to get the Subscriber's URI")
    assert "Service default/gone does not exist" in condition.message
    assert world.status("Trigger", "t").fields == {}
    assert not world.has_egress("trigger/default/t")


def test_all_errors_show_at_once() -> None:
    world = World(
        trigger(
            broker="nope",
            subscriber="{ref: {apiVersion: v1, kind: Service, name: gone}}",
            delivery="{deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: gone2}}}",
        )
    )
    assert {problem.path for problem in world.problems} == {
        "spec.broker",
        "spec.subscriber",
        "spec.delivery.deadLetterSink",
    }
    assert (
        world.condition("Trigger", "t", "DeadLetterSinkResolved").reason == "Unable to get the dead letter sink's URI"
    )


PING = """
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {{name: tick}}
spec: {{sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: {}}}}}}}
---
"""


def dependent(kind: str = "PingSource", api_version: str = "sources.knative.dev/v1") -> str:
    value = f'{{"kind": "{kind}", "name": "tick", "apiVersion": "{api_version}"}}'
    return trigger().replace("{name: t}", f"{{name: t, annotations: {{knative.dev/dependency: '{value}'}}}}")


def test_dependency_is_waited_for() -> None:
    world = World(BROKER + PING.format("default") + dependent())
    assert world.has_egress("trigger/default/t")
    assert world.condition("Trigger", "t", "DependencyReady").status == "True"


def test_unready_dependency_is_mirrored() -> None:
    world = World(BROKER + PING.format("gone") + dependent())
    condition = world.condition("Trigger", "t", "DependencyReady")
    assert (condition.status, condition.reason) == ("False", "NotFound")
    assert not world.has_egress("trigger/default/t")


def test_missing_dependency() -> None:
    condition = World(BROKER + dependent()).condition("Trigger", "t", "DependencyReady")
    assert (condition.status, condition.reason) == ("False", "DependencyDoesNotExist")


def test_dependency_of_a_kind_that_is_not_served_is_unknown() -> None:
    text = "{apiVersion: sources.knative.dev/v1, kind: ApiServerSource, metadata: {name: tick}, spec: {}}\n---\n"
    condition = World(BROKER + text + dependent("ApiServerSource")).condition("Trigger", "t", "DependencyReady")
    assert condition.status == "Unknown"
    assert "not served yet" in condition.message


def test_dependency_without_conditions_is_unknown() -> None:
    text = "{apiVersion: v1, kind: Service, metadata: {name: tick}}\n---\n"
    condition = World(BROKER + text + dependent("Service", "v1")).condition("Trigger", "t", "DependencyReady")
    assert condition.status == "Unknown"


def test_annotations_of_the_broker_hold_where_the_trigger_has_none() -> None:
    annotations = "delivery.knit.dev/parallelism: '7', delivery.knit.dev/ignore-invalid-reply: 'true'"
    own = trigger("own").replace(
        "{name: own}",
        "{name: own, annotations: {delivery.knit.dev/parallelism: '1', delivery.knit.dev/reply-on-200-only: 'true', delivery.knit.dev/ignore-invalid-reply: 'false'}}",
    )
    world = World(broker("{}", annotations) + trigger() + own)
    inherited, mine = world.egress("trigger/default/t"), world.egress("trigger/default/own")
    assert (inherited.parallelism, inherited.ignore_invalid_reply, inherited.reply_on_200_only) == (7, True, False)
    assert (mine.parallelism, mine.ignore_invalid_reply, mine.reply_on_200_only) == (1, False, True)


def test_parallelism_of_the_process_is_the_default() -> None:
    assert World(BROKER + trigger(), parallelism=3).egress("trigger/default/t").parallelism == 3


def test_foreign_class_is_left_alone_and_said_so() -> None:
    world = World(broker("{}", "eventing.knative.dev/broker.class: RabbitMQBroker") + trigger())
    assert world.compiled.statuses == {}
    assert (world.plan.topics, world.plan.ingresses) == ((), ())
    assert [problem.resource for problem in world.compiled.ignored] == ["Broker default/default"]
    assert "RabbitMQBroker" in world.compiled.ignored[0].message
    assert world.errors == []
