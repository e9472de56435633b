"""What changes between two plans. Pure. First start is a diff from the empty plan, so there is one path."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.plan.model import Ingress, Plan, SourceSpec, Topic


@dataclass(frozen=True, slots=True)
class Diff:
    """stop_*: keys. changed_topics: present in both plans and not equal; a topic on another backend is stopped and started.

    stop_sources, start_sources: a changed source is stopped, then started. ingresses: all of the new plan, they cost nothing.
    """

    stop_topics: tuple[str, ...] = ()
    start_topics: tuple[Topic, ...] = ()
    changed_topics: tuple[Topic, ...] = ()
    stop_sources: tuple[str, ...] = ()
    start_sources: tuple[SourceSpec, ...] = ()
    ingresses: tuple[Ingress, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Nothing to stop, start or change; addresses may differ all the same."""
        return not (
            self.stop_topics or self.start_topics or self.changed_topics or self.stop_sources or self.start_sources
        )


def diff(old: Plan, new: Plan) -> Diff:
    """What to stop and start so that what runs is the new plan."""
    before = {topic.key: topic for topic in old.topics}
    after = {topic.key: topic for topic in new.topics}
    kept = {key for key in before.keys() & after.keys() if before[key].backend == after[key].backend}
    old_sources, new_sources = set_of(old.sources), set_of(new.sources)
    return Diff(
        stop_topics=tuple(key for key in before if key not in kept),
        start_topics=tuple(topic for topic in new.topics if topic.key not in kept),
        changed_topics=tuple(topic for topic in new.topics if topic.key in kept and before[topic.key] != topic),
        stop_sources=tuple(key for key, source in old_sources.items() if new_sources.get(key) != source),
        start_sources=tuple(source for source in new.sources if old_sources.get(source.key) != source),
        ingresses=new.ingresses,
    )


def set_of(sources: tuple[SourceSpec, ...]) -> dict[str, SourceSpec]:
    """Sources by key."""
    return {source.key: source for source in sources}


def apply(plan: Plan, change: Diff) -> Plan:
    """The plan after the change: for every two plans `apply(old, diff(old, new)) == new`."""
    topics = {topic.key: topic for topic in plan.topics}
    sources = set_of(plan.sources)
    for key in change.stop_topics:
        del topics[key]
    for key in change.stop_sources:
        del sources[key]
    topics |= {topic.key: topic for topic in (*change.start_topics, *change.changed_topics)}
    sources |= set_of(change.start_sources)
    return Plan(
        ingresses=change.ingresses,
        topics=tuple(sorted(topics.values(), key=lambda topic: topic.key)),
        sources=tuple(sorted(sources.values(), key=lambda source: source.key)),
    )
