"""flows.knative.dev: Sequence and Parallel, and the names of the channels and subscriptions they stand for. Pure. Reference §7."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from mesh.resources.duck import DeliverySpec, Destination, Flaw, Spec
from mesh.resources.messaging import ChannelTemplate
from mesh.resources.meta import Resource

GROUP = "flows.knative.dev"


class SequenceStep(Destination):
    """A Destination, and how often it is tried: `delivery` stands beside `ref` and `uri`."""

    delivery: DeliverySpec | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        yield from super().flaws(path)
        if self.delivery is not None:
            yield from self.delivery.flaws(f"{path}.delivery")


class SequenceSpec(Spec):
    """Steps one after the other; what the last one answers goes to `reply`."""

    steps: list[SequenceStep] = Field(default_factory=list)
    channelTemplate: ChannelTemplate | None = None  # noqa: N815  # Knative's name
    reply: Destination | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if not self.steps:
            yield Flaw(f"{path}.steps", "missing field: at least one step is wanted")
        for index, step in enumerate(self.steps):
            yield from step.flaws(f"{path}.steps[{index}]")
        yield from _common_flaws(self, path)


class ParallelBranch(Spec):
    """What `filter` answers goes to `subscriber`, and what that answers to `reply`, else to the Parallel's."""

    filter: Destination | None = None
    subscriber: Destination = Destination()
    reply: Destination | None = None
    delivery: DeliverySpec | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape; Knative's webhook does not look at the delivery, but what cannot be read cannot hold."""
        for name in ("filter", "subscriber", "reply", "delivery"):
            part: Destination | DeliverySpec | None = getattr(self, name)
            if part is not None:
                yield from part.flaws(f"{path}.{name}")


class ParallelSpec(Spec):
    """Branches beside each other; each gets every event."""

    branches: list[ParallelBranch] = Field(default_factory=list)
    channelTemplate: ChannelTemplate | None = None  # noqa: N815
    reply: Destination | None = None

    def flaws(self, path: str) -> Iterator[Flaw]:
        """Rules beyond the shape."""
        if not self.branches:
            yield Flaw(f"{path}.branches", "missing field: at least one branch is wanted")
        for index, branch in enumerate(self.branches):
            yield from branch.flaws(f"{path}.branches[{index}]")
        yield from _common_flaws(self, path)


def _common_flaws(spec: SequenceSpec | ParallelSpec, path: str) -> Iterator[Flaw]:
    if spec.channelTemplate is not None:
        yield from spec.channelTemplate.flaws(f"{path}.channelTemplate")
    if spec.reply is not None:
        yield from spec.reply.flaws(f"{path}.reply")


# Names are plain: unlike those of other children they are never cut (§7.1). A flow that cannot be read still has the names
# of as many parts as it lists, so that nothing of it counts as deleted while it is broken.


@dataclass(frozen=True, kw_only=True)
class Sequence(Resource):
    """spec is None where it could not be read."""

    spec: SequenceSpec | None

    @property
    def channels(self) -> tuple[str, ...]:
        """One before each step, at least the first one: it has the address."""
        stem = f"{self.key.name}-kn-sequence-"
        return tuple(f"{stem}{index}" for index in range(max(1, _count(self, "steps"))))

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """One a step, named as the channel it reads from."""
        return self.channels


@dataclass(frozen=True, kw_only=True)
class Parallel(Resource):
    """spec is None where it could not be read."""

    spec: ParallelSpec | None

    @property
    def channels(self) -> tuple[str, ...]:
        """The one that has the address, then one for each branch."""
        stem = f"{self.key.name}-kn-parallel"
        return stem, *(f"{stem}-{index}" for index in range(_count(self, "branches")))

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """For each branch that of its filter and its own, which is named as its channel."""
        stem, *branches = self.channels
        filters = (f"{stem}-filter-{index}" for index in range(len(branches)))
        return tuple(name for pair in zip(filters, branches, strict=True) for name in pair)


def _count(resource: Resource, field: str) -> int:
    spec = resource.document.value.get("spec")
    parts = spec.get(field) if isinstance(spec, dict) else None
    return len(parts) if isinstance(parts, list) else 0
