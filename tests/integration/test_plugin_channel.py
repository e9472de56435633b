"""A backend of another package, found by its entry point, behind `knit run`: the one of docs/write-a-channel.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.mesh import ROOT, Mesh
from tests.support.recorder import Recorder, Reply

RESOURCES = """
apiVersion: messaging.knit.dev/v1alpha1
kind: PluginChannel
metadata: {name: orders}
spec: {backend: sqlite, options: {max_length: 1000}}
---
apiVersion: messaging.knit.dev/v1alpha1
kind: PluginChannel
metadata: {name: wrong}
spec: {backend: sqlit}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: s}
spec:
  channel: {apiVersion: messaging.knit.dev/v1alpha1, kind: PluginChannel, name: orders}
  subscriber: {uri: "%s"}
  delivery: {retry: 5, backoffPolicy: linear, backoffDelay: PT0.5S}
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that looks as pip leaves it."""
    page = (ROOT / "docs/write-a-channel.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    toml = re.findall(r'^sqlite = "(.*)"$', page, re.MULTILINE)[0]
    site = tmp_path / "site"
    (site / "my_package").mkdir(parents=True)
    (site / "my_package/__init__.py").touch()
    (site / "my_package/channel.py").write_text(code)
    info = site / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[knit.channels]\nsqlite = {toml}\n")
    return site


def test_a_backend_of_another_package_keeps_events_through_kill_9(installed: Path, tmp_path: Path) -> None:
    with Recorder() as sink:
        sink.behaviours["/s"] = lambda _seen, before: Reply(503 if before == 0 else 202)
        folder = tmp_path / "run"
        folder.mkdir()
        with Mesh(RESOURCES % sink.url("/s"), folder=folder, env={"PYTHONPATH": str(installed)}) as mesh:
            assert mesh.condition("PluginChannel", "orders")["status"] == "True"
            wrong = mesh.condition("PluginChannel", "wrong")
            assert wrong["reason"] == "BackendNotInstalled"
            assert "did you mean sqlite?" in wrong["message"]
            assert mesh.send(path="/default/orders-kn-channel") == 202
            sink.wait("/s")
            mesh.kill_group()
            mesh.start()
            sink.wait("/s", 2)
