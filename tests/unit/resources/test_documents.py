"""Text → documents: lines, neighbours of a broken one, bounds, and YAML as Kubernetes reads it."""

from __future__ import annotations

import pytest

from mesh.resources.documents import Document, read_documents
from mesh.resources.problem import Problem


def read(text: str, file: str = "a.yaml") -> tuple[list[Document], list[Problem]]:
    return read_documents(text, file=file)


def only(text: str, file: str = "a.yaml") -> Document:
    documents, problems = read(text, file)
    assert problems == []
    assert len(documents) == 1
    return documents[0]


def complaint(text: str, file: str = "a.yaml") -> Problem:
    documents, problems = read(text, file)
    assert documents == []
    assert len(problems) == 1
    return problems[0]


def test_documents_know_where_they_begin() -> None:
    documents, problems = read("# first\nkind: A\n---\n# second\n\nkind: B\n---\n---\n...\n---\nkind: C\n")
    assert problems == []
    assert [(document.value, document.line) for document in documents] == [
        ({"kind": "A"}, 2),
        ({"kind": "B"}, 6),
        ({"kind": "C"}, 11),
    ]


def test_line_of_a_field_and_of_its_nearest_parent() -> None:
    document = only("---\nkind: A\nspec:\n  list:\n  - x: 1\n  - y: 2\n    z: 3\n  a.b/c: 4\n")
    assert document.line_of("spec.list[1].z") == 7
    assert document.line_of("spec.list[1].nope") == 6
    assert document.line_of("spec.list[9].nope") == 4
    assert document.line_of("spec.a.b/c") == 8
    assert document.line_of("nowhere") == document.line_of("") == 2


def test_broken_document_does_not_take_its_neighbours_with_it() -> None:
    documents, problems = read("kind: A\n---\nkind: [\n---\nkind: C\n---\nkind: D\n\tx: 1\n---\nkind: E\n")
    assert [document.value["kind"] for document in documents] == ["A", "C", "E"]
    assert [problem.file for problem in problems] == ["a.yaml", "a.yaml"]
    assert 3 <= problems[0].line <= 4
    assert problems[1].line == 8
    assert "tab" in problems[1].hint


def test_list_is_taken_apart() -> None:
    documents, problems = read("apiVersion: v1\nkind: List\nitems:\n- kind: A\n  x: {y: 1}\n- kind: B\n")
    assert problems == []
    assert [(d.value["kind"], d.line) for d in documents] == [("A", 4), ("B", 6)]
    assert documents[0].line_of("x.y") == 5


def test_typed_list_is_taken_apart_and_an_items_field_of_others_is_not() -> None:
    assert [d.value for d in read("kind: TriggerList\nitems: [{kind: Trigger}]")[0]] == [{"kind": "Trigger"}]
    assert only("kind: Other\nitems: [1]").value == {"kind": "Other", "items": [1]}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("017", 15),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", 3),
        ("-7", -7),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("1.2.3", "1.2.3"),
        ("08", "08"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("-", "-"),
        ("+.x", "+.x"),
        (".inf", float("inf")),
    ],
)
def test_scalars_are_what_kubernetes_takes_them_for(written: str, value: object) -> None:
    text = f"a: {written}\n" if written != "-" else "a: '-'\n"
    found = only(text).value["a"]
    assert found == value or (value == "08" and found == 8.0)
    assert type(found) is type(value) or value == "08"


def test_keys_become_texts() -> None:
    assert only("1: a\ntrue: b\n2.5: c\n").value == {"1": "a", "true": "b", "2.5": "c"}


def test_aliases_and_merge_keys_are_written_out() -> None:
    assert only("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, b: 3}\n").value == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 1, "c": 2},
        "e": {"b": 3, "c": 2},
    }


def test_alias_can_be_a_key() -> None:
    assert only("a: &x k\n*x : 1\n").value == {"a": "k", "k": 1}


def test_digits_without_end_stay_a_text() -> None:
    digits = "9" * 301
    assert only(f"a: {digits}\n").value == {"a": digits}


def test_quoted_merge_key_is_a_name() -> None:
    assert only("a: {'<<': 1}\n").value == {"a": {"<<": 1}}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("kind: A\nx: 1\nx: 2\n", 3, 'the key "x" is there twice'),
        ("- 1\n", 1, "got a list"),
        ("just text\n", 1, "got plain text"),
        ("a: 1\nb: *nope\n", 2, "nope"),
        ("a: &a [1, *a]\n", 1, "stands inside"),
        ("a: !!python/object:os.system x\n", 1, "is not allowed"),
        ("{[1]: 2}\n", 1, "a key must be a plain text"),
        ("a: {<<: 1}\n", 1, "takes a mapping"),
        ("kind: List\nitems:\n- 5\n", 3, "items[0]: expected a mapping"),
        ("a: \x07\n", 1, "no valid YAML"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, line: int, words: str) -> None:
    problem = complaint(text)
    assert words in problem.message
    assert (problem.file, problem.line, problem.severity) == ("a.yaml", line, "error")


def test_growth_through_aliases_is_bounded() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "values with all aliases written out" in complaint("\n".join(rows)).message


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "a: " + "{b: " * 500, "a: " + "[" * 101 + "]" * 101])
def test_depth_is_bounded(text: str) -> None:
    assert complaint(text).severity == "error"


def test_json_is_read_with_its_tabs_and_lines() -> None:
    document = only('{\n\t"kind": "A",\n\t"n": 1e2, "t": "a\\/b"\n}\n', file="a.json")
    assert document.value == {"kind": "A", "n": 100.0, "t": "a/b"}
    assert document.line_of("n") == 3


def test_json_that_is_no_yaml_has_no_lines_and_is_read() -> None:
    assert only('{"a": "\\ud83d\\ude00"}', file="a.json").value == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": }', "no valid JSON"),
        ('{"a": 1, "a": 2}', "there twice"),
        ('{"a": ' + "9" * 5000 + "}", "too long"),
        ('{"a": ' + "[" * 200_000, "no valid JSON"),
        ("[1]", "got a list"),
    ],
)
def test_broken_json_is_a_problem(text: str, words: str) -> None:
    assert words in complaint(text, file="a.json").message


@pytest.mark.parametrize("text", ["", "\n\n", "---\n---\n", "# only a comment\n", "%YAML 1.1\n---\n", "\ufeff"])
@pytest.mark.parametrize("file", ["a.yaml"])
def test_nothing_is_no_document(text: str, file: str) -> None:
    assert read(text, file) == ([], [])


def test_marker_with_content_and_byte_order_mark() -> None:
    assert only("\ufeff--- {kind: A}\n...\n").value == {"kind": "A"}


def test_empty_json_file_is_no_document() -> None:
    assert read("\n", "a.json") == ([], [])
