"""What an edit does: valid ones take effect, invalid ones leave the last good version running and say so."""

from __future__ import annotations

import hashlib
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mesh.control.directory import FileText
from mesh.control.memory import FILE_NAME, Memory
from mesh.control.reconcile import LATEST_FILE_VALID, Reconciler, Snapshot
from mesh.errors import StoreError
from mesh.plan.compile import compile_plan
from mesh.plan.options import CompileOptions

OPTIONS = CompileOptions(ingress_url="http://127.0.0.1:8080")
BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: orders}
"""
CHANNEL = """
apiVersion: messaging.knative.dev/v1
kind: InMemoryChannel
metadata: {name: bus}
"""


def trigger(
    name: str = "mail", *, broker: str = "orders", uri: str = "http://127.0.0.1:9000/", retry: object = 3
) -> str:
    return f"""
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: {name}}}
spec:
  broker: {broker}
  subscriber: {{uri: "{uri}"}}
  delivery: {{retry: {retry}}}
"""


BROKEN_YAML = "kind: [unclosed\n"


class WallClock:
    """Shows a time that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000

    def now_ns(self) -> int:
        return self.seconds * 10**9

    def monotonic(self) -> float:
        return float(self.seconds)


class Mesh:
    """A reconciler with the files as a dict."""

    def __init__(self, path: Path | None = None) -> None:
        numbers = count(1)
        self.clock = WallClock()
        self.memory = Memory(path, new_uid=lambda: f"uid-{next(numbers)}")
        self.compiled = 0
        self.reconciler = Reconciler(
            lambda resources: compile_plan(resources, OPTIONS), memory=self.memory, clock=self.clock
        )

    def take(self, files: dict[str, str]) -> Snapshot:
        return self.reconciler.reconcile(
            [FileText(path, hashlib.sha256(text.encode()).hexdigest(), text) for path, text in files.items()]
        )


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def found(snapshot: Snapshot, kind: str, name: str) -> dict[str, Any]:
    hits = [r for r in snapshot.resources if r["kind"] == kind and r["metadata"]["name"] == name]
    assert len(hits) == 1, f"{kind} {name}: {[r['metadata'] for r in snapshot.resources]}"
    return hits[0]


def condition(resource: dict[str, Any], kind: str = "Ready") -> dict[str, str]:
    hits = [c for c in resource["status"]["conditions"] if c["type"] == kind]
    return hits[0] if hits else {}


def subscribers(snapshot: Snapshot) -> dict[str, str]:
    """Egress key → URL of its subscriber, as the plan has it."""
    return {e.key: e.subscriber.url for t in snapshot.plan.topics for e in t.egresses if e.subscriber is not None}


def test_valid_files_run(mesh: Mesh) -> None:
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": trigger()})
    assert snapshot.is_valid
    assert condition(found(snapshot, "Trigger", "mail"))["status"] == "True"
    assert subscribers(snapshot) == {"trigger/default/mail": "http://127.0.0.1:9000/"}
    assert dict(snapshot.loaded.kinds) == {"Broker": 1, "Trigger": 1}
    assert snapshot.known == {"broker/default/orders", "trigger/default/mail"}


def test_an_invalid_document_at_the_first_start_is_not_ready_and_its_neighbours_run(mesh: Mesh) -> None:
    snapshot = mesh.take({"all.yaml": "---".join([BROKER, trigger("bad", retry='"three"'), trigger("good")])})
    assert condition(found(snapshot, "Trigger", "bad"))["status"] == "False"
    assert "three" in condition(found(snapshot, "Trigger", "bad"))["message"]
    assert condition(found(snapshot, "Trigger", "good"))["status"] == "True"
    assert subscribers(snapshot).keys() == {"trigger/default/good"}
    assert not snapshot.is_valid
    assert "all.yaml" in snapshot.bad_files
    assert "trigger/default/bad" in snapshot.known, "its position must not be forgotten"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(BROKEN_YAML, id="syntax"),
        pytest.param(trigger(retry='"three"'), id="decode"),
        pytest.param(trigger(broker="other"), id="immutable field"),
        pytest.param(trigger("renamed", uri="http://127.0.0.1:1/") + "---\n" + BROKEN_YAML, id="half a file"),
    ],
)
def test_a_file_that_stops_being_valid_keeps_its_last_good_version_running(mesh: Mesh, bad: str) -> None:
    mesh.take({"b.yaml": BROKER, "t.yaml": trigger()})
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": bad})
    resource = found(snapshot, "Trigger", "mail")
    assert subscribers(snapshot) == {"trigger/default/mail": "http://127.0.0.1:9000/"}
    assert condition(resource)["status"] == "True"
    told = condition(resource, LATEST_FILE_VALID)
    assert (told["status"], told["severity"]) == ("False", "Info")
    assert "t.yaml:" in told["message"]
    assert list(snapshot.bad_files) == ["t.yaml"]
    assert any(problem.severity == "error" and problem.file == "t.yaml" for problem in snapshot.problems)


def test_mending_the_file_takes_effect_and_clears_the_condition(mesh: Mesh) -> None:
    mesh.take({"b.yaml": BROKER, "t.yaml": trigger()})
    mesh.take({"b.yaml": BROKER, "t.yaml": BROKEN_YAML})
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": trigger(uri="http://127.0.0.1:9001/")})
    assert subscribers(snapshot) == {"trigger/default/mail": "http://127.0.0.1:9001/"}
    assert not condition(found(snapshot, "Trigger", "mail"), LATEST_FILE_VALID)
    assert snapshot.is_valid


def test_nothing_of_an_invalid_file_is_deleted_or_half_applied(mesh: Mesh) -> None:
    mesh.take({"all.yaml": "---".join([BROKER, trigger("one"), trigger("two")])})
    changed = [BROKER, trigger("one", uri="http://127.0.0.1:9001/"), trigger("new", retry='"x"')]
    snapshot = mesh.take({"all.yaml": "---".join(changed)})
    assert subscribers(snapshot) == {
        "trigger/default/one": "http://127.0.0.1:9000/",
        "trigger/default/two": "http://127.0.0.1:9000/",
    }


def test_a_file_that_never_was_valid_takes_its_valid_edits(mesh: Mesh) -> None:
    bad = trigger("bad", retry='"x"')
    mesh.take({"b.yaml": BROKER, "t.yaml": trigger("good") + "---" + bad})
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": trigger("good", uri="http://127.0.0.1:9001/") + "---" + bad})
    assert subscribers(snapshot) == {"trigger/default/good": "http://127.0.0.1:9001/"}
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": trigger("good", retry='"y"') + "---" + bad})
    assert subscribers(snapshot) == {"trigger/default/good": "http://127.0.0.1:9001/"}
    assert condition(found(snapshot, "Trigger", "good"), LATEST_FILE_VALID)["status"] == "False"
    assert condition(found(snapshot, "Trigger", "bad"))["status"] == "False"


def test_what_disappears_is_deleted(mesh: Mesh) -> None:
    mesh.take({"b.yaml": BROKER, "t.yaml": trigger("one") + "---" + trigger("two")})
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": trigger("one")})
    assert snapshot.known == {"broker/default/orders", "trigger/default/one"}
    snapshot = mesh.take({"b.yaml": BROKER})
    assert snapshot.known == {"broker/default/orders"}
    assert not subscribers(snapshot)


def test_deleting_and_declaring_again_is_the_way_to_change_an_immutable_field(mesh: Mesh) -> None:
    other = BROKER.replace("orders", "other")
    mesh.take({"b.yaml": BROKER, "o.yaml": other, "t.yaml": trigger()})
    mesh.take({"b.yaml": BROKER, "o.yaml": other})
    snapshot = mesh.take({"b.yaml": BROKER, "o.yaml": other, "t.yaml": trigger(broker="other")})
    assert snapshot.is_valid
    assert found(snapshot, "Trigger", "mail")["metadata"]["uid"] == "uid-4"


def test_moving_a_document_to_another_file_changes_nothing(mesh: Mesh) -> None:
    before = mesh.take({"b.yaml": BROKER, "t.yaml": trigger()})
    after = mesh.take({"all.yaml": BROKER + "---" + trigger()})
    assert after.plan == before.plan
    assert found(after, "Trigger", "mail")["metadata"] == found(before, "Trigger", "mail")["metadata"]


@pytest.mark.parametrize("path", ["a.yaml", "z.yaml"])
def test_of_two_declarations_the_one_that_ran_before_counts(mesh: Mesh, path: str) -> None:
    mesh.take({"b.yaml": BROKER, "m.yaml": trigger()})
    snapshot = mesh.take({"b.yaml": BROKER, "m.yaml": trigger(), path: trigger(uri="http://127.0.0.1:9001/")})
    assert subscribers(snapshot) == {"trigger/default/mail": "http://127.0.0.1:9000/"}
    twice = [problem for problem in snapshot.problems if "twice" in problem.message]
    assert [problem.file for problem in twice] == [path]
    assert "m.yaml:" in twice[0].message


def test_generation_counts_spec_changes_only(mesh: Mesh) -> None:
    mesh.take({"b.yaml": BROKER, "t.yaml": trigger()})
    snapshot = mesh.take(
        {
            "b.yaml": BROKER,
            "t.yaml": "# a comment\n" + trigger().replace("{name: mail}", "{name: mail, labels: {a: b}}"),
        }
    )
    assert found(snapshot, "Trigger", "mail")["metadata"]["generation"] == 1
    snapshot = mesh.take({"b.yaml": BROKER, "t.yaml": trigger(retry=4)})
    resource = found(snapshot, "Trigger", "mail")
    assert resource["metadata"]["generation"] == 2
    assert resource["status"]["observedGeneration"] == 2


def test_transition_time_changes_with_the_status_only(mesh: Mesh) -> None:
    mesh.take({"t.yaml": trigger()})
    mesh.clock.seconds += 60
    waiting = condition(found(mesh.take({"t.yaml": trigger(retry=4)}), "Trigger", "mail"))
    assert (waiting["status"], waiting["lastTransitionTime"]) == ("False", "2023-11-14T22:13:20Z")
    ready = condition(found(mesh.take({"t.yaml": trigger(retry=4), "b.yaml": BROKER}), "Trigger", "mail"))
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", "2023-11-14T22:14:20Z")


def test_a_restart_keeps_uid_generation_and_times(tmp_path: Path) -> None:
    path = tmp_path / "data" / FILE_NAME
    first = Mesh(path)
    first.take({"b.yaml": BROKER, "t.yaml": trigger()})
    before = first.take({"b.yaml": BROKER, "t.yaml": trigger(retry=4)})
    second = Mesh(path)
    second.clock.seconds += 3600
    after = second.take({"b.yaml": BROKER, "t.yaml": trigger(retry=4)})
    assert after.resources == before.resources


def test_after_a_restart_with_an_unreadable_file_its_positions_are_not_forgotten(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    Mesh(path).take({"b.yaml": BROKER, "t.yaml": trigger()})
    snapshot = Mesh(path).take({"b.yaml": BROKER, "t.yaml": BROKEN_YAML})
    assert "trigger/default/mail" in snapshot.known
    snapshot = Mesh(path).take({"b.yaml": BROKER, "t.yaml": CHANNEL})
    assert snapshot.known == {"broker/default/orders", "channel/default/bus"}


def test_a_damaged_memory_is_refused_with_words(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text('{"resources": 5}')
    with pytest.raises(StoreError, match="uid and generation"):
        Memory(path)


def test_memory_is_written_only_when_something_changed(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    mesh = Mesh(path)
    mesh.take({"b.yaml": BROKER})
    before = path.stat()
    mesh.take({"b.yaml": BROKER + "# a comment\n"})
    assert path.stat().st_ino == before.st_ino
    assert json.loads(path.read_text())["resources"][0][1] == "Broker"


def test_a_memory_that_cannot_be_written_is_told_and_the_plan_still_holds(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    snapshot = Mesh(tmp_path / "file" / FILE_NAME).take({"b.yaml": BROKER})
    assert [topic.key for topic in snapshot.plan.topics] == ["broker/default/orders"]
    assert any("cannot be kept" in problem.message for problem in snapshot.problems)


def test_other_yaml_is_ignored_and_said_so(mesh: Mesh) -> None:
    snapshot = mesh.take({"compose.yaml": "services: {db: {image: postgres}}", "b.yaml": BROKER})
    assert snapshot.is_valid
    assert [(p.severity, p.file) for p in snapshot.problems] == [("warning", "compose.yaml")]


def test_kinds_that_are_not_served_are_ignored_with_a_reason(mesh: Mesh) -> None:
    kafka = "apiVersion: messaging.knative.dev/v1beta1\nkind: NatsJetStreamChannel\nmetadata: {name: k}\n"
    snapshot = mesh.take({"k.yaml": kafka})
    assert [problem.file for problem in snapshot.ignored] == ["k.yaml"]
    assert snapshot.resources == ()


def test_what_a_cluster_exported_loses_its_old_status(mesh: Mesh) -> None:
    exported = BROKER.replace("{name: orders}", "{name: orders, uid: old, generation: 9, resourceVersion: '5'}")
    snapshot = mesh.take({"b.yaml": exported + "status: {observedGeneration: 9}\n"})
    resource = found(snapshot, "Broker", "orders")
    assert resource["metadata"]["uid"] == "uid-1"
    assert resource["status"]["observedGeneration"] == 1


def test_only_changed_files_are_parsed_again(mesh: Mesh) -> None:
    files = {"b.yaml": BROKER, **{f"t{n}.yaml": trigger(f"t{n}") for n in range(20)}}
    mesh.take(files)
    latest = dict(mesh.reconciler._latest)
    mesh.take({**files, "t3.yaml": trigger("t3", retry=5)})
    changed = [path for path, version in mesh.reconciler._latest.items() if version is not latest[path]]
    assert changed == ["t3.yaml"]
