"""Names of kinds, columns and ages, as kubectl has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mesh.cli.table import IN_ALL, KINDS, NAME, age, find_kinds, layout, rows

NOW = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        ("trigger", ["Trigger"]),
        ("Triggers", ["Trigger"]),
        ("triggers.eventing.knative.dev", ["Trigger"]),
        ("ch", ["Channel"]),
        ("imc", ["InMemoryChannel"]),
        ("sub", ["Subscription"]),
        ("broker,trigger", ["Broker", "Trigger"]),
        ("sources", ["PingSource"]),
        ("all", [kind.kind for kind in IN_ALL]),
    ],
)
def test_a_word_means_kinds(word: str, kinds: list[str]) -> None:
    found = find_kinds(word)
    assert not isinstance(found, str)
    assert [kind.kind for kind in found] == kinds


@pytest.mark.parametrize(("word", "nearest"), [("triger", "trigger"), ("deadleter", "deadletter"), ("xyz", "")])
def test_an_unknown_word_gets_the_nearest(word: str, nearest: str) -> None:
    assert find_kinds(word) == nearest


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (192, "3m12s"), (660, "11m"), (7200, "120m"), (3 * 3600, "3h"), (47 * 3600, "47h"), (48 * 3600, "2d"), (-5, "0s")],
)  # fmt: skip
def test_ages_are_written_as_kubectl_does(seconds: int, text: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def test_a_time_with_nanoseconds_has_an_age_and_none_has_none() -> None:
    assert age("2026-01-09T23:59:50.123456789Z", NOW) == "9s"
    assert age("", NOW) == ""


TRIGGER: dict[str, Any] = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Trigger",
    "metadata": {"name": "mail", "namespace": "default", "creationTimestamp": "2026-01-09T00:00:00Z"},
    "spec": {"broker": "orders"},
    "status": {
        "subscriberUri": "http://127.0.0.1:9000/",
        "conditions": [
            {
                "type": "LatestFileValid",
                "status": "False",
                "message": "the last good version runs on",
                "severity": "Info",
            },
            {
                "type": "Ready",
                "status": "False",
                "reason": "BrokerDoesNotExist",
                "message": 'Broker "orders" does not exist',
            },
        ],
    },
}


def cells(kind: str, item: dict[str, Any], *, wide: bool = False) -> dict[str, str]:
    found = next(known for known in KINDS if known.kind == kind)
    head, row = rows([item], [NAME, *found.columns, *(found.wide if wide else ())], now=NOW)
    return dict(zip(head, row, strict=True))


def test_a_trigger_has_knatives_columns() -> None:
    assert cells("Trigger", TRIGGER) == {
        "NAME": "mail",
        "BROKER": "orders",
        "SUBSCRIBER_URI": "http://127.0.0.1:9000/",
        "AGE": "24h",
        "READY": "False",
        "REASON": "BrokerDoesNotExist",
    }


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("Broker", ["NAME", "URL", "AGE", "READY", "REASON", "CLASS"]),
        ("Channel", ["NAME", "URL", "AGE", "READY", "REASON"]),
        ("InMemoryChannel", ["NAME", "URL", "AGE", "READY", "REASON"]),
        ("Subscription", ["NAME", "AGE", "READY", "REASON"]),
        ("PingSource", ["NAME", "SINK", "SCHEDULE", "AGE", "READY", "REASON"]),
    ],
)
def test_columns_of_the_other_kinds(kind: str, columns: list[str]) -> None:
    assert list(cells(kind, {"metadata": {"name": "x"}})) == columns


def test_wide_says_why() -> None:
    assert cells("Trigger", TRIGGER, wide=True)["MESSAGE"] == 'Broker "orders" does not exist'
    status = {
        **TRIGGER["status"],
        "conditions": [TRIGGER["status"]["conditions"][0], {"type": "Ready", "status": "True"}],
    }
    assert cells("Trigger", {**TRIGGER, "status": status}, wide=True)["MESSAGE"] == "the last good version runs on"


def test_columns_stand_under_each_other() -> None:
    assert layout([["NAME", "URL", "READY"], ["a", "", "True"], ["long-name", "http://x", ""]]) == (
        "NAME        URL        READY\na                      True\nlong-name   http://x"
    )


def wide(kind: str, item: dict[str, Any], column: str) -> str:
    (found,) = [each for each in KINDS if each.kind == kind]
    return dict(found.wide)[column](item, NOW)


def state(status: str) -> dict[str, Any]:
    return {"subscription": {"name": "x"}, "ready": {"type": "Ready", "status": status}}


def test_the_steps_of_a_sequence_are_shown_in_their_order() -> None:
    steps = [
        {"ref": {"apiVersion": "v1", "kind": "Service", "name": "a"}},
        {"uri": "http://b/"},
        {"ref": {"apiVersion": "v1", "kind": "Service", "name": "c", "namespace": "other"}, "uri": "/in"},
    ]
    reply = {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}}
    status = {"subscriptionStatuses": [state("True"), state("False"), state("True")]}
    item = {"spec": {"steps": steps, "reply": reply}, "status": status}
    assert (
        wide("Sequence", item, "STEPS")
        == "Service a → http://b/ (not ready) → Service other/c/in → reply Broker default"
    )


def test_the_branches_of_a_parallel_are_shown_with_filter_and_reply() -> None:
    branches = [{"filter": {"uri": "http://f/"}, "subscriber": {"uri": "http://a/"}}, {"subscriber": {"uri": "http://b/"}, "reply": {"uri": "http://own/"}}]  # fmt: skip
    ready, failed = state("True"), state("False")
    statuses = [{"filterSubscriptionStatus": failed, "subscriberSubscriptionStatus": ready}, {"filterSubscriptionStatus": ready, "subscriberSubscriptionStatus": failed}]  # fmt: skip
    item = {"spec": {"branches": branches, "reply": {"uri": "http://end/"}}, "status": {"branchStatuses": statuses}}
    assert wide("Parallel", item, "BRANCHES") == (
        "http://f/ (not ready) ⇒ http://a/ → reply http://end/; http://b/ (not ready) → reply http://own/"
    )


@pytest.mark.parametrize("spec", [None, [], {"steps": "x"}, {"steps": [None, 3]}])
def test_what_is_no_flow_at_all_can_be_shown_too(spec: object) -> None:
    assert wide("Sequence", {"spec": spec, "status": {}}, "STEPS") in ("", " → ")
    assert wide("Parallel", {"spec": spec, "status": {}}, "BRANCHES") == ""
