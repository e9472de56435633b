"""A damaged store: what is whole is served, or the start is refused with the path and the repair command. Never empty."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.kill import is_idle
from tests.support.mesh import KNIT, ROOT, Mesh
from tests.support.recorder import Recorder

COUNT = 300
PAGE = 4096
A_FEW = 40
"""More events than one page holds."""
RESOURCES = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: default, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: t, namespace: default}}
spec:
  broker: default
  subscriber: {{uri: "http://127.0.0.1:{port}/t"}}
"""
ALL = {str(number) for number in range(COUNT)}


@dataclass(frozen=True)
class Killed:
    """The folder of a mesh that was killed with COUNT acknowledged events that nobody had answered."""

    folder: Path

    def copy(self, folder: Path) -> Path:
        """A copy to damage. Returns its data file."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return folder / "data" / "worker-0" / "data.mdb"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("torn")
    with socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
        port = silent.getsockname()[1]
        mesh = Mesh(RESOURCES.format(port=port), folder=folder)
        mesh.start()
        statuses = {mesh.send(event_id=event_id) for event_id in ALL}
        mesh.kill_group()
    assert statuses == {202}
    return Killed(folder)


def starts(mesh: Mesh) -> bool:
    """Whether it comes to take events, instead of ending by itself."""
    try:
        mesh.start()
    except AssertionError:
        assert mesh.process is not None
        if mesh.process.poll() is None:
            mesh.kill_group()
            raise
        return False
    return True


def served(folder: Path) -> set[str] | None:
    """Which events the subscriber gets from this folder until nothing is pending; None where the mesh does not start."""
    with Recorder() as sink:
        mesh = Mesh(RESOURCES.format(port=sink.port), folder=folder)
        if not starts(mesh):
            return None
        try:
            mesh.wait_for(lambda: is_idle(mesh))
        finally:
            assert mesh.stop() == 0
        return {seen.id for seen in sink.at("/t")}


def cut(size: int) -> Callable[[bytearray], bytes]:
    """Keep the first bytes, or lose the last where `size` is negative."""
    return lambda data: bytes(data[:size])


def zeroed(*pages: int) -> Callable[[bytearray], bytes]:
    def damage(data: bytearray) -> bytes:
        for page in pages:
            data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        return bytes(data)

    return damage


def flipped(seed: int, count: int, *, first_page: int = 2) -> Callable[[bytearray], bytes]:
    """Flip so many bits at random, from this page on."""

    def damage(data: bytearray) -> bytes:
        chance = random.Random(seed)
        for _ in range(count):
            data[chance.randrange(first_page * PAGE, len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)

    return damage


def tail_from_elsewhere(data: bytearray) -> bytes:
    """The last quarter is what stood at the beginning: blocks written to the wrong place."""
    quarter = len(data) // 4 // PAGE * PAGE
    return bytes(data[:-quarter] + data[:quarter])


def test_whole_store_gives_every_event(killed: Killed, tmp_path: Path) -> None:
    killed.copy(tmp_path)
    assert served(tmp_path) == ALL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "at_least"),
    [
        pytest.param(cut(0), 0, id="nothing-left"),
        pytest.param(cut(PAGE // 2), 0, id="half-a-page-left"),
        pytest.param(cut(2 * PAGE), 0, id="metas-left"),
        pytest.param(cut(-100), COUNT - A_FEW, id="last-bytes-missing"),
        pytest.param(lambda data: bytes(data[: len(data) // 2 // PAGE * PAGE]), 1, id="half-missing"),
        pytest.param(zeroed(0), COUNT, id="first-meta-zeroed"),
        pytest.param(zeroed(0, 1), COUNT - A_FEW, id="both-metas-zeroed"),
        pytest.param(zeroed(6), COUNT - A_FEW, id="page-zeroed"),
        pytest.param(zeroed(*range(4, 60, 7)), COUNT // 4, id="many-pages-zeroed"),
        pytest.param(flipped(1, 1), COUNT - A_FEW, id="bit-flipped"),
        pytest.param(flipped(2, 1), COUNT - A_FEW, id="another-bit-flipped"),
        pytest.param(flipped(3, 40), COUNT // 4, id="many-bits-flipped"),
        pytest.param(flipped(4, 8, first_page=0), COUNT // 4, id="bits-flipped-anywhere"),
        pytest.param(tail_from_elsewhere, 1, id="misplaced-blocks"),
    ],
)
def test_damaged_store_serves_what_is_whole_or_says_how_to_repair_it(
    killed: Killed, tmp_path: Path, damage: Callable[[bytearray], bytes], at_least: int
) -> None:
    data = killed.copy(tmp_path)
    data.write_bytes(damage(bytearray(data.read_bytes())))
    got = served(tmp_path)
    if got is None:
        told = (tmp_path / "output.txt").read_text()
        assert f"knit repair {data.parent}" in told
        assert "Traceback" not in told
        repair = [*KNIT, "repair", str(data.parent)]
        repaired = subprocess.run(repair, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert repaired.returncode == 1, repaired.stderr
        assert f"{data}.damaged" in repaired.stdout
        got = served(tmp_path)
    assert got is not None
    assert got <= ALL
    assert len(got) >= at_least


def test_repair_takes_every_whole_event_for_one(tmp_path: Path) -> None:
    """Of thousands, so that each first byte a checksum can have is among them."""
    batch, count = 200, 3000
    with socket.create_server(("127.0.0.1", 0), backlog=512) as silent:
        mesh = Mesh(RESOURCES.format(port=silent.getsockname()[1]), folder=tmp_path)
        mesh.start()
        for first in range(0, count, batch):
            events = [
                {"specversion": "1.0", "id": str(number), "source": "/s", "type": "t"}
                for number in range(first, first + batch)
            ]
            headers = {"content-type": "application/cloudevents-batch+json"}
            assert mesh.post("/default/default", headers, json.dumps(events).encode())[0] == 202
        mesh.kill_group()
    data = tmp_path / "data" / "worker-0" / "data.mdb"
    data.write_bytes(zeroed(0)(bytearray(data.read_bytes())))
    repair = [*KNIT, "repair", str(data.parent)]
    repaired = subprocess.run(repair, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert f"saved {count} events of 1 subscriptions, 0 dead letters" in repaired.stdout
    assert ": 0 rows could not be saved" in repaired.stdout


def test_data_file_that_vanished_is_no_fresh_start(killed: Killed, tmp_path: Path) -> None:
    data = killed.copy(tmp_path)
    data.unlink()
    assert served(tmp_path) is None
    assert f"knit repair {data.parent}" in (tmp_path / "output.txt").read_text()
