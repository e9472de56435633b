"""What filters say of an event: Knative's measured truth table, the reasons for a no, and the names with a meaning of their own."""

from __future__ import annotations

from typing import Any as Anything

import pytest

from mesh.filters.attributes import build_attributes
from mesh.filters.cesql import compile_expression
from mesh.filters.dialects import (
    CESQL,
    All,
    Any,
    Attributes,
    Exact,
    FilterNode,
    Never,
    Not,
    Prefix,
    Suffix,
    build_filters,
    compile_filters,
    passes,
)
from mesh.filters.explain import describe

EVENT = {
    "specversion": "1.0",
    "id": "id",
    "source": "/s",
    "type": "t",
    "i": "5",
    "b": "true",
    "str": "x",
    "empty": "",
    "datacontenttype": "application/json; charset=utf-8",
}


def cesql(text: str) -> CESQL:
    return CESQL(text, compile_expression(text))


@pytest.mark.parametrize(
    ("attributes", "verdict"),
    [
        (None, True),
        ({}, True),
        ({"type": ""}, True),
        ({"type": "T"}, False),
        ({"type": "t", "source": "/s"}, True),
        ({"type": "t", "source": "/x"}, False),
        ({"subject": ""}, False),
        ({"time": ""}, False),
        ({"str": ""}, True),
        ({"nope": ""}, False),
        ({"nope": "x"}, False),
        ({"empty": ""}, False),
        ({"i": "5"}, True),
        ({"b": "true"}, True),
    ],
)
def test_the_older_filter(attributes: dict[str, str] | None, verdict: bool) -> None:
    nodes, problems = build_attributes(attributes, "spec.filter.attributes")
    assert problems == []
    assert compile_filters(nodes).passes(EVENT) is verdict


@pytest.mark.parametrize(
    ("element", "verdict"),
    [
        ({"exact": {"i": "5"}}, True),
        ({"exact": {"b": "true"}}, True),
        ({"exact": {"i": "5", "str": "y"}}, False),
        ({"exact": {"type": "T"}}, False),
        ({"exact": {"nope": "x"}}, False),
        ({"prefix": {"source": "/"}}, True),
        ({"prefix": {"nope": "x"}}, False),
        ({"suffix": {"source": "s"}}, True),
        ({"suffix": {"source": "S"}}, False),
        ({"exact": {"type": ""}}, None),
        ({"exact": {"type": "no", "str": ""}}, None),
        ({"prefix": {"type": ""}}, None),
        ({"suffix": {"type": ""}}, None),
        ({"exact": {}}, None),
        ({"exact": None}, None),
        ({}, None),
        ({"all": []}, None),
        ({"any": []}, None),
        ({"any": None}, None),
        ({"not": {}}, None),
        ({"not": None}, None),
        ({"not": {"exact": {"type": ""}}}, None),
        ({"cesql": ""}, None),
        ({"cesql": None}, None),
        ({"not": {"exact": {"nope": "x"}}}, True),
        ({"not": {"exact": {"type": "t"}}}, False),
        ({"not": {"not": {"exact": {"type": "t"}}}}, True),
        ({"all": [{"exact": {"type": "t"}}, {"exact": {"type": ""}}]}, True),
        ({"all": [{"exact": {"type": "t"}}, {"exact": {"str": "y"}}]}, False),
        ({"any": [{"exact": {"type": ""}}, {"exact": {"type": "no"}}]}, False),
        ({"any": [{"exact": {"type": ""}}, {"exact": {"type": "t"}}]}, True),
        ({"any": [{"prefix": {"type": ""}}, {"exact": {"type": "no"}}]}, False),
        ({"any": [{}, {"exact": {"type": "no"}}]}, False),
        ({"any": [{}, {"all": []}]}, None),
        ({"not": {"all": [{}, {"exact": {"type": "no"}}]}}, True),
        ({"cesql": "type = 't'"}, True),
        ({"cesql": "nope = 'x' OR type = 't'"}, False),
        ({"cesql": "type = 't' OR nope = 'x'"}, True),
        ({"cesql": "type"}, False),
        ({"cesql": "5"}, False),
        ({"cesql": "'true'"}, False),
        ({"not": {"cesql": "nope = 'x'"}}, True),
    ],
)
def test_the_dialects(element: dict[str, Anything], verdict: bool | None) -> None:
    (node,), problems = build_filters([element], "spec.filters")
    assert problems == []
    assert passes(node, EVENT) is verdict
    assert compile_filters((node,)).passes(EVENT) is (verdict is not False)


def test_all_filters_of_the_list_must_pass() -> None:
    compiled = compile_filters((Exact((("type", "t"),)), Prefix((("source", "/"),)), Suffix((("str", "y"),))))
    assert not compiled.passes(EVENT)
    assert compiled.passes(EVENT | {"str": "xy"})
    assert compile_filters(()).passes({})


def test_nothing_passes_a_filter_that_cannot_be_compiled() -> None:
    compiled = compile_filters((Never("spec.filters[0].cesql: column 1: unexpected ="),))
    assert not compiled.passes(EVENT)
    assert compiled.explain(EVENT) == "spec.filters[0].cesql: column 1: unexpected ="


def test_text_of_users_is_never_source() -> None:
    text = "'\"\n\\{x}') or True or ('"
    compiled = compile_filters((Exact((("type", text),)), Suffix((("str", text),)), cesql('str != "\') or True #"')))
    assert not compiled.passes(EVENT)
    assert compiled.passes({"type": text, "str": text})


@pytest.mark.parametrize(
    ("node", "event", "verdict"),
    [
        (Exact((("schemaurl", "u"),)), {"dataschema": "u"}, True),
        (Exact((("dataschema", "u"),)), {"schemaurl": "u"}, True),
        (Prefix((("dataschema", "u"),)), {}, False),
        (Exact((("datamediatype", "application/json"),)), {"datacontenttype": "application/json ;charset=utf-8"}, True),
        (Suffix((("datamediatype", "xml"),)), {"datacontenttype": "text/xml"}, True),
        (Exact((("datamediatype", "text/xml"),)), {}, False),
        (Attributes((("datamediatype", ""),)), {}, False),
        (Attributes((("schemaurl", ""),)), {"dataschema": "u"}, True),
        (Exact((("datacontenttype", "text/xml"),)), {"datacontenttype": "text/xml; x=y"}, False),
        (cesql("EXISTS schemaurl"), {"dataschema": "u"}, False),
    ],
)
def test_names_with_a_meaning_of_their_own(node: FilterNode, event: dict[str, str], verdict: bool) -> None:
    assert passes(node, event) is verdict
    assert compile_filters((node,)).passes(event) is verdict


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ((), ""),
        ((Exact((("type", "t"),)),), ""),
        ((Exact((("type", "b"),)),), 'filters[0].exact: type is "t", wanted "b"'),
        ((Exact((("type", "t"), ("subject", "b"))),), 'filters[0].exact: subject is missing, wanted "b"'),
        (
            (Exact(()), Prefix((("type", "com."),))),
            'filters[1].prefix: type is "t", wanted one that begins with "com."',
        ),
        ((Suffix((("type", ".v1"),)),), 'filters[0].suffix: type is "t", wanted one that ends with ".v1"'),
        ((Attributes((("type", "b"),)),), 'filter.attributes: type is "t", wanted "b"'),
        (
            (Attributes((("type", "t"), ("empty", ""))),),
            'filter.attributes: empty is "", wanted any value that is not empty',
        ),
        (
            (All((Exact(()), Exact((("type", "b"),)))),),
            'filters[0].all[1].exact: type is "t", wanted "b"',
        ),
        (
            (Any((Exact(()), Exact((("type", "b"),)), cesql("type = 'c'"))),),
            'filters[0].any: none of 2 passes: [1].exact: type is "t", wanted "b"; [2].cesql: the result is false',
        ),
        (
            (Any(tuple(Exact((("i", str(n)),)) for n in range(5))),),
            'filters[0].any: none of 5 passes: [0].exact: i is "5", wanted "0"; [1].exact: i is "5", wanted "1"; '
            '[2].exact: i is "5", wanted "2"; and 2 more',
        ),
        ((Not(Exact((("type", "t"),))),), 'filters[0].not: exact {type: "t"} holds, and must not'),
        ((cesql("nosuch = 'x'"),), "filters[0].cesql: attribute nosuch is missing"),
        ((cesql("1 / 0 = 0"),), "filters[0].cesql: 1 / 0 is a division by zero"),
        ((cesql("type"),), "filters[0].cesql: the result is t, not a boolean"),
    ],
)
def test_a_no_has_its_reason(nodes: tuple[FilterNode, ...], why: str) -> None:
    assert compile_filters(nodes).explain(EVENT) == why


def test_a_long_value_is_cut_in_a_reason() -> None:
    why = compile_filters((Exact((("type", "b"),)),)).explain({"type": "x" * 10_000})
    assert len(why) < 200
    assert "..." in why


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Attributes((("a", "1"), ("b", ""))), 'attributes {a: "1", b: ""}'),
        (All((Prefix((("a", "1"),)), Suffix((("a", "2"),)))), 'all [prefix {a: "1"}, suffix {a: "2"}]'),
        (Any((Not(Exact((("a", "1"),))), cesql("TRUE"))), 'any [not {exact {a: "1"}}, cesql "TRUE"]'),
        (Never("why"), "a filter that cannot be compiled"),
    ],
)
def test_a_filter_in_words(node: FilterNode, words: str) -> None:
    assert describe(node) == words
