"""Trace context travels with events, and spans reach a collector over OTLP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, event_reply

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
WORLD = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: default}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: ask, namespace: default}
spec:
  broker: default
  filter: {attributes: {type: ask}}
  subscriber: {uri: "%(sink)s/ask"}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: answers, namespace: default}
spec:
  broker: default
  filter: {attributes: {type: answer}}
  subscriber: {uri: "%(sink)s/answers"}
"""


@pytest.fixture
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        recorder.behaviours["/ask"] = lambda _s, _n: event_reply("answer")
        yield recorder


def test_without_a_collector_the_context_travels_as_it_came(sink: Recorder) -> None:
    with Mesh(WORLD % {"sink": sink.url("")}) as mesh:
        headers = binary("ask", traceparent=PARENT, tracestate="a=b", baggage="c=d")
        assert mesh.post("/default/default", headers, b"{}")[0] == 202
        for path in ("/ask", "/answers"):
            (got,) = sink.wait(path)
            assert [got.headers[name] for name in ("traceparent", "tracestate", "baggage")] == [PARENT, "a=b", "c=d"]


def test_spans_of_one_trace_reach_the_collector(sink: Recorder) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url(""), "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with Mesh(WORLD % {"sink": sink.url("")}, env=env) as mesh:
        assert mesh.post("/default/default", binary("ask", event_id="e1", traceparent=PARENT), b"{}")[0] == 202
        (got,) = sink.wait("/answers")
        assert got.headers["traceparent"].split("-")[1] == TRACE
        assert got.headers["traceparent"] != PARENT
    spans = {}
    for export in sink.at("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(export.body).resource_spans:
            for scope in resource.scope_spans:
                spans |= {span.name: span for span in scope.spans}
    assert {"broker:default.default", "trigger:ask.default", "trigger:answers.default"} <= set(spans)
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    attributes = {a.key: a.value for a in spans["trigger:ask.default"].attributes}
    assert attributes["cloudevents.event_id"].string_value == "e1"
    assert attributes["http.response.status_code"].int_value == 200
