"""`knit run` as its operator sees it: starting, refusing to start, ending, workers that die, edits while it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.kill import is_idle, metric
from tests.integration.rude import Rude, never
from tests.integration.sockets import dial, event_head
from tests.support.mesh import KNIT, Mesh, request
from tests.support.recorder import Recorder, Reply

BROKER = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: default, namespace: default}
"""


def trigger(name: str, url: str, *, broker: str = "default", wants: str = "", delivery: str = "{retry: 0}") -> str:
    wanted = f"filter: {{attributes: {{type: {wants}}}}}" if wants else ""
    return f"""---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: {name}, namespace: default}}
spec:
  broker: {broker}
  {wanted}
  delivery: {delivery}
  subscriber: {{uri: "{url}"}}
"""


@pytest.fixture
def sink() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def knit(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*KNIT, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[dict[str, str]]:
    """`knit run` with these arguments; what its ready file says."""
    ready = cwd / "ready.json"
    command = [*KNIT, "run", *arguments, "--port", "0", "--admin-port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 20
        while not ready.exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.01)
        yield json.loads(ready.read_text())
    finally:
        process.terminate()
        process.communicate(timeout=30)


# Starting.


def test_ready_file_comes_when_events_are_taken(tmp_path: Path) -> None:
    with Mesh(BROKER, workers=2, folder=tmp_path) as mesh:
        assert mesh.send() == 202
        assert mesh.get("/readyz") == {"ready": True}
        facts = json.loads((tmp_path / "ready.json").read_text())
        assert facts["pid"] == mesh.process.pid if mesh.process else None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", facts["ingress"])
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", facts["admin"])
        # Written beside and then renamed: who sees it sees all of it, and nothing is left of the writing.
        assert {path.name for path in tmp_path.iterdir()} == {"data", "dir", "output.txt", "ready.json"}


@pytest.mark.parametrize("namespace", ["default", "shop"])
def test_without_a_folder_there_is_a_durable_broker(tmp_path: Path, namespace: str) -> None:
    with running("--workers", "1", "--namespace", namespace, cwd=tmp_path) as facts:
        with dial(int(facts["ingress"].rpartition(":")[2])) as wire:
            wire.send(event_head("1", "content-length: 2", path=f"/{namespace}/default") + b"{}")
            answer = wire.answer()
        assert answer is not None
        assert answer.status == 202
        found = request(f"{facts['admin']}/api/v1/resources?kind=Broker", {}, b"", method="GET")[2]
        assert f'"namespace":"{namespace}"' in found.decode().replace(" ", "")
    assert list((tmp_path / ".knit").glob("worker-0/**/data.mdb"))


def test_port_in_use_is_told_with_what_would_work(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(BROKER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option, other in (("--port", "--admin-port"), ("--admin-port", "--port")):
            ended = knit("run", str(tmp_path), option, port, other, "0", "--workers", "1", cwd=tmp_path)
            assert ended.returncode == 2
            assert f"127.0.0.1:{port}" in ended.stderr
            assert f"{option} 0" in ended.stderr
            assert "Traceback" not in ended.stderr


def test_data_in_use_is_told_and_harms_nobody(sink: Recorder) -> None:
    with Mesh(BROKER + trigger("t", sink.url("/t"))) as mesh:
        ended = knit("run", str(mesh.dir), "--port", "0", "--admin-port", "0", "--workers", "1", "--data-dir", str(mesh.data), cwd=mesh.folder)  # fmt: skip
        assert ended.returncode in (1, 2)
        assert f"in use by process {mesh.worker_pids()[0]}" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert mesh.send() == 202
        sink.wait("/t")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("KNIT_HTTP_MAX_EVENT_BITES", "1", "KNIT_HTTP_MAX_EVENT_BYTES"),
        ("KNIT_WRONG", "1", "KNIT_WRONG"),
        ("KNIT_HTTP_MAX_EVENT_BYTES", "many", "many"),
        ("KNIT_RUN_DRAIN_S", "-1", "KNIT_RUN_DRAIN_S"),
    ],
)
def test_wrong_variable_ends_it_with_words(tmp_path: Path, name: str, value: str, told: str) -> None:
    ended = knit("run", "--port", "0", "--admin-port", "0", cwd=tmp_path, env={name: value})
    assert ended.returncode == 2
    assert name in ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments", [("no-such-folder",), ("--workers", "-1"), ("--prot", "0"), ("--host", "192.0.2.1")]
)
def test_wrong_arguments_end_it_with_words(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = knit("run", *arguments, "--port", "0", "--admin-port", "0", cwd=tmp_path)
    assert ended.returncode == 2
    assert arguments[-1] in ended.stderr or arguments[0] in ended.stderr
    assert "Traceback" not in ended.stderr


# Ending.


def test_sigterm_settles_what_is_in_hand(sink: Recorder) -> None:
    sink.behaviours["/t"] = lambda _seen, _before: Reply(delay_s=0.7)
    with Mesh(BROKER + trigger("t", sink.url("/t")), workers=2) as mesh:
        statuses = [mesh.send(event_id=str(number)) for number in range(5)]
        sink.wait("/t", 5)
        assert mesh.stop() == 0
        mesh.start()
        mesh.wait_for(lambda: is_idle(mesh))
    assert statuses == [202] * 5
    assert Counter(seen.id for seen in sink.at("/t")) == dict.fromkeys("01234", 1)


def test_draining_mesh_takes_no_new_connections_and_says_it_is_not_ready(sink: Recorder) -> None:
    release = threading.Event()
    sink.behaviours["/t"] = lambda _seen, _before: Reply(delay_s=0.0 if release.is_set() else 1.0)
    with Mesh(BROKER + trigger("t", sink.url("/t"))) as mesh:
        assert mesh.send() == 202
        sink.wait("/t")
        assert mesh.process is not None
        mesh.process.terminate()
        mesh.wait_for(lambda: "draining" in mesh.output.read_text())
        mesh.wait_for(lambda: _is_refused(mesh))
        assert request(f"{mesh.admin}/readyz", {}, b"", method="GET")[0] == 503
        assert mesh.process.wait(10) == 0


def _is_refused(mesh: Mesh) -> bool:
    """A new connection is not made, is cut off, or is told 503."""
    try:
        return mesh.send(event_id="late") != 202
    except OSError:
        return True


def test_second_sigterm_ends_it_at_once_and_loses_nothing(sink: Recorder) -> None:
    with Rude(never) as stuck, Mesh(BROKER + trigger("t", f"http://127.0.0.1:{stuck.port}/")) as mesh:
        assert mesh.send(event_id="kept") == 202
        stuck.wait(1)
        assert mesh.process is not None
        mesh.process.terminate()
        mesh.wait_for(lambda: "draining" in mesh.output.read_text())
        assert mesh.process.poll() is None
        workers = mesh.worker_pids()
        mesh.process.terminate()
        assert mesh.process.wait(3) != 0
        mesh.wait_for(lambda: not any(is_running(pid) for pid in workers))
        (mesh.dir / "mesh.yaml").write_text(BROKER + trigger("t", sink.url("/t")))
        mesh.start()
        assert [seen.id for seen in sink.wait("/t")] == ["kept"]


def test_ctrl_c_ends_it_with_0(sink: Recorder) -> None:
    sink.behaviours["/t"] = lambda _seen, _before: Reply(delay_s=0.5)
    with Mesh(BROKER + trigger("t", sink.url("/t")), workers=2) as mesh:
        assert mesh.send() == 202
        sink.wait("/t")
        assert mesh.process is not None
        os.killpg(mesh.process.pid, signal.SIGINT)  # the terminal tells the whole group
        assert mesh.process.wait(10) == 0
        assert "Traceback" not in mesh.output.read_text()
        mesh.start()
        mesh.wait_for(lambda: is_idle(mesh))
    assert len(sink.at("/t")) == 1


# Workers.


def test_killed_worker_comes_back_later_each_time(sink: Recorder) -> None:
    with Mesh(BROKER + trigger("t", sink.url("/t"))) as mesh:
        pauses = []
        for number in range(4):
            (pid,) = mesh.worker_pids()
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            mesh.wait_for(lambda pid=pid: [each for each in mesh.worker_pids() if each != pid])
            pauses.append(time.monotonic() - killed)
            mesh.wait_for(lambda number=number: _taken(mesh, str(number)))
        assert pauses[0] < 1.0
        assert pauses[3] > 1.5 > pauses[0]
        assert metric(mesh.text("/metrics"), "knit_worker_restarts_total") == 4
        assert mesh.output.read_text().count("worker_died") == 4
        sink.wait_until(lambda seen: {each.id for each in seen} == set("0123"))


def test_workers_leave_when_their_parent_is_killed(sink: Recorder) -> None:
    """So that the next start finds port and data free, which it does without being told to wait."""
    with Mesh(BROKER + trigger("t", sink.url("/t")), workers=2) as mesh:
        workers, port = mesh.worker_pids(), mesh.ingress.rpartition(":")[2]
        assert mesh.process is not None
        mesh.process.kill()
        mesh.process.wait(10)
        again = Mesh(folder=mesh.folder, workers=2, options=("--port", port))
        with again:
            assert again.ingress == mesh.ingress
            assert again.send() == 202
            sink.wait("/t")
        assert not any(is_running(pid) for pid in workers)


def is_running(pid: int) -> bool:
    """It is there, and no mere entry that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _taken(mesh: Mesh, event_id: str) -> bool:
    try:
        return mesh.send(event_id=event_id) == 202
    except OSError:
        return False


def test_one_worker_takes_over_what_two_have_left(sink: Recorder) -> None:
    ids = {str(number) for number in range(60)}
    with Rude(never) as stuck, Mesh(BROKER + trigger("t", f"http://127.0.0.1:{stuck.port}/"), workers=2) as mesh:
        assert {mesh.send(event_id=each) for each in ids} == {202}
        mesh.kill_group()
        assert {path.name for path in mesh.data.glob("worker-*")} == {"worker-0", "worker-1"}
        (mesh.dir / "mesh.yaml").write_text(BROKER + trigger("t", sink.url("/t"), delivery="{retry: 3}"))
        single = Mesh(folder=mesh.folder, workers=1)
        with single:
            single.wait_for(lambda: is_idle(single))
            assert {seen.id for seen in sink.at("/t")} == ids
            single.wait_for(lambda: not (mesh.data / "worker-1").exists())
