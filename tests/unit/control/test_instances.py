"""Which mesh is meant: the one that runs the current folder, of those that are alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mesh.control.instances import Instance, announce, find, folder


def instance(*dirs: Path, pid: int = os.getpid(), port: int = 8081) -> Instance:
    return Instance(
        pid=pid,
        admin=f"http://127.0.0.1:{port}",
        ingress="http://127.0.0.1:8080",
        dirs=tuple(str(path) for path in dirs),
    )


def test_it_is_found_while_it_runs_and_not_after(tmp_path: Path) -> None:
    with announce(instance(tmp_path), where=tmp_path / "i"):
        assert find(where=tmp_path / "i", cwd=tmp_path) == [instance(tmp_path)]
    assert find(where=tmp_path / "i", cwd=tmp_path) == []


def test_a_dead_process_is_not_found_and_its_file_is_removed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    path = tmp_path / f"{process.pid}.json"
    path.write_text(json.dumps({"pid": process.pid, "admin": "a", "ingress": "i", "dirs": []}))
    assert find(where=tmp_path) == []
    assert not path.exists()


def test_the_one_that_runs_the_current_folder_comes_first(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    where = tmp_path / "i"
    # Other live processes: our parent and the one that all descend from.
    with (
        announce(instance(tmp_path / "a", port=1), where=where),
        announce(instance(inner, pid=os.getppid(), port=2), where=where),
        announce(instance(tmp_path / "other", pid=1, port=3), where=where),
    ):
        ports = [found.admin.rpartition(":")[2] for found in find(where=where, cwd=inner / "c")]
    assert ports == ["2", "1", "3"]


def test_what_is_no_announcement_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{")
    (tmp_path / "2.json").write_text("[]")
    assert find(where=tmp_path) == []


def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with announce(instance(tmp_path), where=tmp_path / "file"):
        assert find(where=tmp_path / "file") == []


def test_the_folder_follows_the_environment(tmp_path: Path) -> None:
    assert folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "knit" / "instances"
    assert folder({"XDG_RUNTIME_DIR": str(tmp_path / "no"), "XDG_CACHE_HOME": "/c"}) == Path("/c/knit/instances")
    assert folder({}) == Path.home() / ".cache" / "knit" / "instances"
