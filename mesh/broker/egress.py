"""One Trigger or Subscription at work: an event comes from the channel, goes to the subscriber, and is settled.

This file is the fast path: sent once, answered 2xx without a body, settled; no task, no future, no timer. Everything else
is handed to `dispatch.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from channels.api import Delivery
from mesh.broker.dispatch import Dispatch
from mesh.delivery.outcome import Answer, Outcome
from mesh.events.http import write_structured
from mesh.http.client import Endpoint, Sender
from mesh.plan.model import Egress as EgressSpec
from mesh.plan.model import Target
from mesh.telemetry.signals import Signals
from mesh.telemetry.tracing import Tracing


class Egress:
    """`deliver` is what the channel calls."""

    __slots__ = (
        "_counters",
        "_dispatch",
        "_endpoint",
        "_key",
        "_lines",
        "_now_ns",
        "_plain",
        "_signals",
        "_spec",
        "_timeout_s",
        "_tracing",
    )

    def __init__(
        self,
        spec: EgressSpec,
        dispatch: Dispatch,
        *,
        sender: Sender,
        signals: Signals,
        now_ns: Callable[[], int],
        tracing: Tracing | None = None,
    ) -> None:
        self._spec = spec
        self._key = spec.key
        self._dispatch = dispatch
        self._signals = signals
        self._counters = signals.egress(spec.key)
        self._now_ns = now_ns
        self._endpoint = _endpoint(sender, spec.subscriber)
        self._tracing = tracing
        self._plain = self._endpoint is not None and spec.format != "json" and tracing is None
        self._lines = b"prefer: reply\r\nkn-namespace: " + spec.namespace.encode() + b"\r\n"
        self._timeout_s = spec.policy.timeout_s

    def deliver(self, delivery: Delivery) -> None:
        if delivery.attempt > 1 or delivery.note or not self._plain:
            self._unusual(delivery)
            return
        event = delivery.event
        block = event.block + event.passed if event.passed else event.block
        assert self._endpoint is not None
        self._endpoint.send(
            self._lines, block, event.body, partial(self.ended, delivery, self._now_ns()), timeout_s=self._timeout_s
        )

    def _unusual(self, delivery: Delivery) -> None:
        if delivery.interrupted:
            self._signals.recovered(self._key, delivery.event, attempt=delivery.attempt)
        if self._dispatch.resumed(self._spec, delivery):
            return
        if self._endpoint is None:
            self._dispatch.inside(self._spec, delivery, self._now_ns())
            return
        event = delivery.event
        attempt: Callable[[Outcome], None] = partial(self.ended, delivery, self._now_ns())
        passed = event.passed
        if self._tracing is not None:
            passed, attempt = self._traced(delivery, attempt)
        if self._spec.format == "json":
            lines, body = write_structured(event)
            self._endpoint.send(self._lines + lines, passed, body, attempt, timeout_s=self._timeout_s)
        else:
            self._endpoint.send(self._lines, event.block + passed, event.body, attempt, timeout_s=self._timeout_s)

    def _traced(
        self, delivery: Delivery, attempt: Callable[[Outcome], None]
    ) -> tuple[bytes, Callable[[Outcome], None]]:
        tracing = self._tracing
        assert tracing is not None
        passed, span = tracing.attempt(self._spec, delivery.event, number=delivery.attempt, at_ns=self._now_ns())

        def ended(outcome: Outcome) -> None:
            tracing.end(span, status=outcome.status if isinstance(outcome, Answer) else 0)
            attempt(outcome)

        return passed, ended

    def ended(self, delivery: Delivery, started_ns: int, outcome: Outcome) -> None:
        """The attempt that began at `started_ns` ended so. Bound by `partial`, which costs less than a closure or an object."""
        if type(outcome) is Answer and 200 <= outcome.status < 300 and not outcome.body and not outcome.headers:
            self._counters.delivered(
                delivery.event,
                attempt=delivery.attempt,
                status=outcome.status,
                started_ns=started_ns,
                arrived_ns=delivery.arrived_ns,
            )
            delivery.settle()
        else:
            self._dispatch.judge(self._spec, delivery, outcome, started_ns)


def _endpoint(sender: Sender, target: Target | None) -> Endpoint | None:
    """None where the target is inside this process, or there is none."""
    if target is None or target.topic:
        return None
    return sender.endpoint(target.url, ca_certs=target.ca_certs)
