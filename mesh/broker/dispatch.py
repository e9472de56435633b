"""What happens when a delivery is not simply taken: retries, replies, dead letters, and the end of the road.

A delivery has up to three legs: to the subscriber, then the reply to its taker or the event to the dead-letter sink. Each leg
is tried `retry + 1` times (as Knative's Go dispatcher does: the reply leg on its own, the subscriber is not called again).
Where a leg stands is the delivery's note, so on a durable channel it survives a restart. Pure decisions are `mesh/delivery`'s.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from channels.api import Burial, Delivery, Refusal
from mesh.broker.router import Router
from mesh.delivery.deadletter import dead_letter_event
from mesh.delivery.decide import Done, GiveUp, RetryIn, decide
from mesh.delivery.outcome import Answer, Outcome, Unreachable
from mesh.errors import EventError
from mesh.events.event import Event, encode_block
from mesh.events.extensions import TTL
from mesh.events.http import read_reply
from mesh.http.client import Sender
from mesh.plan.model import Egress, Target
from mesh.telemetry.signals import Signals
from mesh.telemetry.tracing import in_trace_of

_INVALID_REPLY = 502
"""What Knative's filter answers the channel when a 2xx carries a body that is no event."""
_ERROR_BODY = 1024


@dataclass(frozen=True, slots=True)
class Leg:
    """Where a delivery stands after its subscriber. `tried`: attempts made on this leg. dest, code, body: the last error."""

    name: str
    tried: int = 0
    dest: str = ""
    code: int = 0
    body: bytes = b""
    why: str = ""
    reply: Event | None = None

    def to_note(self) -> bytes:
        fields: dict[str, object] = {
            "leg": self.name,
            "tried": self.tried,
            "dest": self.dest,
            "code": self.code,
            "why": self.why,
        }
        fields["body"] = _text(self.body)
        if self.reply is not None:
            event = self.reply
            fields["reply"] = [_text(event.block), _text(event.passed), _text(event.body), event.ttl]
        return json.dumps(fields).encode()


def read_note(note: bytes) -> Leg:
    fields = json.loads(note)
    reply = fields.pop("reply", None)
    event = None
    if reply is not None:
        event = Event(_bytes(reply[0]), _bytes(reply[2]), passed=_bytes(reply[1]), ttl=reply[3])
    return Leg(
        fields["leg"],
        fields["tried"],
        fields["dest"],
        fields["code"],
        _bytes(fields["body"]),
        fields["why"],
        reply=event,
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


class Dispatch:
    """Shared by all egresses of a worker; holds no state of a delivery."""

    def __init__(
        self,
        *,
        sender: Sender,
        router: Router,
        signals: Signals,
        now_ns: Callable[[], int],
        keeps_dead_letters: Callable[[str], bool],
    ) -> None:
        self._sender = sender
        self._router = router
        self._signals = signals
        self._now_ns = now_ns
        self._keeps = keeps_dead_letters

    # The subscriber's leg.

    def resumed(self, spec: Egress, delivery: Delivery) -> bool:
        """Go on where the note says; False where the subscriber is to be tried (again)."""
        leg = read_note(delivery.note) if delivery.note else Leg("subscriber")
        if leg.name == "reply" and leg.reply is not None:
            self._send_reply(spec, delivery, leg)
            return True
        if leg.name == "dead-letter":
            self._send_dead_letter(spec, delivery, leg)
            return True
        spent = delivery.attempt > spec.policy.retries + 1
        if spent and not (delivery.interrupted and spec.policy.retries == 0):
            # An attempt that a crash interrupted counts, so that there are never more than retry + 1 of them. With no
            # retries at all the only one is repeated: at least once comes before at most once.
            why = leg.why or f"attempt {delivery.attempt - 1}, the last one, was under way when the process ended"
            self._give_up(spec, delivery, replace(leg, dest=leg.dest or _url(spec.subscriber), why=why))
            return True
        return False

    def inside(self, spec: Egress, delivery: Delivery, started_ns: int) -> None:
        """The subscriber is a Broker or Channel of this mesh, or there is none and the event itself is the reply."""
        target = spec.subscriber or spec.reply
        if target is None:
            delivery.settle()
            return
        if not target.topic:
            self._to(target, delivery.event, spec, lambda outcome: self.judge(spec, delivery, outcome, started_ns))
            return
        event = replace_ttl(delivery.event, -1)
        self._router.publish(
            target.topic, event, lambda refusal: self.judge(spec, delivery, _outcome(refusal), started_ns)
        )

    def judge(self, spec: Egress, delivery: Delivery, outcome: Outcome, started_ns: int) -> None:
        """The subscriber's attempt ended, and not in the simplest way."""
        event = delivery.event
        decision = decide(spec.policy, outcome, delivery.attempt, now_s=self._now_ns() / 1e9)
        if isinstance(decision, Done) and isinstance(outcome, Answer):
            reply, problem = self._reply_in(spec, outcome)
            if not problem:
                self._taken(spec, delivery, outcome.status, started_ns, reply)
                return
            outcome = Answer(_INVALID_REPLY, (), outcome.body)
            decision = decide(spec.policy, outcome, delivery.attempt, now_s=self._now_ns() / 1e9)
            why = f"the answer is no valid reply: {problem}"
        else:
            why = decision.why if isinstance(decision, RetryIn | GiveUp) else ""
        leg = _error(spec.subscriber, outcome, why)
        what = "rejected" if isinstance(outcome, Answer) else "unreachable"
        pause = decision.delay_s if isinstance(decision, RetryIn) else 0.0
        self._signals.failed(
            spec.key,
            event,
            attempt=delivery.attempt,
            status=leg.code,
            started_ns=started_ns,
            pause_s=pause,
            what=what,
            why=_tell(leg, decision, why),
        )
        if isinstance(decision, RetryIn):
            delivery.retry(delay_s=decision.delay_s, note=leg.to_note())
        else:
            self._give_up(spec, delivery, replace(leg, why=why))

    def _reply_in(self, spec: Egress, answer: Answer) -> tuple[Event | None, str]:
        """The event in a 2xx answer and what is wrong with it, if anything is."""
        if spec.reply_on_200_only and answer.status != 200:
            return None, ""
        try:
            if answer.cut:
                raise EventError("its body is too large or broke off")  # noqa: TRY301  # judged with the others below
            return read_reply(answer.headers, answer.body), ""
        except EventError as exc:
            if spec.ignore_invalid_reply or not (spec.strict_reply or _meant_as_event(answer)):
                return None, ""
            return None, str(exc)

    def _taken(self, spec: Egress, delivery: Delivery, status: int, started_ns: int, reply: Event | None) -> None:
        self._signals.egress(spec.key).delivered(
            delivery.event,
            attempt=delivery.attempt,
            status=status,
            started_ns=started_ns,
            arrived_ns=delivery.arrived_ns,
        )
        if reply is None or spec.reply is None:
            delivery.settle()
            return
        self._signals.replied(spec.key, delivery.event, reply=reply, to=_url(spec.reply))
        reply = in_trace_of(delivery.event, reply)
        if delivery.event.ttl >= 0:  # to a broker: the hops go on being counted, whatever the subscriber says of them
            reply = replace_ttl(reply, delivery.event.ttl)
        self._send_reply(spec, delivery, Leg("reply", reply=reply))

    # The reply's leg.

    def _send_reply(self, spec: Egress, delivery: Delivery, leg: Leg) -> None:
        if spec.reply is None or leg.reply is None:  # the plan changed meanwhile: nobody wants the reply any more
            delivery.settle()
            return
        started = self._now_ns()
        self._to(spec.reply, leg.reply, spec, lambda outcome: self._reply_ended(spec, delivery, leg, outcome, started))

    def _reply_ended(self, spec: Egress, delivery: Delivery, leg: Leg, outcome: Outcome, started_ns: int) -> None:
        tried = leg.tried + 1
        decision = decide(spec.policy, outcome, tried, now_s=self._now_ns() / 1e9)
        if isinstance(decision, Done):
            delivery.settle()
            return
        error = _error(spec.reply, outcome, decision.why)
        pause = decision.delay_s if isinstance(decision, RetryIn) else 0.0
        self._signals.failed(
            spec.key,
            delivery.event,
            attempt=tried,
            status=error.code,
            started_ns=started_ns,
            pause_s=pause,
            what="reply-refused",
            why="the reply was not taken: " + _tell(error, decision, decision.why),
        )
        if isinstance(decision, RetryIn):
            delivery.retry(delay_s=decision.delay_s, note=replace(leg, tried=tried).to_note(), counts=False)
        else:
            self._give_up(spec, delivery, error)

    # The dead letter's leg, and the end of the road.

    def _give_up(self, spec: Egress, delivery: Delivery, error: Leg) -> None:
        if spec.dead_letter is None:
            self._bury(spec, delivery, error, f"{error.why}; {_no_sink(spec)}")
        else:
            self._send_dead_letter(spec, delivery, replace(error, name="dead-letter", tried=0, reply=None))

    def _send_dead_letter(self, spec: Egress, delivery: Delivery, leg: Leg) -> None:
        if spec.dead_letter is None:
            self._bury(spec, delivery, leg, f"{leg.why}; {_no_sink(spec)} any more")
            return
        event = dead_letter_event(delivery.event, destination=leg.dest, code=leg.code, body=leg.body)
        started = self._now_ns()
        self._to(
            spec.dead_letter,
            event,
            spec,
            lambda outcome: self._dead_letter_ended(spec, delivery, leg, outcome, started),
        )

    def _dead_letter_ended(self, spec: Egress, delivery: Delivery, leg: Leg, outcome: Outcome, started_ns: int) -> None:
        tried = leg.tried + 1
        decision = decide(spec.policy, outcome, tried, now_s=self._now_ns() / 1e9)
        sink = _url(spec.dead_letter)
        if isinstance(decision, Done):
            self._signals.dead_lettered(spec.key, delivery.event, to=sink, why=leg.why)
            delivery.settle()
            return
        error = _error(spec.dead_letter, outcome, decision.why)
        pause = decision.delay_s if isinstance(decision, RetryIn) else 0.0
        self._signals.failed(
            spec.key,
            delivery.event,
            attempt=tried,
            status=error.code,
            started_ns=started_ns,
            pause_s=pause,
            what="dead-letter-refused",
            why=f"the dead letter sink {sink} did not take it: " + _tell(error, decision, decision.why),
        )
        if isinstance(decision, RetryIn):
            delivery.retry(delay_s=decision.delay_s, note=replace(leg, tried=tried).to_note(), counts=False)
        else:
            self._bury(
                spec, delivery, leg, f"{leg.why}; then the dead letter sink {sink} did not take it: {decision.why}"
            )

    def _bury(self, spec: Egress, delivery: Delivery, leg: Leg, why: str) -> None:
        self._signals.buried(spec.key, delivery.event, kept=self._keeps(spec.key), code=leg.code, why=why)
        delivery.bury(Burial(why, code=leg.code, attempts=delivery.attempt, destination=leg.dest))

    def _to(self, target: Target, event: Event, spec: Egress, ended: Callable[[Outcome], None]) -> None:
        """Send on the reply or dead-letter leg: `Kn-Namespace`, no `Prefer`; the ttl goes along between brokers."""
        if target.topic:
            self._router.publish(target.topic, event, lambda refusal: ended(_outcome(refusal)))
            return
        lines = b"kn-namespace: " + spec.namespace.encode() + b"\r\n"
        ttl = b"ce-knativebrokerttl: %d\r\n" % event.ttl if event.ttl >= 0 else b""
        endpoint = self._sender.endpoint(target.url, ca_certs=target.ca_certs)
        endpoint.send(lines, event.block + ttl + event.passed, event.body, ended, timeout_s=spec.policy.timeout_s)


def replace_ttl(event: Event, ttl: int) -> Event:
    """The event with this many hops left, -1: without the attribute; what it says of it itself is taken off."""
    if TTL not in event.attributes:
        return Event(event.block, event.body, passed=event.passed, ttl=ttl)
    kept = {name: value for name, value in event.attributes.items() if name != TTL}
    return Event(encode_block(kept), event.body, passed=event.passed, ttl=ttl)


def _no_sink(spec: Egress) -> str:
    """That nobody takes what cannot be delivered and, of a part of a resource, where one would say who does."""
    if not spec.origin:
        return f"there is no dead letter sink for {spec.key}"
    where = f" (it would be set at {spec.dead_letter_hint})" if spec.dead_letter_hint else ""
    return f"{spec.origin} has no dead letter sink{where}"


def _meant_as_event(answer: Answer) -> bool:
    return any(
        name == b"ce-specversion" or (name == b"content-type" and value.lower().startswith(b"application/cloudevents"))
        for name, value in answer.headers
    )


def _error(target: Target | None, outcome: Outcome, why: str) -> Leg:
    if isinstance(outcome, Answer):
        return Leg("subscriber", dest=_url(target), code=outcome.status, body=outcome.body[:_ERROR_BODY], why=why)
    return Leg(
        "subscriber", dest=_url(target), code=0, body=f"dispatch error: {outcome.why}".encode()[:_ERROR_BODY], why=why
    )


def _tell(leg: Leg, decision: RetryIn | GiveUp | Done, why: str) -> str:
    """What happened and what comes next, as one sentence of the story."""
    if isinstance(decision, RetryIn):
        return f"{why}; tried again in {decision.delay_s:g} s"
    return f"{why}; given up" if leg.code else f"given up: {why}"


def _url(target: Target | None) -> str:
    return target.url if target is not None else ""


def _outcome(refusal: Refusal | None) -> Outcome:
    """A publish inside the process, seen as the answer an HTTP hop would have given."""
    if refusal is None:
        return Answer(202)
    if refusal.kind == "unavailable":
        return Unreachable("refused", refusal.why)
    status = {"full": 429, "failed": 500, "unknown": 404, "loop": 400, "invalid": 400, "too-large": 413}.get(
        refusal.kind, 500
    )
    return Answer(status, (), refusal.why.encode())
