"""Laws of compiling: order never matters, nothing raises, a diff leads from every plan to every other."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.plan.compile import CompileOptions, compile_plan
from mesh.plan.diff import apply, diff
from mesh.plan.keys import plan_keys
from mesh.plan.model import Plan
from mesh.resources.decode import Document, decode, read_documents
from mesh.resources.duration import parse_duration
from mesh.resources.flows import Parallel, Sequence
from mesh.resources.meta import Resource, child_name

OPTIONS = CompileOptions(ingress_url="http://localhost:8080", admin_url="http://localhost:8081")
names = st.sampled_from(["a", "b", "c"])
uris = st.sampled_from(["http://h/1", "http://h/2", "http://localhost:8080/default/a", "nonsense"])


def ref(kind: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    group = st.sampled_from(
        [
            "eventing.knative.dev/v1",
            "messaging.knative.dev/v1",
            "messaging.knit.dev/v1alpha1",
            "flows.knative.dev/v1",
            "v1",
        ]
    )
    return st.fixed_dictionaries({"apiVersion": group, "kind": kind, "name": names})


kinds = st.sampled_from(["Broker", "Channel", "InMemoryChannel", "LogChannel", "Service", "Sequence", "Parallel"])
destinations = st.one_of(st.fixed_dictionaries({"uri": uris}), st.fixed_dictionaries({"ref": ref(kinds)}))
deliveries = st.fixed_dictionaries(
    {},
    optional={
        "retry": st.sampled_from([0, 3, -1]),
        "backoffPolicy": st.sampled_from(["linear", "exponential"]),
        "backoffDelay": st.sampled_from(["PT1S", "5s"]),
        "deadLetterSink": destinations,
    },
)
notes = st.fixed_dictionaries(
    {},
    optional={
        "delivery.knit.dev/parallelism": st.sampled_from(["1", "7", "x"]),
        "messaging.knative.dev/async-handler": st.sampled_from(["true", "false"]),
        "eventing.knative.dev/broker.class": st.sampled_from(["MTChannelBasedBroker", "Kafka"]),
    },
)


def objects(api_version: str, kind: str, **spec: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "apiVersion": st.just(api_version),
            "kind": st.just(kind),
            "metadata": st.fixed_dictionaries({"name": names, "annotations": notes}),
            "spec": st.fixed_dictionaries({}, optional=spec),
        }
    )


templates = st.sampled_from(
    [
        {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel"},
        {"apiVersion": "messaging.knit.dev/v1alpha1", "kind": "LogChannel", "spec": {"delivery": {"retry": 1}}},
        {"apiVersion": "messaging.knative.dev/v9", "kind": "InMemoryChannel"},
    ]
)
steps = st.tuples(destinations, deliveries).map(lambda pair: {**pair[0], "delivery": pair[1]})
branches = st.fixed_dictionaries(
    {"subscriber": destinations}, optional={"filter": destinations, "reply": destinations, "delivery": deliveries}
)
filters = st.lists(
    st.fixed_dictionaries({}, optional={"exact": st.just({"type": "t"}), "cesql": st.just("TRUE")}), max_size=2
)
worlds = st.lists(
    st.one_of(
        objects("eventing.knative.dev/v1", "Broker", delivery=deliveries),
        objects(
            "eventing.knative.dev/v1",
            "Trigger",
            broker=names,
            subscriber=destinations,
            delivery=deliveries,
            filters=filters,
        ),
        objects("messaging.knative.dev/v1", "Channel", delivery=deliveries),
        objects("messaging.knative.dev/v1", "InMemoryChannel", delivery=deliveries),
        objects("messaging.knit.dev/v1alpha1", "LogChannel", delivery=deliveries),
        objects(
            "messaging.knative.dev/v1", "Subscription", channel=ref(kinds), subscriber=destinations, reply=destinations
        ),
        objects("sources.knative.dev/v1", "PingSource", sink=destinations),
        objects(
            "flows.knative.dev/v1",
            "Sequence",
            steps=st.lists(steps, max_size=3),
            channelTemplate=templates,
            reply=destinations,
        ),
        objects(
            "flows.knative.dev/v1",
            "Parallel",
            branches=st.lists(branches, max_size=3),
            channelTemplate=templates,
            reply=destinations,
        ),
    ),
    max_size=9,
)


def resources_of(objects: list[dict[str, Any]]) -> list[Resource]:
    documents = [Document("w.yaml", line, value) for line, value in enumerate(objects, 1)]
    return [resource for document in documents if (resource := decode(document)[0]) is not None]


def plan_of(objects: list[dict[str, Any]]) -> Plan:
    return compile_plan(resources_of(objects), OPTIONS).plan


@given(world=worlds, data=st.data())
@settings(deadline=None)
def test_order_of_resources_never_changes_what_is_compiled(world: list[dict[str, Any]], data: st.DataObject) -> None:
    resources = resources_of(world)
    shuffled = data.draw(st.permutations(resources))
    assert compile_plan(shuffled, OPTIONS) == compile_plan(resources, OPTIONS)


@given(world=worlds)
@settings(deadline=None)
def test_what_is_compiled_is_consistent(world: list[dict[str, Any]]) -> None:
    compiled = compile_plan(resources_of(world), OPTIONS)
    plan = compiled.plan
    topics = {topic.key for topic in plan.topics}
    egresses = [egress for topic in plan.topics for egress in topic.egresses]
    sources = [source.sink for source in plan.sources]
    targets = [t for e in egresses for t in (e.subscriber, e.reply, e.dead_letter) if t is not None]
    assert len(topics) == len(plan.topics)
    assert len({egress.key for egress in egresses}) == len(egresses)
    assert {target.topic for target in (*targets, *sources)} - {""} <= topics
    assert {ingress.topic for ingress in plan.ingresses} - {""} <= topics
    assert all(bool(ingress.topic) != bool(ingress.not_ready) for ingress in plan.ingresses)
    doors = [door for ingress in plan.ingresses for door in (*ingress.paths, *ingress.hosts)]
    assert len(doors) == len(set(doors))
    assert topics | {egress.key for egress in egresses} <= compiled.known


@given(world=worlds)
@settings(deadline=None)
def test_what_runs_is_ready_and_what_does_not_says_why(world: list[dict[str, Any]]) -> None:
    resources = resources_of(world)
    compiled = compile_plan(resources, OPTIONS)
    running = {topic.key for topic in compiled.plan.topics}
    running |= {egress.key for topic in compiled.plan.topics for egress in topic.egresses}
    running |= {source.key for source in compiled.plan.sources}
    prefixes = {"Broker": "broker", "Trigger": "trigger", "Subscription": "subscription", "PingSource": "pingsource"}
    for key, status in compiled.statuses.items():
        is_ready = status.ready.status == "True"
        assert is_ready or status.ready.message
        if key.kind in prefixes:
            assert is_ready == (f"{prefixes[key.kind]}/{key.namespace}/{key.name}" in running)
    for flow in resources:  # of two with one key the first counts
        if isinstance(flow, Sequence | Parallel) and [r.key for r in resources].count(flow.key) == 1:
            assert (compiled.statuses[flow.key].ready.status == "True") == (set(plan_keys(flow)) <= running)


@given(old=worlds, new=worlds)
@settings(deadline=None)
def test_diff_leads_from_every_plan_to_every_other(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    before, after = plan_of(old), plan_of(new)
    change = diff(before, after)
    assert apply(before, change) == after
    started, stopped = {topic.key for topic in change.start_topics}, set(change.stop_topics)
    assert not {topic.key for topic in change.changed_topics} & (started | stopped)


WORDS = (
    *("broker", "subscriber", "uri", "ref", "kind", "name", "delivery", "retry", "filters", "filter", "attributes"),
    *("exact", "cesql", "all", "deadLetterSink", "apiVersion", "channel", "channelTemplate", "config", "spec"),
    *("namespace", "annotations", "labels", "data", "sink", "ceOverrides", "extensions", "schedule"),
    *("steps", "branches", "reply"),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
loose = st.lists(
    st.fixed_dictionaries(
        {
            "apiVersion": st.sampled_from(
                [
                    *("eventing.knative.dev/v1", "messaging.knative.dev/v1", "sources.knative.dev/v1"),
                    *("flows.knative.dev/v1", "v1"),
                ]
            ),
            "kind": st.sampled_from(
                [
                    *("Broker", "Trigger", "Channel", "InMemoryChannel", "Subscription", "PingSource", "ConfigMap"),
                    *("Sequence", "Parallel"),
                ]
            ),
            "metadata": st.one_of(st.fixed_dictionaries({"name": names}), values),
            "spec": values,
        },
        optional={"data": values, "status": values},
    ),
    max_size=3,
)


@given(world=loose)
@settings(deadline=None)
def test_no_object_makes_compiling_raise(world: list[dict[str, Any]]) -> None:
    compiled = compile_plan(resources_of(world), OPTIONS)
    assert {topic.key for topic in compiled.plan.topics} <= compiled.known


@given(text=st.text(alphabet="ab:-{}[]&*!|>'\"#%,\n\t 1.~<", max_size=60))
def test_no_text_makes_reading_raise(text: str) -> None:
    documents, problems = read_documents(text, file="a.yaml")
    for document in documents:
        decode(document)
    assert all(1 <= problem.line <= text.count("\n") + 2 for problem in problems)


@given(seconds=st.integers(0, 10**9), fraction=st.integers(0, 999))
def test_seconds_survive_being_written(seconds: int, fraction: int) -> None:
    assert abs(parse_duration(f"PT{seconds}.{fraction:03}S") - (seconds + fraction / 1000)) < 1e-6


@given(
    parent=st.text(alphabet="abc-", min_size=1, max_size=90), suffix=st.text(alphabet="xyz-", min_size=1, max_size=80)
)
def test_child_names_are_never_too_long(parent: str, suffix: str) -> None:
    assert len(child_name(parent, suffix)) <= 63
