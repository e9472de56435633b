"""The compilation as a whole: what is ignored, what is known, cost, and what the plan's module drags in."""

from __future__ import annotations

import pickle
import subprocess
import sys
from time import process_time

from mesh.plan.compile import CompileOptions, compile_plan
from mesh.plan.diff import Diff, apply, diff
from mesh.plan.model import Plan
from tests.unit.plan.worlds import BROKER, OPTIONS, World, resources_of, trigger


def test_nothing_compiles_to_nothing() -> None:
    compiled = compile_plan([], OPTIONS)
    assert (compiled.plan, compiled.statuses, compiled.problems, compiled.ignored) == (Plan(), {}, [], [])


def test_ignored_kinds_are_told_with_the_reason() -> None:
    world = World("{apiVersion: sinks.knative.dev/v1alpha1, kind: JobSink, metadata: {name: s}}\n---\n" + BROKER)
    (problem,) = world.compiled.ignored
    assert problem.message == "ignored: sinks.knative.dev/v1alpha1 JobSink is not served yet by this version"
    assert (problem.severity, problem.resource, problem.line) == ("warning", "JobSink default/s", 1)
    assert [key.kind for key in world.compiled.statuses] == ["Broker"]


def test_known_are_all_topics_and_subscriptions_that_have_a_resource() -> None:
    text = """
{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c}}
---
{apiVersion: messaging.knit.dev/v1alpha1, kind: LogChannel, metadata: {name: l}, spec: {delivery: {retry: x}}}
---
{apiVersion: messaging.knative.dev/v1, kind: Subscription, metadata: {name: s}, spec: {}}
---
{apiVersion: v1, kind: Service, metadata: {name: s}}
---
"""
    world = World(text + BROKER + trigger(broker="gone"))
    assert world.compiled.known == {
        "broker/default/default",
        "channel/default/c",
        "channel/default/l",
        "subscription/default/s",
        "trigger/default/t",
    }


def test_problems_of_decoding_are_not_repeated() -> None:
    world = World(BROKER + trigger(delivery="{retry: x}"))
    assert world.compiled.problems == []
    assert len(world.errors) == 1


def test_plan_travels_to_the_workers() -> None:
    plan = World(BROKER + trigger(filters="[{cesql: \"type = 'a'\"}]")).plan
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_plan_model_drags_in_neither_pydantic_nor_yaml() -> None:
    code = (
        "import sys, mesh.plan.model; print(sorted({'pydantic', 'yaml', 'lark', 'mesh.resources'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_two_thousand_triggers_compile_well_within_a_second() -> None:
    triggers = "".join(trigger(f"t{n}", filters=f"[{{exact: {{type: order.{n}}}}}]") for n in range(2000))
    resources = resources_of(BROKER + triggers)
    start_s = process_time()
    compiled = compile_plan(resources, CompileOptions(ingress_url="http://localhost:8080"))
    assert process_time() - start_s < 1.0
    assert len(compiled.plan.topics[0].egresses) == 2000


def test_first_start_is_a_diff_from_the_empty_plan() -> None:
    plan = World(BROKER + trigger()).plan
    change = diff(Plan(), plan)
    assert change.start_topics == plan.topics
    assert (change.stop_topics, change.changed_topics, change.is_idle) == ((), (), False)
    assert apply(Plan(), change) == plan


def test_equal_plans_change_nothing() -> None:
    plan = World(BROKER + trigger()).plan
    assert diff(plan, plan) == Diff(ingresses=plan.ingresses)
    assert diff(plan, plan).is_idle


def test_topic_on_another_backend_is_stopped_and_started() -> None:
    old, new = World(BROKER).plan, World(BROKER, default_backend="memory").plan
    change = diff(old, new)
    assert change.stop_topics == ("broker/default/default",)
    assert change.start_topics == new.topics
    assert change.changed_topics == ()


def test_what_is_gone_is_stopped() -> None:
    ping = (
        "{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {name: p}, spec: {sink: {uri: 'http://h'}}}"
    )
    plan = World(BROKER + ping).plan
    change = diff(plan, Plan())
    assert (change.stop_topics, change.stop_sources) == (("broker/default/default",), ("pingsource/default/p",))
    assert apply(plan, change) == Plan()


def test_changed_source_is_stopped_and_started() -> None:
    ping = "{{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {{name: p}}, spec: {{data: {}, sink: {{uri: 'http://h'}}}}}}"
    old, new = World(ping.format("a")).plan, World(ping.format("b")).plan
    change = diff(old, new)
    assert (change.stop_sources, change.start_sources) == (("pingsource/default/p",), new.sources)
    assert apply(old, change) == new


def test_changed_topic_is_neither_stopped_nor_started() -> None:
    old, new = World(BROKER).plan, World(BROKER + trigger()).plan
    change = diff(old, new)
    assert change.changed_topics == new.topics
    assert (change.stop_topics, change.start_topics) == ((), ())
