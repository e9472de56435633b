"""Sequence and Parallel: which channels and subscriptions they become, what their statuses say, and what an edit moves."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.plan.diff import diff
from mesh.plan.keys import plan_keys
from mesh.plan.model import Target
from tests.unit.plan.worlds import BROKER, World, config_map, trigger

IMC = "{apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel}"
LOG = "{apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel}"
TICK = """
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: tick}
spec: {schedule: '* * * * *', sink: {ref: {apiVersion: flows.knative.dev/v1, kind: Parallel, name: flow}}}
---
"""


def flow(kind: str, *, notes: str = "{}", name: str = "flow", **spec: str) -> str:
    lines = "".join(f"  {field}: {value}\n" for field, value in spec.items())
    metadata = f"{{name: {name}, annotations: {notes}}}"
    return f"apiVersion: flows.knative.dev/v1\nkind: {kind}\nmetadata: {metadata}\nspec:\n{lines}---\n"


def sequence(*steps: str, **given: str) -> str:
    return flow("Sequence", steps=f"[{', '.join(steps)}]", **given)


def parallel(*branches: str, **given: str) -> str:
    return flow("Parallel", branches=f"[{', '.join(branches)}]", **given)


def uri(name: str, more: str = "") -> str:
    return f"{{uri: 'http://h/{name}'{', ' if more else ''}{more}}}"


def channel(name: str) -> Target:
    return Target(f"http://localhost:8080/default/{name}-kn-channel", f"channel/default/{name}")


def keys(world: World) -> dict[str, list[str]]:
    return {topic.key: [egress.key for egress in topic.egresses] for topic in world.plan.topics}


def statuses(world: World, kind: str, *fields: str) -> Any:
    found: Any = world.status(kind, "flow").fields
    for field in fields:
        found = found[field]
    return found


def test_a_sequence_is_a_chain_of_channels() -> None:
    world = World(sequence(uri("a"), uri("b"), reply=uri("end"), channelTemplate=LOG))
    assert keys(world) == {
        "channel/default/flow-kn-sequence-0": ["subscription/default/flow-kn-sequence-0"],
        "channel/default/flow-kn-sequence-1": ["subscription/default/flow-kn-sequence-1"],
    }
    first = world.egress("subscription/default/flow-kn-sequence-0")
    last = world.egress("subscription/default/flow-kn-sequence-1")
    assert (first.subscriber, first.reply) == (Target("http://h/a"), channel("flow-kn-sequence-1"))
    assert (last.subscriber, last.reply) == (Target("http://h/b"), Target("http://h/end"))
    assert (first.kind, first.name, first.strict_reply) == ("Subscription", "flow-kn-sequence-0", False)
    assert (last.origin, last.dead_letter_hint) == (
        "step 1 of Sequence default/flow",
        "steps[1].delivery.deadLetterSink",
    )
    assert world.problems == []


def test_what_the_last_step_answers_without_a_reply_is_dropped() -> None:
    world = World(sequence(uri("a")))
    assert world.egress("subscription/default/flow-kn-sequence-0").reply is None


def test_the_channels_of_a_flow_have_paths_and_hosts_as_others() -> None:
    (ingress,) = World(sequence(uri("a"))).plan.ingresses
    assert ingress.paths == ("/default/flow-kn-sequence-0-kn-channel",)
    assert "flow-kn-sequence-0-kn-channel.default.svc.cluster.local" in ingress.hosts
    assert ingress.topic == "channel/default/flow-kn-sequence-0"


def test_the_status_of_a_sequence() -> None:
    world = World(sequence(uri("a"), channelTemplate=IMC))
    ready = {"type": "Ready", "status": "True"}
    name = {"name": "flow-kn-sequence-0", "namespace": "default"}
    assert world.status("Sequence", "flow").fields == {
        "channelStatuses": [
            {
                "channel": {"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel", **name},
                "ready": ready,
            }
        ],
        "subscriptionStatuses": [
            {"subscription": {"apiVersion": "messaging.knative.dev/v1", "kind": "Subscription", **name}, "ready": ready}
        ],
        "address": {"url": "http://localhost:8080/default/flow-kn-sequence-0-kn-channel"},
    }
    assert {c.type: c.status for c in world.status("Sequence", "flow").conditions} == dict.fromkeys(
        ["Addressable", "ChannelsReady", "EventPoliciesReady", "Ready", "SubscriptionsReady"], "True"
    )


def test_a_parallel_is_an_ingress_and_a_channel_for_each_branch() -> None:
    with_filter = f"{{filter: {uri('f')}, subscriber: {uri('a')}, reply: {uri('own')}}}"
    world = World(parallel(with_filter, f"{{subscriber: {uri('b')}}}", reply=uri("end")))
    assert keys(world) == {
        "channel/default/flow-kn-parallel": [
            "subscription/default/flow-kn-parallel-filter-0",
            "subscription/default/flow-kn-parallel-filter-1",
        ],
        "channel/default/flow-kn-parallel-0": ["subscription/default/flow-kn-parallel-0"],
        "channel/default/flow-kn-parallel-1": ["subscription/default/flow-kn-parallel-1"],
    }
    gate, direct = world.topic("channel/default/flow-kn-parallel").egresses
    assert (gate.subscriber, gate.reply) == (Target("http://h/f"), channel("flow-kn-parallel-0"))
    assert (direct.subscriber, direct.reply) == (channel("flow-kn-parallel-1"), None)
    first, second = (world.egress(f"subscription/default/flow-kn-parallel-{index}") for index in (0, 1))
    assert (first.subscriber, first.reply) == (Target("http://h/a"), Target("http://h/own"))
    assert (second.subscriber, second.reply) == (Target("http://h/b"), Target("http://h/end"))
    assert [e.origin for e in (gate, first)] == [
        "the filter of branch 0 of Parallel default/flow",
        "branch 0 of Parallel default/flow",
    ]
    assert first.dead_letter_hint == "branches[0].delivery.deadLetterSink"
    assert gate.dead_letter_hint == "channelTemplate.spec.delivery.deadLetterSink"


def test_the_status_of_a_parallel() -> None:
    world = World(parallel(f"{{subscriber: {uri('a')}}}"))
    assert statuses(world, "Parallel", "ingressChannelStatus", "channel", "name") == "flow-kn-parallel"
    (branch,) = statuses(world, "Parallel", "branchStatuses")
    assert branch["filterSubscriptionStatus"]["subscription"]["name"] == "flow-kn-parallel-filter-0"
    assert branch["filterChannelStatus"]["channel"]["name"] == "flow-kn-parallel-0"
    assert branch["subscriberSubscriptionStatus"]["subscription"]["name"] == "flow-kn-parallel-0"
    assert statuses(world, "Parallel", "address", "url").endswith("/default/flow-kn-parallel-kn-channel")
    assert world.is_ready("Parallel", "flow")


# Delivery.


def test_a_step_has_its_own_delivery_else_that_of_the_channel_template() -> None:
    template = "{apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel, spec: {delivery: {retry: 7, deadLetterSink: {uri: 'http://h/common'}}}}"
    own = uri("a", "delivery: {retry: 2, backoffPolicy: linear, backoffDelay: PT1S}")
    world = World(sequence(own, uri("b"), channelTemplate=template))
    first, second = (world.egress(f"subscription/default/flow-kn-sequence-{index}") for index in (0, 1))
    assert (first.policy.retries, first.policy.delay_s, second.policy.retries) == (2, 1.0, 7)
    assert first.dead_letter == second.dead_letter == Target("http://h/common")


def test_a_branchs_delivery_is_not_its_filters() -> None:
    branch = f"{{filter: {uri('f')}, subscriber: {uri('a')}, delivery: {{retry: 3, deadLetterSink: {uri('d')}}}}}"
    world = World(parallel(branch))
    gate = world.egress("subscription/default/flow-kn-parallel-filter-0")
    own = world.egress("subscription/default/flow-kn-parallel-0")
    assert (gate.policy.retries, gate.dead_letter) == (0, None)
    assert (own.policy.retries, own.dead_letter) == (3, Target("http://h/d"))


def test_a_dead_letter_sink_of_the_template_that_is_not_there_is_told_once_and_where_it_stands() -> None:
    sink = "{ref: {apiVersion: v1, kind: Service, name: gone}}"
    template = (
        f"{{apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel, spec: {{delivery: {{deadLetterSink: {sink}}}}}}}"
    )
    world = World(sequence(uri("a"), uri("b"), channelTemplate=template))
    (problem,) = world.problems
    assert problem.path == "spec.channelTemplate.spec.delivery.deadLetterSink"
    assert world.condition("Sequence", "flow", "ChannelsReady").status == "Unknown"


def test_a_delivery_field_that_is_switched_off_is_refused_in_a_step() -> None:
    off = config_map("config-features", {"delivery-timeout": "disabled"})
    world = World(off + sequence(uri("a"), uri("b", "delivery: {timeout: PT1S}")))
    (problem,) = world.problems
    assert problem.path == "spec.steps[1].delivery.timeout"
    assert world.condition("Sequence", "flow").reason == "InvalidSpec"
    assert world.plan.topics == ()


# Channel templates.


@pytest.mark.parametrize(("template", "backend"), [(IMC, "memory"), (LOG, "log")])
def test_the_template_says_what_holds_the_events(template: str, backend: str) -> None:
    world = World(sequence(uri("a"), channelTemplate=template))
    assert world.topic("channel/default/flow-kn-sequence-0").backend == backend


def test_without_a_template_the_cluster_default_holds_whatever_the_namespace_says() -> None:
    channels = f"clusterDefault: {IMC}\nnamespaceDefaults:\n  default: {LOG}\n"
    world = World(config_map("default-ch-webhook", {"default-ch-config": channels}) + sequence(uri("a")))
    assert world.topic("channel/default/flow-kn-sequence-0").backend == "memory"


@pytest.mark.parametrize(
    ("template", "path", "words"),
    [
        ("{apiVersion: messaging.knative.dev/v1beta1, kind: InMemoryChannel}", ".apiVersion", "use messaging.knative.dev/v1"),
        ("{apiVersion: messaging.knative.dev/v1, kind: LogChannel}", ".apiVersion", "use messaging.knit.dev/v1alpha1"),
        ("{apiVersion: v1, kind: Service}", ".kind", "is no channel"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("make", "kind", "status"), [(sequence, "Sequence", "Unknown"), (parallel, "Parallel", "False")])  # fmt: skip
def test_a_template_that_cannot_be_used(
    make: Any, kind: str, status: str, template: str, path: str, words: str
) -> None:
    part = uri("a") if kind == "Sequence" else f"{{subscriber: {uri('a')}}}"
    world = World(make(part, channelTemplate=template))
    (problem,) = world.problems
    assert problem.path == f"spec.channelTemplate{path}"
    assert words in problem.message
    ready = world.condition(kind, "flow")
    assert (ready.status, ready.reason) == (status, "ChannelsNotReady")
    assert words in ready.message
    found = {name: world.condition(kind, "flow", name) for name in ("SubscriptionsReady", "Addressable")}
    assert [(c.status, c.reason) for c in found.values()] == [
        (status, "SubscriptionsNotReady"),
        (status, "emptyAddress"),
    ]
    assert "address" not in world.status(kind, "flow").fields
    assert all(words in ingress.not_ready for ingress in world.plan.ingresses)
    assert world.plan.topics == ()


def test_annotations_of_a_flow_hold_for_its_channels_and_subscriptions() -> None:
    notes = "{messaging.knative.dev/async-handler: 'true', delivery.knit.dev/parallelism: '3'}"
    world = World(sequence(uri("a"), channelTemplate=IMC, notes=notes))
    topic = world.topic("channel/default/flow-kn-sequence-0")
    assert topic.options == {"sync": False}
    assert topic.egresses[0].parallelism == 3


# References to flows, and of flows.


@pytest.mark.parametrize(("kind", "door"), [("Sequence", "flow-kn-sequence-0"), ("Parallel", "flow-kn-parallel")])
def test_a_flow_is_reached_by_its_reference(kind: str, door: str) -> None:
    ref = f"{{ref: {{apiVersion: flows.knative.dev/v1, kind: {kind}, name: flow}}}}"
    own = sequence(uri("a")) if kind == "Sequence" else parallel(f"{{subscriber: {uri('a')}}}")
    other = sequence(ref, name="other", reply=ref)
    dead = trigger(subscriber=ref, delivery=f"{{deadLetterSink: {ref}}}")
    world = World(BROKER + other + own + dead)
    assert world.errors == []
    hung, step = world.egress("trigger/default/t"), world.egress("subscription/default/other-kn-sequence-0")
    assert hung.subscriber == hung.dead_letter == step.subscriber == step.reply == channel(door)


def test_a_source_may_send_to_a_flow_and_a_broker_bury_in_one() -> None:
    ref = "{ref: {apiVersion: flows.knative.dev/v1, kind: Parallel, name: flow}}"
    broker = BROKER.replace("---\n", f"spec: {{delivery: {{deadLetterSink: {ref}}}}}\n---\n")
    world = World(broker + TICK + parallel(f"{{subscriber: {uri('a')}}}") + trigger())
    assert world.errors == []
    assert world.plan.sources[0].sink == channel("flow-kn-parallel")
    assert world.egress("trigger/default/t").dead_letter == channel("flow-kn-parallel")


def test_a_reference_to_a_flow_that_is_not_ready_says_why() -> None:
    ref = "{ref: {apiVersion: flows.knative.dev/v1, kind: Sequence, name: flow}}"
    world = World(
        BROKER + sequence(uri("a"), channelTemplate="{apiVersion: v1, kind: Service}") + trigger(subscriber=ref)
    )
    message = world.condition("Trigger", "t").message
    assert "Sequence default/flow is not ready" in message
    assert "is no channel" in message


def test_a_reference_to_a_flow_that_is_misspelt_gets_the_right_name() -> None:
    ref = "{ref: {apiVersion: flows.knative.dev/v1, kind: Sequence, name: folw}}"
    world = World(BROKER + sequence(uri("a")) + trigger(subscriber=ref))
    assert "did you mean flow?" in world.condition("Trigger", "t").message


def test_a_user_may_listen_between_two_steps() -> None:
    listener = """
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: listener}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: flow-kn-sequence-1}
  subscriber: {uri: 'http://h/listener'}
---
"""
    world = World(sequence(uri("a"), uri("b"), channelTemplate=IMC) + listener)
    assert keys(world)["channel/default/flow-kn-sequence-1"] == [
        "subscription/default/flow-kn-sequence-1",
        "subscription/default/listener",
    ]


@pytest.mark.parametrize(
    ("field", "spec", "reason"),
    [
        ("spec.steps[1]", (uri("a"), "{ref: {apiVersion: v1, kind: Service, name: gone}}"), "SubscriberResolveFailed"),
        (
            "spec.steps[1].delivery.deadLetterSink",
            (uri("a"), uri("b", "delivery: {deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: gone}}}")),
            "DeadLetterSinkResolveFailed",
        ),
    ],
)
def test_a_step_that_leads_nowhere_leaves_the_others_running(field: str, spec: tuple[str, ...], reason: str) -> None:
    """Events that come meanwhile wait in its channel: the address stays, as in Knative."""
    world = World(sequence(*spec))
    (problem,) = world.problems
    assert problem.path == field
    condition = world.condition("Sequence", "flow", "SubscriptionsReady")
    assert (condition.status, condition.reason) == ("Unknown", "SubscriptionsNotReady")
    assert f"Failed to resolve {field}: Service default/gone" in condition.message
    assert statuses(world, "Sequence", "subscriptionStatuses")[1]["ready"]["reason"] == reason
    assert keys(world) == {
        "channel/default/flow-kn-sequence-0": ["subscription/default/flow-kn-sequence-0"],
        "channel/default/flow-kn-sequence-1": [],
    }
    assert world.condition("Sequence", "flow", "Addressable").status == "True"


def test_a_reply_that_leads_nowhere() -> None:
    world = World(parallel(f"{{subscriber: {uri('a')}}}", f"{{subscriber: {uri('b')}}}", reply="{ref: {apiVersion: v1, kind: Service, name: gone}}"))  # fmt: skip
    assert [problem.path for problem in world.problems] == ["spec.reply"]
    condition = world.condition("Parallel", "flow")
    assert (condition.status, condition.reason) == ("False", "SubscriptionsNotReady")
    states = statuses(world, "Parallel", "branchStatuses")
    assert [state["subscriberSubscriptionStatus"]["ready"]["reason"] for state in states] == ["ReplyResolveFailed"] * 2


def test_a_channel_of_the_same_name_keeps_its_address() -> None:
    taken = "apiVersion: messaging.knative.dev/v1\nkind: InMemoryChannel\nmetadata: {name: flow-kn-sequence-1}\n---\n"
    world = World(taken + sequence(uri("a"), uri("b"), channelTemplate=IMC))
    assert "belongs to InMemoryChannel default/flow-kn-sequence-1" in world.condition("Sequence", "flow").message
    assert world.is_ready("InMemoryChannel", "flow-kn-sequence-1")
    assert keys(world)["channel/default/flow-kn-sequence-1"] == []
    assert keys(world)["channel/default/flow-kn-sequence-0"] == []


def test_a_subscription_of_the_same_name_keeps_its_position() -> None:
    taken = """
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: flow-kn-sequence-0}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: flow-kn-sequence-0}
  subscriber: {uri: 'http://h/mine'}
---
"""
    world = World(sequence(uri("a"), channelTemplate=IMC) + taken)
    assert world.egress("subscription/default/flow-kn-sequence-0").subscriber == Target("http://h/mine")
    ready = statuses(world, "Sequence", "subscriptionStatuses")[0]["ready"]
    assert (ready["status"], ready["reason"]) == ("False", "SubscriptionNotOwned")


# Edits.


def topics_changed(before: str, after: str) -> tuple[list[str], list[str], list[str]]:
    change = diff(World(before).plan, World(after).plan)
    return [t.key[-1] for t in change.start_topics], [t.key[-1] for t in change.changed_topics], [k[-1] for k in change.stop_topics]  # fmt: skip


def test_a_step_added_at_the_end_touches_only_the_one_before_it() -> None:
    assert topics_changed(sequence(uri("a"), uri("b")), sequence(uri("a"), uri("b"), uri("c"))) == (["2"], ["1"], [])


def test_a_step_put_in_takes_over_what_waits_at_its_index_and_nothing_stops() -> None:
    before, after = sequence(uri("a"), uri("c")), sequence(uri("a"), uri("b"), uri("c"))
    assert topics_changed(before, after) == (["2"], ["1"], [])
    world = World(after)
    assert world.egress("subscription/default/flow-kn-sequence-1").subscriber == Target("http://h/b")
    assert world.egress("subscription/default/flow-kn-sequence-1").reply == channel("flow-kn-sequence-2")


def test_a_step_taken_out_stops_the_last_channel_only() -> None:
    assert topics_changed(sequence(uri("a"), uri("b"), uri("c")), sequence(uri("a"), uri("c"))) == ([], ["1"], ["2"])


def test_another_address_of_a_step_leaves_the_others_alone() -> None:
    assert topics_changed(sequence(uri("a"), uri("b")), sequence(uri("new"), uri("b"))) == ([], ["0"], [])


@pytest.mark.parametrize(
    "text",
    [
        sequence(uri("a"), uri("b", "delivery: {retry: -1}")),
        sequence("{uri: {kind: Service}}", uri("b")),
        sequence(uri("a"), uri("b"), channelTemplate="{apiVersion: v1, kind: Service}"),
        sequence(uri("a"), "null"),
    ],
)
def test_a_broken_sequence_keeps_the_keys_of_as_many_steps_as_it_lists(text: str) -> None:
    world = World(text)
    assert world.plan.topics == ()
    names = ["flow-kn-sequence-0", "flow-kn-sequence-1"]
    assert world.compiled.known == {f"{kind}/default/{name}" for kind in ("channel", "subscription") for name in names}


def test_a_broken_parallel_keeps_its_keys() -> None:
    world = World(parallel("{subscriber: 3}"))
    (resource,) = world.resources
    assert world.compiled.known == set(plan_keys(resource))
    assert plan_keys(resource) == (
        "channel/default/flow-kn-parallel",
        "channel/default/flow-kn-parallel-0",
        "subscription/default/flow-kn-parallel-filter-0",
        "subscription/default/flow-kn-parallel-0",
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (flow("Sequence", steps="[]"), "spec.steps"),
        (flow("Parallel", branches="[]"), "spec.branches"),
        (flow("Sequence", steps="{}"), "spec.steps"),
        (sequence("{}"), "spec.steps[0]"),
        (sequence(uri("a"), reply="{}"), "spec.reply"),
        (sequence(uri("a", "delivery: {backoffDelay: 5s}")), "spec.steps[0].delivery.backoffDelay"),
        (sequence("{kind: Service, name: a}"), "spec.steps[0].kind"),
        (sequence("'http://h'"), "spec.steps[0]"),
        (sequence(uri("a"), channelTemplate="{kind: InMemoryChannel}"), "spec.channelTemplate.apiVersion"),
        (parallel("{filter: {uri: 'http://h/'}}"), "spec.branches[0].subscriber"),
        (parallel(f"{{filter: {{}}, subscriber: {uri('a')}}}"), "spec.branches[0].filter"),
        (parallel(f"{{subscriber: {uri('a')}, reply: {{uri: nowhere}}}}"), "spec.branches[0].reply.uri"),
        (parallel(f"{{subscriber: {uri('a')}, delivery: {{timeout: PT0S}}}}"), "spec.branches[0].delivery.timeout"),
        (parallel(f"{{subscriber: {uri('a')}, steps: []}}"), "spec.branches[0].steps"),
    ],
)
def test_what_is_refused_is_told_with_its_path(text: str, path: str) -> None:
    world = World(text)
    assert path in [problem.path for problem in world.problems]
    kind = world.resources[0].key.kind
    ready = world.condition(kind, "flow")
    assert (ready.status, ready.reason) == ("False", "InvalidSpec")
    assert path in ready.message
    assert all(ingress.not_ready for ingress in world.plan.ingresses)
    assert len(world.plan.ingresses) > 0


@pytest.mark.parametrize(
    ("step", "hint"),
    [
        ("{kind: Service, name: a}", "a reference belongs under `ref`"),
        ("'http://h/a'", "write `uri: http://h/a` below it"),
        ("{uri: 'http://h/a', delivry: {}}", "did you mean delivery?"),
    ],
)
def test_a_slip_in_a_step_gets_a_hint(step: str, hint: str) -> None:
    assert World(sequence(step)).problems[0].hint == hint
