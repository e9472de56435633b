"""PingSources: options, checks, conditions (eventing reference §1.4, §8.1)."""

from __future__ import annotations

from mesh.plan.model import Target
from sources.cron import check_schedule
from tests.unit.plan.worlds import BROKER, World, config_map


def ping(spec: str = "", sink: str = "{uri: 'http://h'}") -> str:
    return f"apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {{name: tick}}\nspec: {{sink: {sink}, {spec}}}\n---\n"


def test_ping_source_is_ready_and_written_as_knative_writes_it() -> None:
    sink = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}"
    world = World(
        BROKER + ping("schedule: '*/1 * * * *', timezone: Asia/Shanghai, contentType: text/plain, data: x", sink)
    )
    (source,) = world.plan.sources
    assert (source.key, source.kind) == ("pingsource/default/tick", "PingSource")
    assert source.sink == Target("http://localhost:8080/default/default", "broker/default/default")
    assert source.options == {
        "schedule": "*/1 * * * *",
        "timezone": "Asia/Shanghai",
        "contentType": "text/plain",
        "data": "x",
    }
    status = world.status("PingSource", "tick")
    assert [(c.type, c.status) for c in status.conditions] == [
        ("Deployed", "True"),
        ("OIDCIdentityCreated", "True"),
        ("Ready", "True"),
        ("SinkProvided", "True"),
    ]
    assert status.fields == {
        "sinkUri": "http://localhost:8080/default/default",
        "ceAttributes": [
            {"type": "dev.knative.sources.ping", "source": "/apis/v1/namespaces/default/pingsources/tick"}
        ],
    }


def test_defaults_and_empty_data() -> None:
    (source,) = World(ping("data: ''")).plan.sources
    assert source.options == {"schedule": "* * * * *", "data": ""}


def test_overrides_are_named_in_lower_case() -> None:
    (source,) = World(ping("ceOverrides: {extensions: {Colour: blue, b: c}}")).plan.sources
    assert source.overrides == {"colour": "blue", "b": "c"}


def test_schedule_and_timezone_are_checked_at_their_fields() -> None:
    for spec, path in (("schedule: '@every 1m'", "spec.schedule"), ("timezone: UTC+8", "spec.timezone")):
        world = World(ping(spec), check_schedule=check_schedule)
        assert [problem.path for problem in world.problems] == [path]
        assert world.condition("PingSource", "tick").reason == "InvalidSpec"
        assert world.plan.sources == ()


def test_size_of_the_data_can_be_bounded() -> None:
    limit = config_map("config-ping-defaults", {"data-max-size": "3"})
    assert World(ping("data: abc") + limit).problems == []
    world = World(ping("data: abcd") + limit)
    assert [problem.path for problem in world.problems] == ["spec.data"]
    assert World(ping("data: abcd") + config_map("config-ping-defaults", {"data-max-size": "-1"})).problems == []


def test_sink_in_the_wrong_group() -> None:
    world = World(BROKER + ping(sink="{ref: {apiVersion: v1, kind: Broker, name: default}}"))
    condition = world.condition("PingSource", "tick", "SinkProvided")
    assert (condition.status, condition.reason) == ("False", "NotFound")
    assert condition.message == "v1 has no kind Broker; did you mean eventing.knative.dev/v1?"
    assert world.condition("PingSource", "tick").status == "False"
    assert world.plan.sources == ()


def test_invalid_ping_source_does_not_run() -> None:
    world = World(ping("data: a, dataBase64: YQ=="))
    assert world.plan.sources == ()
    assert world.condition("PingSource", "tick").status == "False"
