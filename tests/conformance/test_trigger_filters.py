"""Knative's table of Trigger filters (`data/trigger_filters.yaml`), and what hurt users of them (`data/reports.yaml`, area filter)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.filters.attributes import Built, FilterProblem, build_attributes
from mesh.filters.dialects import build_filters
from mesh.filters.index import MatchIndex

DATA = Path(__file__).parent / "data"
VECTORS = yaml.safe_load((DATA / "trigger_filters.yaml").read_text(encoding="utf-8"))
REPORTS = {case["id"]: case for case in yaml.safe_load((DATA / "reports.yaml").read_text(encoding="utf-8"))}
EVENTS: dict[str, dict[str, str]] = {
    name: {key: value for key, value in event.items() if key != "data"} for name, event in VECTORS["events"].items()
}


def filters_of(spec: dict[str, Any]) -> Built:
    """Knative, Trigger: `filters` alone where it is not empty, else `filter`."""
    if spec.get("filters"):
        return build_filters(spec["filters"], "spec.filters")
    return build_attributes(spec.get("filter", {}).get("attributes"), "spec.filter.attributes")


def triggers_of(report: str) -> MatchIndex[str]:
    """The Triggers of a report's setup, by name."""
    documents = yaml.safe_load_all(REPORTS[report]["setup"])
    return MatchIndex(
        (document["metadata"]["name"], filters_of(document["spec"])[0])
        for document in documents
        if document["kind"] == "Trigger"
    )


def problems_of(report: str, trigger: str) -> list[FilterProblem]:
    documents = yaml.safe_load_all(REPORTS[report]["setup"])
    spec = next(document["spec"] for document in documents if document["metadata"]["name"] == trigger)
    return filters_of(spec)[1]


def event(type_: str, **extensions: str) -> dict[str, str]:
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": type_, **extensions}


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_delivers_what_knative_delivers(case: dict[str, Any]) -> None:
    filters, _ = filters_of(case["trigger"])
    index = MatchIndex([("trigger", filters)])
    delivered = [name for name, attributes in EVENTS.items() if index.match(attributes)]
    if case["delivered"] != "any":
        assert sorted(delivered) == sorted(case["delivered"])
    assert delivered == [name for name, attributes in EVENTS.items() if not index.explain("trigger", attributes)]


def test_filters_as_a_map_are_refused_and_shown_as_a_list() -> None:
    ((path, message, hint),) = problems_of("filters-as-a-map", "one")
    assert path == "spec.filters"
    assert "list" in message
    assert yaml.safe_load(hint.removeprefix("as a list: ")) == {
        "filters": [{"exact": {"type": "order.created"}}, {"suffix": {"region": "-west"}}]
    }
    assert triggers_of("filters-as-a-map").match(event("order.created", region="-west")) == ["all"]


def test_an_extension_that_looks_like_a_number_is_text() -> None:
    index = triggers_of("extension-that-looks-like-a-number")
    assert index.match(event("t", the="42", heart="yes")) == ["legacy", "exact"]
    number, boolean = problems_of("extension-that-looks-like-a-number", "unquoted")
    assert number == (
        "spec.filter.attributes.the",
        "must be a string, got the number 42",
        'quote it: "42" (YAML reads 42 as a number)',
    )
    assert boolean[0] == "spec.filter.attributes.heart"
    assert "quote" in boolean[2]


def test_two_equals_signs_are_pointed_at_and_nothing_is_delivered() -> None:
    ((path, message, _),) = problems_of("cesql-with-two-equals-signs", "q")
    assert path == "spec.filters[0].cesql"
    assert "unexpected second =, did you mean a single one" in message
    index = triggers_of("cesql-with-two-equals-signs")
    assert index.match(event("banana")) == []
    assert index.match(event("apple")) == []


def test_filters_decide_alone_unless_they_are_empty() -> None:
    index = triggers_of("filter-and-filters-together")
    assert index.match(event("dev.knative.apiserver.resource.add")) == ["both"]
    assert index.match(event("other")) == ["emptied"]
    assert index.match(event("dev_knative_apiserver_resource_add")) == []


def test_an_unknown_function_is_said_when_the_filter_is_built() -> None:
    ((path, message, hint),) = problems_of("cesql-unknown-function", "pre")
    assert path == "spec.filters[0].cesql"
    assert "HASPREFIX with 2 arguments is unknown" in message
    assert "LIKE 'dev.tekton.event%'" in hint
    assert "prefix dialect" in hint
    assert triggers_of("cesql-unknown-function").match(event("dev.tekton.event.taskrun.started.v1")) == ["left"]


def test_several_keys_and_several_of_a_kind() -> None:
    index = triggers_of("several-keys-and-several-of-a-kind")
    wanted = {"t": ["keys"], "a": ["anyof"], "b": ["anyof"], "c.x": ["anyof"], "c.x.draft": []}
    assert {type_: index.match(event(type_)) for type_ in wanted} == wanted
    assert index.match(event("t") | {"source": "/other"}) == []
    ((path, message, _),) = problems_of("several-keys-and-several-of-a-kind", "mixed")
    assert path == "spec.filters[0]"
    assert message == "more than one dialect in one element: exact, prefix"
