"""Reading filters from YAML: every problem at once, each with its field path and with what to write instead."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import yaml

from mesh.filters.attributes import build_attributes
from mesh.filters.build import MAX_DEPTH
from mesh.filters.dialects import CESQL, All, Exact, Never, Not, build_filters, compile_filters


@pytest.mark.parametrize(
    ("text", "path", "message", "hint"),
    [
        ("{exact: {type: a}}", "f", "must be a list of filters, got a mapping", "as a list: f: [{exact: {type: a}}]"),
        ("{}", "f", "must be a list of filters, got a mapping", "f: [{exact: {type: com.example.order}}]"),
        ("a = 'x'", "f", "must be a list of filters, got a string", "f: [{exact: {type: com.example.order}}]"),
        ("[a = 'x']", "f[0]", "must be a mapping of one dialect to its value, got a string", "- cesql: a = 'x'"),
        ("[null]", "f[0]", "must be a mapping of one dialect to its value, got nothing", "- exact: {type"),
        (
            "[{exact: {}, any: []}]",
            "f[0]",
            "more than one dialect in one element: exact, any",
            "one dialect an element",
        ),
        ("[{Exact: {}}]", "f[0].Exact", 'unknown dialect "Exact"', "did you mean exact"),
        ("[{sufix: {}}]", "f[0].sufix", 'unknown dialect "sufix"', "did you mean suffix"),
        ("[{sql: x}]", "f[0].sql", 'unknown dialect "sql"', "did you mean cesql"),
        (
            "[{zzz: x}]",
            "f[0].zzz",
            'unknown dialect "zzz"',
            "the dialects are exact, prefix, suffix, all, any, not, cesql",
        ),
        (
            "[{exact: [type]}]",
            "f[0].exact",
            "must be a mapping of attribute names to strings, got a list",
            "such as {type",
        ),
        ("[{exact: {Type: a}}]", "f[0].exact.Type", '"Type" is no attribute name', "did you mean type"),
        ("[{exact: {ce-my_ext: a}}]", "f[0].exact.ce-my_ext", '"ce-my_ext" is no attribute name', "did you mean myext"),
        ("[{exact: {1st: a}}]", "f[0].exact.1st", '"1st" is no attribute name', ""),
        ("[{exact: {on: a}}]", "f[0].exact.true", '"true" is no attribute name', "quote the name (YAML reads yes, on"),
        ("[{exact: {5: a}}]", "f[0].exact.5", '"5" is no attribute name', ""),
        (
            "[{exact: {data.x: a}}]",
            "f[0].exact.data.x",
            '"data.x" is no',
            "the data of an event is not visible to filters",
        ),
        (
            "[{prefix: {n: 42}}]",
            "f[0].prefix.n",
            "must be a string, got the number 42",
            'quote it: "42" (YAML reads 42',
        ),
        ("[{prefix: {n: 4.5}}]", "f[0].prefix.n", "must be a string, got the number 4.5", 'quote it: "4.5"'),
        (
            "[{suffix: {n: yes}}]",
            "f[0].suffix.n",
            "must be a string, got the boolean true",
            'quote it, such as "true" (YAML',
        ),
        ("[{exact: {n: }}]", "f[0].exact.n", "must be a string, got nothing", 'quote it: ""'),
        ("[{exact: {n: 2024-05-01}}]", "f[0].exact.n", "must be a string, got the date 2024-05-01", "quote it"),
        ("[{exact: {n: [a]}}]", "f[0].exact.n", "must be a string, got a list", ""),
        (
            "[{all: {exact: {n: a}}}]",
            "f[0].all",
            "must be a list of filters, got a mapping",
            "as a list: all: [{exact: {n: a}}]",
        ),
        ("[{any: [{}, {all: [{exact: {n: 1}}]}]}]", "f[0].any[1].all[0].exact.n", "must be a string", "quote it"),
        (
            "[{not: [{exact: {n: a}}]}]",
            "f[0].not",
            "must be a single filter, got a list",
            "to deny several, write not: {any: […]}",
        ),
        ("[{not: a}]", "f[0].not", "must be a mapping of one dialect", "- cesql: a"),
        ("[{cesql: 5}]", "f[0].cesql", "must be a string, got the number 5", "quote it"),
        ("[{cesql: {a: b}}]", "f[0].cesql", "must be a string, got a mapping", ""),
        ("[{cesql: a == b}]", "f[0].cesql", "column 4: unexpected second =, did you mean a single one", ""),
        ("[{cesql: LEN(a) = 1}]", "f[0].cesql", "function LEN with 1 argument is unknown", "did you mean LENGTH"),
    ],
)
def test_a_problem_has_a_path_and_advice(text: str, path: str, message: str, hint: str) -> None:
    nodes, problems = build_filters(yaml.safe_load(text), "f")
    (problem,) = problems
    assert problem.path == path
    assert problem.message.startswith(message)
    assert problem.hint.startswith(hint)
    assert bool(problem.hint) is bool(hint)
    assert nodes == (Never(f"{problem.path}: {problem.message}"),)


def test_all_problems_are_found_and_good_elements_stay() -> None:
    value = yaml.safe_load(
        "[{exact: {A: 1}}, {exact: {b: x}}, {cesql: a = }, {any: [{all: [{nope: 1}]}, {prefix: {c: 2}}]}]"
    )
    nodes, problems = build_filters(value, "spec.filters")
    assert [problem.path for problem in problems] == [
        "spec.filters[0].exact.A",
        "spec.filters[0].exact.A",
        "spec.filters[2].cesql",
        "spec.filters[3].any[0].all[0].nope",
        "spec.filters[3].any[1].prefix.c",
    ]
    assert [type(node) for node in nodes] == [Never, Exact, Never, Never]


@pytest.mark.parametrize("broken", ["{cesql: a ==}", "{exact: {n: 1}}", "{no: 1}", "{cesql: NOPE()}"])
def test_a_broken_filter_inside_of_not_lets_nothing_pass(broken: str) -> None:
    nodes, _ = build_filters(yaml.safe_load(f"[{{not: {broken}}}, {{not: {{any: [{broken}]}}}}]"), "spec.filters")
    assert [type(node) for node in nodes] == [Never, Never]
    assert not compile_filters(nodes).passes({"type": "t"})


@pytest.mark.parametrize("value", [None, []])
def test_no_filters(value: Any) -> None:
    assert build_filters(value, "spec.filters") == ((), [])


def test_elements_keep_their_places() -> None:
    nodes, problems = build_filters([{}, {"exact": {"type": "a"}}, {"not": {"cesql": "b = 'x'"}}], "spec.filters")
    assert problems == []
    empty, exact, not_ = nodes
    assert empty == All(())
    assert exact == Exact((("type", "a"),))
    assert isinstance(not_, Not)
    assert isinstance(not_.filter, CESQL)
    assert not_.filter.text == "b = 'x'"


def test_filters_nested_too_deep_are_refused() -> None:
    deep: dict[str, Any] = {"exact": {"type": "a"}}
    for _ in range(MAX_DEPTH - 1):
        deep = {"not": deep}
    nodes, problems = build_filters([deep], "f")
    assert problems == []
    assert compile_filters(nodes).passes({"type": "a"}) is (MAX_DEPTH % 2 == 1)
    _, problems = build_filters([{"any": [deep]}], "f")
    assert [problem.message for problem in problems] == [f"filters are nested more than {MAX_DEPTH} levels deep"]


def test_the_list_in_the_advice_is_the_same_filter() -> None:
    value = {
        "exact": {"type": "order.created", "flag": "yes", "odd": "it's: {x}", "empty": ""},
        "suffix": {"region": "-west"},
        "any": [{"exact": {"n": 1}}, {"exact": {"b": True, "none": None}}],
    }
    _, ((_, _, hint),) = build_filters(value, "spec.filters")
    assert yaml.safe_load(hint.removeprefix("as a list: ")) == {"filters": [{key: value[key]} for key in value]}


def test_the_older_filter_is_read_alike() -> None:
    value = {"the": 42, "Heart": "x", "day": datetime.date(2024, 5, 1)}
    nodes, problems = build_attributes(value, "spec.filter.attributes")
    assert [problem.path.rpartition(".")[2] for problem in problems] == ["the", "Heart", "day"]
    assert not compile_filters(nodes).passes({"the": "42", "heart": "x"})
    nodes, problems = build_attributes([], "spec.filter.attributes")
    assert [problem.message for problem in problems] == ["must be a mapping of attribute names to strings, got a list"]
    assert [type(node) for node in nodes] == [Never]
