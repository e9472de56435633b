"""The /metrics page: both generations of names, sums over workers, counters that never go back."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from mesh.filters.dialects import Exact
from mesh.plan.model import Egress, Plan, Topic
from mesh.telemetry.metrics import MeshFacts, content_type, render
from mesh.telemetry.snapshot import BUCKETS_S, Histogram, MetricsSnapshot
from mesh.telemetry.totals import Totals

NOW_NS = 1_700_000_100 * 10**9
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
BROKER = "broker/default/orders"
TRIGGER = "trigger/default/mail"
SUBSCRIPTION = "subscription/shop/audit"
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def histogram(*buckets_used: int, total_s: float = 1.0) -> Histogram:
    buckets = [0] * (len(BUCKETS_S) + 1)
    for index in buckets_used:
        buckets[index] += 1
    return len(buckets_used), total_s, buckets


def snapshot() -> MetricsSnapshot:
    return MetricsSnapshot(
        ingress={(BROKER, "order.new", 202): histogram(0, 1), ("channel/shop/bus", "order.new", 202): histogram(0)},
        egress={
            (TRIGGER, "order.new", 200): histogram(0, 0, 3),
            (TRIGGER, "order.new", 0): histogram(14),
            (SUBSCRIPTION, "order.new", 503): histogram(2),
        },
        process={TRIGGER: histogram(1)},
        attempts={(TRIGGER, "delivered"): 3, (TRIGGER, "retried"): 1},
        refused={("invalid", 400): 2},
        subscriptions=[(BROKER, TRIGGER, 7, 2, 1, NOW_NS - 5 * 10**9), ("channel/shop/bus", SUBSCRIPTION, 0, 0, 0, 0)],
        dead_letters={TRIGGER: 4},
        gauges={"open_connections": 3.0},
    )


PLAN = Plan(
    topics=(
        Topic(
            BROKER,
            "Broker",
            "default",
            "orders",
            "log",
            is_broker=True,
            egresses=(Egress(TRIGGER, "Trigger", "default", "mail", None, filters=(Exact((("type", "order.new"),)),)),),
        ),
    )
)


def series(text: str) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(found: Series, name: str, **labels: str) -> float:
    """The one sample of that name which has at least these labels."""
    wanted = set(labels.items())
    hits = [number for (n, has), number in found.items() if n == name and wanted <= has]
    assert len(hits) == 1, f"{name} {labels}: {hits}"
    return hits[0]


def page(*snapshots: MetricsSnapshot, role: str = "") -> Series:
    return series(render(snapshots, MeshFacts(now_ns=NOW_NS, pod="pod-1"), plan=PLAN, role=role))


def test_new_names_carry_knatives_labels() -> None:
    found = page(snapshot())
    dispatch = "kn_eventing_dispatch_duration_seconds"
    ingress = {"messaging_destination_name": "broker:orders.default", "kn_broker_name": "orders"}
    assert (
        value(found, f"{dispatch}_count", **ingress, cloudevents_type="order.new", http_response_status_code="202") == 2
    )
    trigger = {"messaging_destination_name": "trigger:mail.default", "kn_broker_namespace": "default"}
    assert value(found, f"{dispatch}_bucket", **trigger, http_response_status_code="200", le="0.005") == 2
    assert value(found, f"{dispatch}_bucket", **trigger, http_response_status_code="200", le="0.05") == 3
    assert value(found, f"{dispatch}_bucket", **trigger, http_response_status_code="200", le="+Inf") == 3
    assert value(found, "kn_eventing_process_duration_seconds_sum", **trigger) == 1.0


def test_an_attempt_without_an_answer_counts_as_500() -> None:
    found = page(snapshot())
    assert value(found, "mt_broker_filter_event_count", trigger_name="mail", response_code="500") == 1
    assert (
        value(
            found,
            "kn_eventing_dispatch_duration_seconds_count",
            kn_trigger_name="mail",
            http_response_status_code="500",
        )
        == 1
    )


def test_old_names_count_in_milliseconds() -> None:
    found = page(snapshot())
    labels = {
        "broker_name": "orders",
        "namespace_name": "default",
        "response_code_class": "2xx",
        "unique_name": "pod-1",
    }
    assert value(found, "mt_broker_ingress_event_count", **labels, event_type="order.new", response_code="202") == 2
    assert value(found, "mt_broker_ingress_event_dispatch_latencies_bucket", **labels, le="10.0") == 2
    assert value(found, "mt_broker_ingress_event_dispatch_latencies_sum", **labels) == 1000
    filtered = {"filter_type": "order.new", "broker_name": "orders", "trigger_name": "mail", "response_code": "200"}
    assert value(found, "mt_broker_filter_event_count", **filtered) == 3
    assert value(found, "mt_broker_filter_event_processing_latencies_count", trigger_name="mail") == 1
    channel = {"namespace_name": "shop", "response_code": "503", "response_code_class": "5xx"}
    assert value(found, "inmemorychannel_dispatcher_event_count", **channel) == 1


def test_own_names_tell_what_waits() -> None:
    found = page(snapshot())
    assert value(found, "knit_backlog_events", topic=BROKER, subscription=TRIGGER) == 7
    assert value(found, "knit_oldest_unsettled_seconds", subscription=TRIGGER) == 5.0
    assert value(found, "knit_oldest_unsettled_seconds", subscription=SUBSCRIPTION) == 0.0
    assert value(found, "knit_in_flight", subscription=TRIGGER) == 2
    assert value(found, "knit_retrying", subscription=TRIGGER) == 1
    assert value(found, "knit_attempts_total", subscription=TRIGGER, outcome="retried") == 1
    assert value(found, "knit_dead_letters_total", subscription=TRIGGER) == 4
    assert value(found, "knit_refused_total", reason="invalid", status="400") == 2
    assert value(found, "knit_received_total", topic="channel/shop/bus", status="202") == 1
    assert value(found, "knit_plan_valid") == 1
    assert value(found, "knit_open_connections") == 3


def test_workers_are_added_up_and_the_oldest_event_counts() -> None:
    older = MetricsSnapshot(
        subscriptions=[(BROKER, TRIGGER, 1, 0, 0, NOW_NS - 9 * 10**9)], attempts={(TRIGGER, "delivered"): 2}
    )
    found = page(snapshot(), older)
    assert value(found, "knit_backlog_events", subscription=TRIGGER) == 8
    assert value(found, "knit_oldest_unsettled_seconds", subscription=TRIGGER) == 9.0
    assert value(found, "knit_attempts_total", subscription=TRIGGER, outcome="delivered") == 5


@pytest.mark.parametrize(
    ("role", "there", "absent"),
    [
        ("ingress", "mt_broker_ingress_event_count", "mt_broker_filter_event_count"),
        ("filter", "mt_broker_filter_event_count", "inmemorychannel_dispatcher_event_count"),
        ("dispatcher", "inmemorychannel_dispatcher_event_count", "mt_broker_ingress_event_count"),
    ],
)
def test_a_role_shows_its_part_alone(role: str, there: str, absent: str) -> None:
    names = {name for name, _ in page(snapshot(), role=role)}
    assert there in names
    assert absent not in names
    assert not any(name.startswith("knit_") for name in names)


def test_counters_survive_the_death_of_a_worker() -> None:
    totals = Totals()
    totals.update(0, snapshot())
    totals.died(0)
    totals.update(0, MetricsSnapshot(attempts={(TRIGGER, "delivered"): 1}))
    found = page(*totals.snapshots())
    assert value(found, "knit_attempts_total", subscription=TRIGGER, outcome="delivered") == 4
    assert value(found, "mt_broker_ingress_event_count", broker_name="orders") == 2
    assert not any(name == "knit_backlog_events" for name, _ in found), (
        "what a dead worker held is no backlog of its own"
    )


def test_what_was_deleted_has_no_series() -> None:
    totals = Totals()
    totals.update(0, snapshot())
    totals.died(0)
    totals.keep({"channel/shop/bus", SUBSCRIPTION})
    text = render(totals.snapshots(), MeshFacts(now_ns=NOW_NS))
    assert "mail" not in text
    assert "orders" not in text
    assert value(series(text), "inmemorychannel_dispatcher_event_count") == 1


def test_openmetrics_where_it_is_asked_for() -> None:
    text = render([snapshot()], MeshFacts(now_ns=NOW_NS), plan=PLAN, accept=OPENMETRICS)
    assert text.endswith("# EOF\n")
    names = [family.name for family in parse_openmetrics(text)]
    assert len(names) == len(set(names))
    assert content_type(OPENMETRICS).startswith("application/openmetrics-text")
    assert content_type("").startswith("text/plain; version=0.0.4")


def test_every_series_has_a_help_text() -> None:
    assert all(family.documentation for family in parse(render([snapshot()], MeshFacts(now_ns=NOW_NS), plan=PLAN)))


def test_a_label_value_from_outside_cannot_break_the_page() -> None:
    evil = 'a"b\\c\nknit_plan_valid 0'
    text = render([MetricsSnapshot(ingress={(BROKER, evil, 202): histogram(0)})], MeshFacts(now_ns=NOW_NS))
    assert value(series(text), "mt_broker_ingress_event_count", event_type=evil) == 1
    assert value(series(text), "knit_plan_valid") == 1


def test_a_snapshot_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(snapshot(), protocol=5)) == snapshot()


def test_workers_do_not_load_the_metrics_library() -> None:
    code = "import sys, mesh.telemetry.snapshot; print('prometheus_client' in sys.modules or 'asyncio' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
