"""Keys, conditions, child names, immutable fields."""

from __future__ import annotations

import hashlib

import pytest

from mesh.resources.decode import decode, read_documents
from mesh.resources.meta import Condition, Key, Resource, Status, check_update, child_name, happy


def resource(text: str) -> Resource:
    made, _ = decode(read_documents(text, file="a.yaml")[0][0])
    assert made is not None
    return made


def test_key_reads_as_people_say_it() -> None:
    assert str(Key("eventing.knative.dev", "Trigger", "default", "one")) == "Trigger default/one"


@pytest.mark.parametrize(
    ("parent", "suffix", "name"),
    [
        ("asdf", "-deployment", "asdf-deployment"),
        ("f" * 63, "-deployment", "f" * 20 + "105d7597f637e83cc711605ac3ea4957-deployment"),
        ("f" * 63, "-deploy", "f" * 24 + "105d7597f637e83cc711605ac3ea4957-deploy"),
        ("f" * 52, "-kn-channel", "f" * 52 + "-kn-channel"),
        ("f" * 53, "-kn-channel", "f" * 20 + hashlib.md5(b"f" * 53).hexdigest() + "-kn-channel"),
        ("p", "-" + "s" * 80, "p" + hashlib.md5(b"p-" + b"s" * 80).hexdigest() + "-" + "s" * 29),
        ("p" * 40, "-" + "s" * 30, "p" * 31 + hashlib.md5(b"p" * 40 + b"-" + b"s" * 30).hexdigest()),
        ("p", "-" * 31 + "s" * 40, "p" + hashlib.md5(b"p" + b"-" * 31 + b"s" * 40).hexdigest()),
        ("asdf", "-x-", "asdf-x-"),
    ],
)
def test_child_name_is_that_of_knative(parent: str, suffix: str, name: str) -> None:
    assert child_name(parent, suffix) == name
    assert len(name) <= 63


@pytest.mark.parametrize(
    ("statuses", "ready"),
    [
        (("True", "True"), "True"),
        (("True", "Unknown"), "Unknown"),
        (("Unknown", "False"), "False"),
        ((), "True"),
    ],
)
def test_ready_is_the_worst_of_its_dependents(statuses: tuple[str, ...], ready: str) -> None:
    conditions = [Condition(f"C{n}", status, f"R{n}", f"M{n}") for n, status in enumerate(statuses)]  # type: ignore[arg-type]  # texts of the table
    found = happy(conditions)
    assert found.status == ready
    if ready != "True":
        worst = statuses.index(ready)
        assert (found.reason, found.message) == (f"R{worst}", f"M{worst}")


def test_severity_is_written() -> None:
    assert Condition("A", "True", severity="Info").to_dict() == {"type": "A", "status": "True", "severity": "Info"}


def test_condition_with_a_severity_does_not_count() -> None:
    assert happy([Condition("A", "True"), Condition("B", "False", severity="Info")]).status == "True"


def test_status_is_written_as_knative_writes_it() -> None:
    status = Status((Condition("Addressable", "False", "NoAddress", "none"), Condition("Ready", "True")), {"a": 1})
    assert status.to_dict(3, {"Ready": "2024-01-01T00:00:00Z"}) == {
        "observedGeneration": 3,
        "conditions": [
            {"type": "Addressable", "status": "False", "reason": "NoAddress", "message": "none"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"},
        ],
        "a": 1,
    }
    assert status.ready.status == "True"
    assert Status().ready.status == "Unknown"


TRIGGER = """
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: t}}
spec: {{{}, subscriber: {{uri: 'http://{}'}}}}
"""
CHANNEL = "{{apiVersion: messaging.knative.dev/v1, kind: {}, metadata: {{name: c}}, spec: {{{}}}}}"
BROKER = (
    "{{apiVersion: eventing.knative.dev/v1, kind: Broker, metadata: {{name: b, annotations: {{{}}}}}, spec: {{{}}}}}"
)
CLASS = "eventing.knative.dev/broker.class: "
CONFIG = "config: {{apiVersion: v1, kind: ConfigMap, name: {}}}"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (TRIGGER.format("broker: a", "h"), TRIGGER.format("broker: b", "h"), "spec.broker"),
        (
            CHANNEL.format("Channel", "delivery: {retry: 1}"),
            CHANNEL.format("Channel", "delivery: {retry: 2}"),
            "spec.delivery",
        ),
        (
            BROKER.format(CLASS + "Kafka", ""),
            BROKER.format("", ""),
            "metadata.annotations.eventing.knative.dev/broker.class",
        ),
        (
            CHANNEL.format("Channel", "channelTemplate: {spec: {a: [true, x]}}"),
            CHANNEL.format("Channel", "channelTemplate: {spec: {a: [false, x]}}"),
            "spec.channelTemplate",
        ),
        (BROKER.format("", CONFIG.format("a")), BROKER.format("", CONFIG.format("b")), "spec.config"),
        (
            CHANNEL.format("Subscription", "channel: {kind: Channel, name: a}"),
            CHANNEL.format("Subscription", "channel: {kind: Channel, name: b}"),
            "spec.channel",
        ),
    ],
)
def test_immutable_field_is_named_with_both_values(old: str, new: str, path: str) -> None:
    problems = check_update(resource(old), resource(new))
    assert [problem.path for problem in problems] == [path]
    assert problems[0].message.startswith("Immutable field changed (-old +new): -")
    assert problems[0].severity == "error"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TRIGGER.format("broker: a", "h"), TRIGGER.format("broker: a", "other")),
        (TRIGGER.format("brokerRef: {name: a}", "h"), TRIGGER.format("brokerRef: {name: b}", "h")),
        (BROKER.format("", ""), BROKER.format(CLASS + "MTChannelBasedBroker", "delivery: {retry: 1}")),
        (CHANNEL.format("InMemoryChannel", ""), CHANNEL.format("InMemoryChannel", "delivery: {retry: 2}")),
        (
            CHANNEL.format("Subscription", "channel: {kind: Channel, name: a}"),
            CHANNEL.format("Subscription", "channel: {kind: Channel, name: a}, delivery: {retry: 2}"),
        ),
    ],
)
def test_other_fields_may_change(old: str, new: str) -> None:
    assert check_update(resource(old), resource(new)) == []


def test_change_is_told_in_full() -> None:
    old = CHANNEL.format("Channel", "channelTemplate: {spec: {a: [true, x]}}")
    (problem,) = check_update(resource(old), resource(CHANNEL.format("Channel", "")))
    assert problem.message == "Immutable field changed (-old +new): -{spec: {a: [true, x]}} +nothing"
