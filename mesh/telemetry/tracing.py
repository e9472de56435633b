"""Spans over OTLP, where an endpoint is set (OTEL_EXPORTER_OTLP_ENDPOINT) and the extra `knit-mesh[otlp]` is installed.

Without it nothing here runs: `traceparent`, `tracestate` and `baggage` travel with an event as they came. With it a span
`broker:NAME.NAMESPACE` stands for the time until an event was safe, and one `trigger:NAME.NAMESPACE` for each attempt; names
and attributes are Knative's (eventing data plane, traces), and `cloudevents.event_id` is added, so that one can search by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh.errors import SettingsError
from mesh.events.event import Event
from mesh.plan.model import Egress, Topic

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACE_LINES = (b"traceparent: ", b"tracestate: ", b"baggage: ")


def trace_lines(passed: bytes) -> bytes:
    """The lines of `Event.passed` that carry the trace context."""
    lines = passed.split(b"\r\n")
    return b"".join(line + b"\r\n" for line in lines if line.startswith(_TRACE_LINES))


def in_trace_of(event: Event, reply: Event) -> Event:
    """The reply, in the trace of the event it answers, where it does not name one itself."""
    lines = trace_lines(event.passed)
    if not lines or b"traceparent: " in reply.passed:
        return reply
    return Event(reply.block, reply.body, passed=reply.passed + lines, ttl=reply.ttl)


def open_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """None where no endpoint is set.

    Raises:
        SettingsError: an endpoint is set and the extra is not installed.
    """
    if not any(environ.get(name) for name in ENDPOINTS):
        return None
    try:
        return Tracing()
    except ImportError as exc:
        raise SettingsError(
            f"{ENDPOINTS[0]} is set, and the exporter is missing: pip install 'knit-mesh[otlp]'"
        ) from exc


class Tracing:
    """Makes spans and hands them to a batching exporter on a thread of its own. A collector that is gone costs spans, no event."""

    def __init__(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an optional dependency
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = TracerProvider(resource=Resource.create({"service.name": "knit"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("knit")
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = trace.SpanKind
        self._with_span = trace.set_span_in_context

    def received(self, topic: Topic, event: Event, *, at_ns: int) -> tuple[Event, Any]:
        """The event, in the trace of a new span that its sender's trace is the parent of."""
        where = f"{topic.key.partition('/')[0]}:{topic.name}.{topic.namespace}"
        kind = "broker" if topic.is_broker else "channel"
        attributes = _attributes(event) | {
            f"kn.{kind}.name": topic.name,
            f"kn.{kind}.namespace": topic.namespace,
            "messaging.destination.name": where,
        }
        span = self._start(where, event.passed, self._kinds.SERVER, attributes, at_ns)
        passed = self._passed(event.passed, span)
        attributes_ = dict(event.attributes)
        return Event(event.block, event.body, passed=passed, ttl=event.ttl, attributes=attributes_), span

    def attempt(self, egress: Egress, event: Event, *, number: int, at_ns: int) -> tuple[bytes, Any]:
        """The `passed` lines for this attempt, and its span."""
        where = f"{egress.key.partition('/')[0]}:{egress.name}.{egress.namespace}"
        attributes = _attributes(event) | {"messaging.destination.name": where, "knit.attempt": number}
        span = self._start(where, event.passed, self._kinds.CLIENT, attributes, at_ns)
        return self._passed(event.passed, span), span

    def end(self, span: Any, *, status: int) -> None:  # noqa: ANN401 - the library's class, known only where it is installed
        if status:
            span.set_attribute("http.response.status_code", status)
        span.end()

    def close(self) -> None:
        """Send what is left; bounded by the exporter's own time-out."""
        self._provider.shutdown()

    def _start(self, name: str, passed: bytes, kind: Any, attributes: Mapping[str, Any], at_ns: int) -> Any:  # noqa: ANN401
        parent = self._propagator.extract(_carrier(passed))
        return self._tracer.start_span(name, context=parent, kind=kind, attributes=dict(attributes), start_time=at_ns)

    def _passed(self, passed: bytes, span: Any) -> bytes:  # noqa: ANN401
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._with_span(span))
        kept = [line for line in passed.split(b"\r\n") if line and not line.startswith(_TRACE_LINES[:2])]
        kept += [f"{name}: {value}".encode() for name, value in carrier.items()]
        return b"".join(line + b"\r\n" for line in kept)


def _carrier(passed: bytes) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(": ") for line in trace_lines(passed).split(b"\r\n") if line)
    return {name: value for name, _, value in pairs}


def _attributes(event: Event) -> dict[str, Any]:
    known = {
        "cloudevents.event_id": event.id,
        "cloudevents.type": event.type,
        "cloudevents.source": event.source,
        "cloudevents.specversion": event.attributes.get("specversion", ""),
        "cloudevents.datacontenttype": event.attributes.get("datacontenttype", ""),
        "cloudevents.subject": event.attributes.get("subject", ""),
        "messaging.system": "knative",
        "messaging.operation.name": "send",
    }
    return {name: value for name, value in known.items() if value}
