"""The index: order, triggers found twice, what it must not take for the whole filter, and how little it asks."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mesh.filters.cesql import compile_expression
from mesh.filters.dialects import CESQL, All, Any, Attributes, Exact, FilterNode, Never, Not, Prefix, Suffix
from mesh.filters.index import MatchIndex


def cesql(text: str) -> CESQL:
    return CESQL(text, compile_expression(text))


def exact(**entries: str) -> Exact:
    return Exact(tuple(entries.items()))


def prefix(**entries: str) -> Prefix:
    return Prefix(tuple(entries.items()))


class CountedEvent(dict[str, str]):
    """An event that counts how often a filter or the index looks at it."""

    looks = 0

    def get(self, *args: str) -> str | None:  # type: ignore[override]  # the one way in which attributes are asked for
        self.looks += 1
        return super().get(*args)


def looks(index: MatchIndex[int], event: Mapping[str, str]) -> int:
    counted = CountedEvent(event)
    index.match(counted)
    return counted.looks


def test_without_filters_everyone_gets_everything() -> None:
    index = MatchIndex([("a", ()), ("b", (All(()),)), ("c", (Exact(()),))])
    assert index.match({}) == ["a", "b", "c"]
    assert MatchIndex[str]([]).match({"type": "t"}) == []


def test_a_result_belongs_to_who_asked() -> None:
    for index in (MatchIndex([("a", ())]), MatchIndex([("a", (exact(type="t"),))])):
        index.match({"type": "t"}).clear()
        assert index.match({"type": "t"}) == ["a"]


def test_matches_come_in_the_order_given() -> None:
    index = MatchIndex(
        [
            ("scan", (Not(exact(type="x")),)),
            ("suffix", (Suffix((("type", ".b"),)),)),
            ("exact", (exact(type="a.b"),)),
            ("all", ()),
            ("prefix", (prefix(type="a."),)),
            ("never", (Never("broken"),)),
            ("older", (Attributes((("type", "a.b"),)),)),
            ("cesql", (cesql("type LIKE 'a%'"),)),
        ]
    )
    assert index.match({"type": "a.b"}) == ["scan", "suffix", "exact", "all", "prefix", "older", "cesql"]
    assert index.match({"type": "x"}) == ["all"]
    assert index.match({}) == ["scan", "all"]


def test_who_is_found_in_two_ways_is_found_once() -> None:
    index = MatchIndex([("any", (Any((exact(type="a"), prefix(source="/s"), Suffix((("ext", "z"),)))),))])
    assert index.match({"type": "a", "source": "/s/1", "ext": "xyz"}) == ["any"]
    assert index.match({"ext": "z"}) == ["any"]
    assert index.match({"type": "b"}) == []


@pytest.mark.parametrize(
    ("node", "event"),
    [
        (exact(type="a", source="/s"), {"type": "a"}),
        (exact(type="a", schemaurl="u"), {"type": "a"}),
        (Attributes((("type", "a"), ("ext", ""))), {"type": "a", "ext": ""}),
        (All((exact(type="a"), prefix(source="/s"))), {"type": "a", "source": "/x"}),
        (All((exact(type="a"), Never("broken"))), {"type": "a"}),
        (Any((exact(type="a", ext="b"), exact(type="c"))), {"type": "a"}),
        (cesql("type = 'a' AND source = '/s'"), {"type": "a"}),
        (cesql("ext = 'x' OR type = 'a'"), {"type": "a"}),
        (cesql("type = 'a' XOR source = '/s'"), {"type": "a", "source": "/s"}),
        (cesql("type = 'a' AND 'no'"), {"type": "a"}),
        (cesql("type LIKE 'a%z'"), {"type": "ab"}),
        (cesql("type LIKE 'a_'"), {"type": "a"}),
        (cesql("type LIKE '%b%a'"), {"type": "a"}),
        (cesql("NOT (type = 'a')"), {"type": "a"}),
        (cesql("type IN ('b', ext)"), {"type": "a", "ext": "c"}),
        (prefix(type="abc"), {"type": "ab"}),
        (Suffix((("type", "abc"),)), {"type": "bc"}),
        (cesql("type = ''"), {}),
    ],
)
def test_a_hit_is_not_always_a_match(node: FilterNode, event: dict[str, str]) -> None:
    assert MatchIndex([("one", (node,))]).match(event) == []


def test_names_that_are_not_the_events_own_are_found_too() -> None:
    index = MatchIndex([("schema", (exact(schemaurl="u"),)), ("media", (prefix(datamediatype="text/x"),))])
    assert index.match({"dataschema": "u", "datacontenttype": "text/xml;a=b"}) == ["schema", "media"]


@pytest.mark.parametrize(
    "node",
    [
        exact(type="t.7"),
        Attributes((("type", "t.7"),)),
        Any((exact(type="t.7"), exact(type="u.7"))),
        All((exact(type="t.7"),)),
        cesql("type = 't.7'"),
        cesql("'t.7' = type"),
        cesql("type IN ('t.7', 'u.7')"),
        cesql("type LIKE 't.7'"),
        prefix(type="t.7"),
        Suffix((("type", ".7"),)),
        cesql("type LIKE 't.7%'"),
        cesql("type LIKE '%.7'"),
    ],
)
def test_a_filter_that_the_index_covers_is_not_asked_again(node: FilterNode) -> None:
    index = MatchIndex([(1, (node,))])
    assert index.match({"type": "t.7"}) == [1]
    assert looks(index, {"type": "t.7"}) == 1


def shapes(n: int) -> list[tuple[FilterNode, ...]]:
    return [
        (exact(type=f"t.{n}"),),
        (exact(source="/s", type=f"t.{n}"),),
        (exact(source="/s"), prefix(type=f"t.{n}"), Not(exact(ext="x"))),
        (Attributes((("ext", ""), ("type", f"t.{n}"))),),
        (All((Not(exact(ext="x")), exact(type=f"t.{n}"))),),
        (cesql(f"source = '/s' AND EXISTS ext AND type = 't.{n}'"),),
        (cesql(f"source LIKE '/%' AND type LIKE 't.{n}%'"),),
    ]


@pytest.mark.parametrize("shape", range(7))
def test_a_thousand_triggers_are_asked_like_ten(shape: int) -> None:
    # All five digits long, so that no text begins another.
    few, many = (MatchIndex([(n, shapes(n)[shape]) for n in range(10_000, 10_000 + size)]) for size in (10, 1_000))
    event = {"type": "t.10007", "source": "/s", "ext": "y"}
    assert few.match(event) == many.match(event) == [10_007]
    assert looks(few, event) == looks(many, event) < 10


def test_the_index_says_why_not() -> None:
    index = MatchIndex([("a", (exact(type="a"),)), ("b", ())])
    assert index.explain("a", {"type": "b"}) == 'filters[0].exact: type is "b", wanted "a"'
    assert index.explain("a", {"type": "a"}) == ""
    assert index.explain("b", {}) == ""
    with pytest.raises(KeyError):
        index.explain("c", {})
