"""What is wrong with one resource by itself."""

from __future__ import annotations

import pytest

from mesh.plan.check import own_problems
from sources.cron import check_schedule
from tests.unit.plan.worlds import BROKER, OPTIONS, World, resources_of, trigger

FLOW = "apiVersion: flows.knative.dev/v1\nkind: {}\nmetadata: {{name: f}}\nspec: {{channelTemplate: {{apiVersion: {}, kind: InMemoryChannel}}, {}}}\n---\n"
STEPS, BRANCHES = "steps: [{uri: 'http://h'}]", "branches: [{subscriber: {uri: 'http://h'}}]"
PING = "apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {{name: p}}\nspec: {{sink: {{uri: 'http://h'}}, {}}}\n---\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (trigger(filters="{exact: {type: a}}"), "spec.filters"),
        (trigger(filters="[{cesql: '1 +'}]"), "spec.filters[0].cesql"),
        (trigger(filter="{attributes: [a]}"), "spec.filter.attributes"),
        (PING.format("timezone: UTC+8"), "spec.timezone"),
        (FLOW.format("Sequence", "messaging.knative.dev/v9", STEPS), "spec.channelTemplate.apiVersion"),
        (FLOW.format("Parallel", "messaging.knative.dev/v9", BRANCHES), "spec.channelTemplate.apiVersion"),
    ],
)
def test_own_problems_are_those_that_compiling_reports(text: str, path: str) -> None:
    (resource,) = resources_of(text)
    problems = own_problems(resource, check_schedule)
    assert [problem.path for problem in problems] == [path]
    assert World(BROKER + text, check_schedule=check_schedule).compiled.problems[0].sentence == problems[0].sentence


@pytest.mark.parametrize(
    "text",
    [
        trigger(broker="gone"),
        PING.format("schedule: '@daily'"),
        BROKER,
        trigger(subscriber="5"),
        FLOW.format("Sequence", "messaging.knative.dev/v1", STEPS),
        FLOW.format("Sequence", "messaging.knative.dev/v9", "steps: 5"),
        "apiVersion: flows.knative.dev/v1\nkind: Sequence\nmetadata: {name: f}\nspec: {steps: [{ref: {apiVersion: v1, kind: Service, name: gone}}]}\n",
    ],
)
def test_what_others_can_mend_is_not_its_own(text: str) -> None:
    (resource,) = resources_of(text)
    assert own_problems(resource, OPTIONS.check_schedule) == []
