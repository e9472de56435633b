"""The `/metrics` page: what the workers counted under both generations of Knative's names, and our own.

Knative renamed its metrics at 1.19; dashboards for either go on working. Old names are `mt_broker_ingress_…`,
`mt_broker_filter_…`, `inmemorychannel_dispatcher_…` (milliseconds); new ones `kn_eventing_…_duration_seconds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from mesh.filters.dialects import Attributes, Exact
from mesh.plan.model import Egress, Plan
from mesh.telemetry.snapshot import BUCKETS_S, Histogram, MetricsSnapshot
from mesh.telemetry.totals import add, add_histograms

ROLES = ("ingress", "filter", "dispatcher")
"""Knative's three scrape targets. Its dashboards tell ingress and filter apart by `job` alone, so a scrape job of each name
asks this one page for its own part: `/metrics?role=filter`."""

_NO_ANSWER = 500
"""The status of an attempt without an answer: what Knative's dispatcher reports, so that error ratios count it."""

_HELP = {
    "open_connections": "Connections open at the ingress now.",
    "story_events": "Recent happenings kept for `knit story` now.",
}

Labels = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFacts:
    """What the parent knows beside the workers' counts. now_ns: wall clock. plan_valid: no file is bad, no resource has errors."""

    now_ns: int
    workers: int = 1
    workers_ready: int = 1
    worker_restarts: int = 0
    plan_valid: bool = True
    pod: str = "knit"
    """Becomes the old names' `unique_name`: the host or pod."""


def content_type(accept: str = "") -> str:
    """The Content-Type for this Accept header: Prometheus text, or OpenMetrics where that is asked for."""
    return choose_encoder(accept)[1]


def render(
    snapshots: Sequence[MetricsSnapshot],
    facts: MeshFacts,
    *,
    plan: Plan | None = None,
    accept: str = "",
    role: str = "",
) -> str:
    """The page. plan: names what a subscription reads and filters; without it those labels are empty. role: one of `ROLES`
    for that part alone, in Knative's names only; "" for everything."""
    registry = CollectorRegistry()
    registry.register(_Page(add(snapshots), facts, plan or Plan(), role))
    return choose_encoder(accept)[0](registry).decode()


class _Page:
    def __init__(self, counted: MetricsSnapshot, facts: MeshFacts, plan: Plan, role: str) -> None:
        self._counted = counted
        self._facts = facts
        self._role = role
        self._egresses = {egress.key: egress for topic in plan.topics for egress in topic.egresses}
        self._topic_of = {key: topic for topic, key, *_ in counted.subscriptions}
        self._topic_of |= {egress.key: topic.key for topic in plan.topics for egress in topic.egresses}

    def collect(self) -> Iterator[Metric]:
        yield from self._new_names()
        yield from self._old_ingress()
        yield from self._old_filter()
        yield from self._old_channel()
        if not self._role:
            yield from self._own()

    def _plays(self, role: str) -> bool:
        return self._role in ("", role)

    # Knative 1.19 and later.

    def _new_names(self) -> Iterator[Metric]:
        dispatch = Metric("kn_eventing_dispatch_duration_seconds", "Duration of dispatching an event.", "histogram")
        if self._plays("ingress"):
            for (topic, event_type, status), value in sorted(self._counted.ingress.items()):
                if topic.startswith("broker/"):
                    _histogram(dispatch, {**_new_topic(topic), **_sent(event_type, status, topic)}, value)
        process = Metric(
            "kn_eventing_process_duration_seconds", "Time from arrival to dispatch of an event.", "histogram"
        )
        for (key, event_type, status), value in sorted(self._counted.egress.items()):
            if self._plays(_role_of(key)):
                labels = {**_new_topic(self._topic_of.get(key, "")), **_new_egress(key)}
                _histogram(dispatch, {**labels, **_sent(event_type, status or _NO_ANSWER, key)}, value)
        for key, value in sorted(self._counted.process.items()):
            if self._plays(_role_of(key)):
                labels = {**_new_topic(self._topic_of.get(key, "")), **_new_egress(key), **_messaging(key)}
                _histogram(process, labels, value)
        yield dispatch
        yield process

    # Knative up to 1.18.

    def _old_ingress(self) -> Iterator[Metric]:
        if self._plays("ingress"):
            series: list[tuple[Labels, Histogram]] = []
            for (topic, event_type, status), value in sorted(self._counted.ingress.items()):
                kind, namespace, name = _parts(topic)
                if kind == "broker":
                    labels = {"broker_name": name, "namespace_name": namespace, "event_type": event_type}
                    series.append((labels | _code(status) | self._unique(), value))
            yield from _old("mt_broker_ingress", series)

    def _old_filter(self) -> Iterator[Metric]:
        if not self._plays("filter"):
            return
        series: dict[tuple[str, int], Histogram] = {}
        for (key, _, status), value in sorted(self._counted.egress.items()):
            if _role_of(key) == "filter":
                at = key, status or _NO_ANSWER
                series[at] = add_histograms(series[at], value) if at in series else value
        yield from _old(
            "mt_broker_filter", [(self._old_trigger(key) | _code(code), h) for (key, code), h in series.items()]
        )
        processing = Metric(
            "mt_broker_filter_event_processing_latencies", "Time from arrival to dispatch, ms.", "histogram"
        )
        for key, value in sorted(self._counted.process.items()):
            if _role_of(key) == "filter":
                _histogram(processing, self._old_trigger(key), value, unit=1000)
        yield processing

    def _old_channel(self) -> Iterator[Metric]:
        if not self._plays("dispatcher"):
            return
        series: dict[tuple[str, str, int], Histogram] = {}
        for (key, event_type, status), value in sorted(self._counted.egress.items()):
            if _role_of(key) == "dispatcher":
                at = _parts(key)[1], event_type, status or _NO_ANSWER
                series[at] = add_histograms(series[at], value) if at in series else value
        base = {"container_name": "dispatcher"} | self._unique()
        labelled = [
            (base | {"namespace_name": namespace, "event_type": event_type} | _code(code), value)
            for (namespace, event_type, code), value in series.items()
        ]
        yield from _old("inmemorychannel_dispatcher", labelled)

    def _old_trigger(self, key: str) -> Labels:
        _, namespace, name = _parts(key)
        broker = _parts(self._topic_of.get(key, ""))[2]
        labels = {"namespace_name": namespace, "trigger_name": name, "broker_name": broker, "container_name": "filter"}
        return labels | {"filter_type": _filter_type(self._egresses.get(key))} | self._unique()

    def _unique(self) -> Labels:
        return {"unique_name": self._facts.pod}

    # Ours.

    def _own(self) -> Iterator[Metric]:
        yield from self._states()
        counted, facts = self._counted, self._facts
        received: dict[tuple[str, int], int] = {}
        for (topic, _, status), (count, _, _) in sorted(counted.ingress.items()):
            received[topic, status] = received.get((topic, status), 0) + count
        yield _counter(
            "knit_received",
            "Events that came to a broker or channel, by the status they were answered with.",
            [({"topic": topic, "status": str(status)}, n) for (topic, status), n in received.items()],
        )
        yield _counter(
            "knit_attempts",
            "Attempts at a delivery, and what became of events, by outcome.",
            [({"subscription": key, "outcome": outcome}, n) for (key, outcome), n in sorted(counted.attempts.items())],
        )
        yield _counter(
            "knit_dead_letters",
            "Events that could go nowhere.",
            [({"subscription": key}, count) for key, count in sorted(counted.dead_letters.items())],
        )
        yield _counter(
            "knit_refused",
            "Requests at the ingress that were not taken.",
            [({"reason": reason, "status": str(status)}, n) for (reason, status), n in sorted(counted.refused.items())],
        )
        restarts = facts.worker_restarts
        yield _counter("knit_worker_restarts", "Workers that ended and were started anew.", [({}, restarts)])
        yield _gauge("knit_workers", "Worker processes wanted.", [({}, facts.workers)])
        yield _gauge("knit_workers_ready", "Worker processes that take events.", [({}, facts.workers_ready)])
        yield _gauge(
            "knit_plan_valid",
            "1 where all that was declared is valid, 0 where something is not.",
            [({}, facts.plan_valid)],
        )
        for name, value in sorted(counted.gauges.items()):
            yield _gauge(f"knit_{name}", _HELP.get(name, name.replace("_", " ")), [({}, value)])

    def _states(self) -> Iterator[Metric]:
        rows = [
            ({"topic": topic, "subscription": key}, backlog, in_flight, retrying, oldest_ns)
            for topic, key, backlog, in_flight, retrying, oldest_ns in sorted(self._counted.subscriptions)
        ]
        yield _gauge(
            "knit_backlog_events", "Events that match and are not settled.", [(row[0], row[1]) for row in rows]
        )
        yield _gauge("knit_in_flight", "Deliveries under way.", [(row[0], row[2]) for row in rows])
        yield _gauge("knit_retrying", "Events that wait for their next attempt.", [(row[0], row[3]) for row in rows])
        now_ns = self._facts.now_ns
        ages = [(row[0], max(0.0, (now_ns - row[4]) / 1e9) if row[4] else 0.0) for row in rows]
        yield _gauge("knit_oldest_unsettled_seconds", "Age of the oldest event that is not settled.", ages)


def _parts(key: str) -> tuple[str, str, str]:
    """Kind, namespace and name of a key of the plan; empty where there is none."""
    kind, _, rest = key.partition("/")
    namespace, _, name = rest.partition("/")
    return kind, namespace, name


def _role_of(key: str) -> str:
    return "filter" if key.startswith("trigger/") else "dispatcher"


def _filter_type(egress: Egress | None) -> str:
    """What Knative's filter reports: the type that is asked for, or `any`."""
    for node in egress.filters if egress is not None else ():
        if isinstance(node, Attributes | Exact):
            return dict(node.entries).get("type") or "any"
    return "any"


def _code(status: int) -> Labels:
    return {"response_code": str(status), "response_code_class": f"{status // 100}xx"}


def _new_topic(key: str) -> Labels:
    kind, namespace, name = _parts(key)
    return {f"kn_{kind}_name": name, f"kn_{kind}_namespace": namespace} if kind else {}


def _new_egress(key: str) -> Labels:
    """Not among Knative's for these metrics; its Kafka dispatcher's dashboards select by `kn_trigger_namespace`."""
    return _new_topic(key)


def _messaging(key: str) -> Labels:
    kind, namespace, name = _parts(key)
    labels = {"messaging_system": "knative", "messaging_operation_name": "send"}
    return labels | {"messaging_destination_name": f"{kind}:{name}.{namespace}"}


def _sent(event_type: str, status: int, key: str) -> Labels:
    labels = {"cloudevents_type": event_type, "http_response_status_code": str(status), "url_scheme": "http"}
    return labels | _messaging(key)


def _old(prefix: str, series: Iterable[tuple[Labels, Histogram]]) -> Iterator[Metric]:
    # Untyped: as a counter the library would name it …_total, which Knative's old exporter did not.
    count = Metric(f"{prefix}_event_count", "Number of events dispatched.", "unknown")
    latencies = Metric(f"{prefix}_event_dispatch_latencies", "Duration of dispatching an event, ms.", "histogram")
    for labels, value in series:
        count.add_sample(count.name, labels, value[0])
        _histogram(latencies, labels, value, unit=1000)
    yield count
    yield latencies


def _histogram(metric: Metric, labels: Labels, value: Histogram, *, unit: int = 1) -> None:
    """unit: how many of the metric's units are a second."""
    count, total_s, buckets = value
    below = 0
    bounds = [*(str(round(bound_s * unit, 6)) for bound_s in BUCKETS_S), "+Inf"]
    for bound, inside in zip(bounds, buckets, strict=True):
        below += inside
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, below)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, total_s * unit)


def _counter(name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    metric = Metric(name, text, "counter")
    for labels, value in samples:
        metric.add_sample(f"{name}_total", labels, value)
    return metric


def _gauge(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    metric = Metric(name, text, "gauge")
    for labels, value in samples:
        metric.add_sample(name, dict(labels), float(value))
    return metric
