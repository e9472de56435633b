"""The examples are in order, and events flow through them."""

from __future__ import annotations

import shutil
from pathlib import Path

from mesh.cli.check import examine
from tests.house.pages import ROOT
from tests.support.mesh import Mesh

QUICKSTART = ROOT / "examples" / "quickstart"


def test_every_example_is_clean() -> None:
    for example in sorted((ROOT / "examples").iterdir()):
        snapshot = examine((example,), namespace="default")
        assert [*snapshot.problems, *snapshot.ignored] == []
        assert snapshot.plan.topics


def test_the_quickstart_shows_heartbeats_and_a_dead_letter(tmp_path: Path) -> None:
    shutil.copytree(QUICKSTART, tmp_path / "dir")
    with Mesh(folder=tmp_path) as mesh:
        assert mesh.send("com.example.order.created", event_id="order-1") == 202
        told = mesh.wait_for(lambda: story_with(mesh, "order-1", "dead-lettered"))
        mesh.wait_for(lambda: "type: dev.knative.sources.ping" in mesh.output.read_text())
        screen = mesh.output.read_text()
    outcomes = [step["what"] for step in told]
    assert outcomes == ["accepted", "not-matched", "unreachable", "unreachable", "unreachable", "dead-lettered"]
    assert "knativeerrordest: http://127.0.0.1:9/orders" in screen
    assert "knativeerrorcode: 500" in screen


def story_with(mesh: Mesh, event_id: str, what: str) -> list[dict[str, str]]:
    """The steps so far, where that is among them."""
    steps: list[dict[str, str]] = mesh.get(f"/api/v1/stories/{event_id}").get("steps", [])
    return steps if any(step["what"] == what for step in steps) else []
