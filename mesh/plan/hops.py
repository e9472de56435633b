"""Which subscriptions a Sequence or Parallel consists of. Pure. Eventing reference §7.1, §7.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesh.resources.duck import DeliverySpec, Destination
from mesh.resources.flows import Parallel, Sequence


@dataclass(frozen=True, slots=True)
class Hop:
    """One subscription of a flow.

    channel, and subscriber or reply where it is a text: the name of a channel of the flow. …_path: the fields they were
    written in. origin: what people call it. hint: the field that would give it a dead letter sink.
    """

    name: str
    channel: str
    subscriber: Destination | str
    reply: Destination | str | None
    delivery: DeliverySpec | None
    subscriber_path: str
    reply_path: str
    delivery_path: str
    origin: str
    hint: str


def hops_of(flow: Sequence | Parallel) -> tuple[Hop, ...]:
    """In the order of `subscriptions`; none where the spec could not be read."""
    return tuple(_steps(flow) if isinstance(flow, Sequence) else _branches(flow))


def _steps(sequence: Sequence) -> Iterator[Hop]:
    """Each step reads its channel and answers into the next one, the last one to the Sequence's reply."""
    spec = sequence.spec
    for index, step in enumerate(spec.steps if spec else ()):
        is_last = spec is None or index + 1 == len(spec.steps)
        where = f"spec.steps[{index}]"
        yield Hop(
            name=sequence.subscriptions[index],
            channel=sequence.channels[index],
            subscriber=step,
            reply=spec.reply if spec and is_last else sequence.channels[index + 1],
            delivery=step.delivery,
            subscriber_path=where,
            reply_path="spec.reply",
            delivery_path=f"{where}.delivery",
            origin=f"step {index} of {sequence.key}",
            hint=f"steps[{index}].delivery.deadLetterSink",
        )


def _branches(parallel: Parallel) -> Iterator[Hop]:
    """For each branch two: its filter, which answers into the branch's channel, and what reads from that.

    A branch's delivery is its subscriber's alone; its filter has the channel template's.
    """
    spec = parallel.spec
    ingress, *channels = parallel.channels
    for index, branch in enumerate(spec.branches if spec else ()):
        where, channel = f"spec.branches[{index}]", channels[index]
        gate, own = parallel.subscriptions[2 * index : 2 * index + 2]
        origin = f"branch {index} of {parallel.key}"
        yield Hop(
            name=gate,
            channel=ingress,
            subscriber=branch.filter if branch.filter is not None else channel,
            reply=channel if branch.filter is not None else None,
            delivery=None,
            subscriber_path=f"{where}.filter",
            reply_path=f"{where}.subscriber",
            delivery_path=f"{where}.filter",
            origin=f"the filter of {origin}" if branch.filter is not None else f"the way to {origin}",
            hint="channelTemplate.spec.delivery.deadLetterSink",
        )
        has_own_reply = branch.reply is not None
        yield Hop(
            name=own,
            channel=channel,
            subscriber=branch.subscriber,
            reply=branch.reply if has_own_reply else spec.reply if spec else None,
            delivery=branch.delivery,
            subscriber_path=f"{where}.subscriber",
            reply_path=f"{where}.reply" if has_own_reply else "spec.reply",
            delivery_path=f"{where}.delivery",
            origin=origin,
            hint=f"branches[{index}].delivery.deadLetterSink",
        )
