"""Resources that hurt users elsewhere (`data/reports.yaml`): what is said of them, where, and what runs all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.plan.compile import CompileOptions
from mesh.plan.compile import compile_plan as compile_resources
from mesh.resources.decode import decode, read_documents
from mesh.resources.meta import Condition, Resource
from mesh.resources.problem import Problem
from sources.cron import check_schedule

DATA = Path(__file__).parent / "data"
REPORTS: dict[str, dict[str, Any]] = {
    case["id"]: case for case in yaml.safe_load((DATA / "reports.yaml").read_text(encoding="utf-8"))
}
OPTIONS = CompileOptions(ingress_url="http://127.0.0.1:8080", check_schedule=check_schedule)
CHANNEL_CONFIG = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: imc-channel, namespace: knative-eventing}
data:
  channel-template-spec: |
    apiVersion: messaging.knative.dev/v1
    kind: InMemoryChannel
"""


class Case:
    """The `setup` of a report, read and compiled."""

    def __init__(self, report: str, *, more: str = "", without: str = "") -> None:
        text = REPORTS[report]["setup"].replace("SINK", "9000") + more
        documents, problems = read_documents(text, file="setup.yaml")
        assert problems == []
        resources: list[Resource] = []
        self.problems: list[Problem] = []
        for document in documents:
            if document.value["kind"] == without:
                continue
            resource, found = decode(document)
            self.problems += found
            if resource is not None:
                resources.append(resource)
        self.compiled = compile_resources(resources, OPTIONS)
        self.problems += self.compiled.problems
        self.running = {egress.key for topic in self.compiled.plan.topics for egress in topic.egresses}

    def condition(self, kind: str, name: str, condition: str = "Ready") -> Condition:
        found = next(s for k, s in self.compiled.statuses.items() if (k.kind, k.name) == (kind, name)).condition(
            condition
        )
        assert found is not None
        return found


def test_filters_as_a_map() -> None:
    case = Case("filters-as-a-map")
    (problem,) = case.problems
    assert (problem.file, problem.resource, problem.path) == ("setup.yaml", "Trigger default/one", "spec.filters")
    assert problem.line == 10
    assert "list" in problem.message
    assert "exact" in problem.hint
    assert case.running == {"trigger/default/all"}
    assert case.condition("Trigger", "one").status == "False"
    assert problem.message in case.condition("Trigger", "one").message


def test_sink_ref_in_the_core_group() -> None:
    case = Case("sink-ref-in-the-core-group")
    assert case.condition("PingSource", "tick").status == "False"
    provided = case.condition("PingSource", "tick", "SinkProvided")
    assert provided.status == "False"
    assert "v1 has no kind Broker" in provided.message
    assert "eventing.knative.dev/v1" in provided.message
    assert case.compiled.plan.sources == ()


def test_broker_config_not_there() -> None:
    before = Case("broker-config-not-there")
    assert before.condition("Broker", "default").status == "False"
    condition = before.condition("Broker", "default", "TriggerChannelReady")
    assert (condition.status, condition.reason) == ("False", "ChannelTemplateFailed")
    assert "knative-eventing/imc-channel" in condition.message
    assert before.condition("Trigger", "t", "BrokerReady").status == "False"
    (ingress,) = before.compiled.plan.ingresses
    assert "is not ready" in ingress.not_ready

    after = Case("broker-config-not-there", more=CHANNEL_CONFIG)
    assert after.problems == []
    assert after.condition("Broker", "default").status == after.condition("Trigger", "t").status == "True"
    assert after.running == {"trigger/default/t"}


def test_ping_in_a_time_zone_with_an_offset() -> None:
    case = Case("ping-in-a-time-zone-with-an-offset")
    offset, every = sorted(case.problems, key=lambda problem: problem.line)
    assert (offset.resource, offset.path) == ("PingSource default/offset", "spec.timezone")
    assert "Etc/GMT-8" in offset.sentence
    assert "Asia/Shanghai" in offset.sentence
    assert (every.resource, every.path) == ("PingSource default/every", "spec.schedule")
    assert "@every" in every.message
    assert case.condition("PingSource", "place").status == "True"
    (place,) = case.compiled.plan.sources
    assert place.options == {"schedule": "0 15 * * ?", "timezone": "Asia/Shanghai", "data": ""}


def test_overrides_with_a_bad_name() -> None:
    case = Case("overrides-with-a-bad-name")
    assert [problem.path for problem in case.problems] == [
        "spec.ceOverrides.extensions.Type_1",
        "spec.ceOverrides.extensions.type",
    ]
    assert "no legal name" in case.problems[0].message
    assert "standard attribute" in case.problems[1].message
    assert [problem.line for problem in case.problems] == [10, 11]
    assert case.compiled.plan.sources == ()


def test_sequence_uri_holds_a_ref() -> None:
    case = Case("sequence-uri-holds-a-ref")
    (problem,) = case.problems
    assert (problem.resource, problem.path) == ("Sequence default/flow", "spec.steps[0].uri")
    assert problem.message == "a string is wanted and a mapping was given"
    assert problem.hint == "a reference belongs under `ref`"
    ready = case.condition("Sequence", "flow")
    assert (ready.status, ready.reason) == ("False", "InvalidSpec")
    assert case.running == set()


def test_sequence_with_unknown_channel_version() -> None:
    case = Case("sequence-with-unknown-channel-version")
    (problem,) = case.problems
    assert problem.path == "spec.channelTemplate.apiVersion"
    ready = case.condition("Sequence", "flow")
    assert (ready.status, ready.reason) == ("Unknown", "ChannelsNotReady")
    for part in ("spec.channelTemplate.apiVersion", "messaging.knative.dev/v1alpha7", "use messaging.knative.dev/v1"):
        assert part in ready.message
    assert case.running == set()


def test_channel_template_of_an_unknown_version() -> None:
    """The same slip as in the report, in a kind that is served."""
    text = (
        "{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c}, "
        "spec: {channelTemplate: {apiVersion: messaging.knative.dev/v1alpha7, kind: InMemoryChannel}}}"
    )
    resource, _ = decode(read_documents(text, file="a.yaml")[0][0])
    assert resource is not None
    compiled = compile_resources([resource], OPTIONS)
    ready = compiled.statuses[resource.key].ready
    assert ready.status == "False"
    for words in ("spec.channelTemplate.apiVersion", "messaging.knative.dev/v1alpha7", "use messaging.knative.dev/v1"):
        assert words in ready.message


def test_broker_deleted_before_its_triggers() -> None:
    case = Case("broker-deleted-before-its-triggers", without="Broker")
    condition = case.condition("Trigger", "t", "BrokerReady")
    assert (condition.status, condition.reason) == ("False", "BrokerDoesNotExist")
    assert case.compiled.plan.ingresses == ()
    assert case.compiled.known == {"trigger/default/t"}


@pytest.mark.parametrize("report", sorted(name for name, case in REPORTS.items() if "kind:" in case.get("setup", "")))
def test_every_setup_can_be_read(report: str) -> None:
    """Whatever stands in a report, it is told apart: served, ignored with a reason, or refused with a path."""
    case = Case(report)
    for problem in case.problems:
        assert problem.resource
        assert problem.line > 0
    served, ignored = len(case.compiled.statuses), len(case.compiled.ignored)
    assert served + ignored > 0
