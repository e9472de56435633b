"""Laws of filters: the index finds what asking one by one finds, De Morgan holds, generated source means what the tree means."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.filters.cesql import Expression, ParseError, ast, compile_expression
from mesh.filters.cesql.like import matcher, pattern_of
from mesh.filters.cesql.values import INT_MAX, INT_MIN
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
    compile_filters,
    passes,
)
from mesh.filters.explain import explain
from mesh.filters.index import MatchIndex

Entries = tuple[tuple[str, str], ...]

# The first example pays for lark's tables or for the first compilation; a time limit would only measure the machine.
patient = settings(deadline=None)

# Three names and a handful of texts, so that filters and events often meet.
usual_names = st.sampled_from(["type", "source", "ext"])
names = usual_names | usual_names | st.sampled_from(["dataschema", "schemaurl", "datamediatype"])
usual_texts = st.sampled_from(["a", "b", "ab", "ba", "aab"])
texts = usual_texts | usual_texts | st.sampled_from(["", "%", "1", "-2", "true", "FALSE", "a/b; c=d"])
events = st.dictionaries(names | usual_names | st.just("datacontenttype"), texts, min_size=1, max_size=6)

literals = st.builds(ast.Literal, texts | st.integers(-3, 3) | st.sampled_from([INT_MIN, INT_MAX]) | st.booleans())
text_literals = st.builds(ast.Literal, usual_texts)
attributes = st.builds(ast.Attribute, names)
patterns = st.text("ab%_\\", max_size=4) | st.sampled_from(["a%", "%b", "ab", "a%b", "b_", "%"])
comparisons = (
    st.builds(ast.Compare, st.just("="), attributes, text_literals)
    | st.builds(ast.Compare, st.just("="), text_literals, attributes)
    | st.builds(ast.Compare, st.just("="), attributes, literals)
    | st.builds(ast.Like, attributes, patterns)
    | st.builds(ast.In, attributes, st.lists(text_literals, min_size=1, max_size=3).map(tuple))
    | st.builds(ast.In, attributes, st.lists(literals, min_size=1, max_size=3).map(tuple))
)
function_calls = st.sampled_from(
    [
        "LENGTH",
        "CONCAT",
        "CONCAT_WS",
        "UPPER",
        "TRIM",
        "LEFT",
        "RIGHT",
        "SUBSTRING",
        "ABS",
        "INT",
        "BOOL",
        "IS_INT",
        "NOPE",
    ]
)


def combined(nodes: st.SearchStrategy[ast.Node]) -> st.SearchStrategy[ast.Node]:
    return (
        st.builds(ast.Not, nodes)
        | st.builds(ast.Negate, nodes)
        | st.builds(ast.Like, nodes, patterns)
        | st.builds(ast.In, nodes, st.lists(nodes, min_size=1, max_size=3).map(tuple))
        | st.builds(ast.Arithmetic, st.sampled_from("+-*/%"), nodes, nodes)
        | st.builds(ast.Compare, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), nodes, nodes)
        | st.builds(ast.Call, function_calls, st.lists(nodes, max_size=3).map(tuple))
        | chains(nodes)
    )


def chains(nodes: st.SearchStrategy[ast.Node]) -> st.SearchStrategy[ast.Node]:
    rest = st.lists(st.tuples(st.sampled_from(["AND", "OR", "XOR"]), nodes), min_size=1, max_size=3)
    return st.builds(ast.Logic, nodes, rest.map(tuple))


trees: st.SearchStrategy[ast.Node] = st.recursive(
    literals | attributes | st.builds(ast.Exists, names) | comparisons, combined, max_leaves=8
)
# What people write, and what the index can look into.
usual_trees = comparisons | chains(comparisons) | chains(comparisons | chains(comparisons))


def entries_of(node: Callable[[Entries], FilterNode]) -> st.SearchStrategy[FilterNode]:
    one = st.tuples(names, texts)
    return st.lists(one, min_size=1, max_size=2).map(tuple).map(node) | st.tuples(one).map(node)


def cesql_of(tree: ast.Node) -> FilterNode:
    return CESQL(repr(tree), Expression(repr(tree), tree))


def groups(nodes: st.SearchStrategy[FilterNode]) -> st.SearchStrategy[FilterNode]:
    several = st.lists(nodes, min_size=1, max_size=3).map(tuple)
    return several.map(All) | several.map(Any)


leaves: st.SearchStrategy[FilterNode] = (
    entries_of(Attributes) | entries_of(Exact) | entries_of(Prefix) | entries_of(Suffix) | usual_trees.map(cesql_of)
)
odd_leaves: st.SearchStrategy[FilterNode] = (
    leaves | trees.map(cesql_of) | st.sampled_from([Never("broken"), All(()), Any(()), Exact(())])
)
# Filters that can be looked up at least in part, and filters of every kind.
usual_filters = leaves | groups(leaves) | groups(leaves | groups(leaves))
filters: st.SearchStrategy[FilterNode] = (
    usual_filters | odd_leaves | odd_leaves.map(Not) | groups(odd_leaves | groups(odd_leaves).map(Not))
)
filter_lists = st.lists(usual_filters, min_size=1, max_size=2).map(tuple) | st.lists(filters, max_size=2).map(tuple)


@patient
@given(tree=trees, event=events)
def test_generated_source_passes_exactly_what_evaluates_to_true_without_error(
    tree: ast.Node, event: dict[str, str]
) -> None:
    expression = Expression(repr(tree), tree)
    value, problem = expression.evaluate(event)
    assert expression.passes(event) is (value is True and problem is None)
    assert (expression.explain(event) == "") is expression.passes(event)


@patient
@given(tree=trees, event=events)
def test_every_evaluation_ends_in_one_of_three_types_and_32_bits(tree: ast.Node, event: dict[str, str]) -> None:
    value, _ = Expression(repr(tree), tree).evaluate(event)
    assert type(value) in {str, int, bool}
    if type(value) is int:
        assert INT_MIN <= value <= INT_MAX


@settings(deadline=None, max_examples=300)
@given(items=st.lists(filter_lists, min_size=1, max_size=6), event=events)
def test_the_index_finds_what_asking_one_by_one_finds(
    items: list[tuple[FilterNode, ...]], event: dict[str, str]
) -> None:
    index = MatchIndex(enumerate(items))
    naive = [i for i, nodes in enumerate(items) if all(passes(node, event) is not False for node in nodes)]
    assert index.match(event) == naive
    assert [i for i in range(len(items)) if not index.explain(i, event)] == naive


@patient
@given(nodes=filter_lists, event=events)
def test_a_compiled_filter_means_what_its_nodes_mean(nodes: tuple[FilterNode, ...], event: dict[str, str]) -> None:
    compiled = compile_filters(nodes)
    assert compiled.passes(event) is all(passes(node, event) is not False for node in nodes)
    assert (compiled.explain(event) == "") is compiled.passes(event)


@patient
@given(node=filters, event=events)
def test_a_failure_has_a_reason_and_nothing_else_has(node: FilterNode, event: dict[str, str]) -> None:
    assert (explain(node, event) != "") is (passes(node, event) is False)


@patient
@given(one=filters, other=filters, event=events)
def test_de_morgan(one: FilterNode, other: FilterNode, event: dict[str, str]) -> None:
    assert passes(Not(All((one, other))), event) == passes(Any((Not(one), Not(other))), event)
    assert passes(Not(Any((one, other))), event) == passes(All((Not(one), Not(other))), event)


@patient
@given(node=filters, event=events)
def test_to_deny_twice_is_to_say_it(node: FilterNode, event: dict[str, str]) -> None:
    assert passes(Not(Not(node)), event) == passes(node, event)


@given(pattern=patterns, text=st.text("ab%_\\", max_size=8))
def test_like_means_what_the_simplest_regular_expression_means(pattern: str, text: str) -> None:
    words = {"%": ".*", "_": "."}
    tokens = re.findall(r"\\[%_]|.", pattern, re.DOTALL)
    simple = "".join(words.get(token) or re.escape(token[-1]) for token in tokens)
    assert matcher(pattern_of(pattern))(text) is (re.fullmatch(simple, text, re.DOTALL) is not None)


words = st.sampled_from(
    [
        "type",
        "a1",
        "LEFT",
        "(",
        ")",
        ",",
        "'a'",
        '"b',
        "1",
        "2147483648",
        "-",
        "=",
        "==",
        "<>",
        "AND",
        "not",
        "like",
        "in",
        "exists",
        ".",
    ]
)


@patient
@given(text=st.lists(words, max_size=8).map(" ".join) | st.text(max_size=12))
def test_every_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        expression = compile_expression(text)
    except ParseError as error:
        assert 0 <= error.position <= len(text)
        assert error.why
    else:
        value, problem = expression.evaluate({"type": "t"})
        assert expression.passes({"type": "t"}) is (value is True and problem is None)
