"""The parts of a flow: what counts as deleted when it is edited, and what does not while it is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.control.memory import FILE_NAME
from tests.unit.control.test_reconcile import BROKEN_YAML, Mesh


def sequence(*steps: str) -> str:
    return _written(f"[{', '.join(steps)}]")


def _written(steps: str) -> str:
    return f"""
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {{name: flow}}
spec: {{steps: {steps}}}
"""


A, B = "{uri: 'http://h/a'}", "{uri: 'http://h/b'}"
ONE_STEP = {f"{kind}/default/flow-kn-sequence-0" for kind in ("channel", "subscription")}
TWO_STEPS = ONE_STEP | {f"{kind}/default/flow-kn-sequence-1" for kind in ("channel", "subscription")}


def test_a_step_that_is_taken_out_is_deleted() -> None:
    mesh = Mesh()
    assert mesh.take({"f.yaml": sequence(A, B)}).known == TWO_STEPS
    assert mesh.take({"f.yaml": sequence(A)}).known == ONE_STEP
    assert mesh.take({}).known == set()


def test_a_step_taken_out_in_a_version_that_is_not_valid_stays() -> None:
    mesh = Mesh()
    mesh.take({"f.yaml": sequence(A, B)})
    snapshot = mesh.take({"f.yaml": sequence("{uri: 3}")})
    assert snapshot.known == TWO_STEPS
    assert len(snapshot.plan.topics) == 2


@pytest.mark.parametrize("broken", [_written("a, b"), _written("{a: b}"), sequence("{}"), BROKEN_YAML])
def test_after_a_restart_with_a_broken_flow_none_of_its_positions_are_forgotten(broken: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    Mesh(path).take({"f.yaml": sequence(A, B)})
    for _ in range(2):
        snapshot = Mesh(path).take({"f.yaml": broken})
        assert snapshot.plan.topics == ()
        assert snapshot.known == TWO_STEPS
    assert Mesh(path).take({"f.yaml": sequence(A)}).known == ONE_STEP


def test_a_memory_of_an_older_version_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    Mesh(path).take({"f.yaml": sequence(A)})
    parts = '"parts":["channel/default/flow-kn-sequence-0","subscription/default/flow-kn-sequence-0"]'
    text = path.read_text()
    assert f",{parts}" in text
    path.write_text(text.replace(f",{parts}", ""))
    assert Mesh(path).take({"f.yaml": sequence(A, B)}).known == TWO_STEPS
