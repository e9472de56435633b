"""No room: the disk is full, or the log has reached its bound. Refused with words, nothing acknowledged is lost, and it goes
on by itself once there is room.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.kill import is_idle
from tests.support.mesh import Mesh, binary
from tests.support.recorder import Recorder, Reply, Seen

MIB = 1024 * 1024
BODY = b'"' + b"x" * 20_000 + b'"'
RESOURCES = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: default, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: t, namespace: default, annotations: {{delivery.knit.dev/parallelism: "20"}}}}
spec:
  broker: default
  delivery: {{retry: 1000, backoffPolicy: linear, backoffDelay: PT0.05S}}
  subscriber: {{uri: "http://127.0.0.1:{port}/t"}}
"""


class Subscriber:
    """Answers 503 until it is told to take events, so that what is accepted stays in the log."""

    def __init__(self, sink: Recorder) -> None:
        self.sink = sink
        self.takes = False
        sink.behaviours["/t"] = self._answer

    def _answer(self, _seen: Seen, _before: int) -> Reply:
        return Reply(202 if self.takes else 503)


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    with Recorder() as sink:
        yield Subscriber(sink)


def send(mesh: Mesh, number: int) -> tuple[int, dict[str, str], bytes]:
    return mesh.post("/default/default", binary(event_id=str(number)), BODY)


def fill(mesh: Mesh, first: int, *, most: int) -> tuple[set[str], tuple[int, dict[str, str], bytes]]:
    """Send until one is refused. Returns the ids that were acknowledged, and the refusal."""
    taken: set[str] = set()
    for number in range(first, first + most):
        answer = send(mesh, number)
        if answer[0] != 202:
            return taken, answer
        taken.add(str(number))
    raise AssertionError(f"{most} events were taken, and none refused")


def goes_on(mesh: Mesh, subscriber: Subscriber, taken: set[str], number: int) -> None:
    """Events are taken again, and every one that was ever acknowledged arrives."""
    mesh.wait_for(lambda: send(mesh, number)[0] == 202)
    subscriber.takes = True
    mesh.wait_for(lambda: is_idle(mesh), limit_s=30.0)
    assert taken | {str(number)} <= {seen.id for seen in subscriber.sink.at("/t")}


def test_log_at_its_bound_answers_429_until_events_are_settled(subscriber: Subscriber) -> None:
    resources = RESOURCES.format(port=subscriber.sink.port)
    with Mesh(resources, env={"KNIT_LOG_MAX_BYTES": str(4 * MIB)}) as mesh:
        taken, (status, headers, text) = fill(mesh, 1, most=400)
        assert status == 429
        assert int(headers["retry-after"]) >= 1
        assert b"bound" in text
        assert len(taken) > 50
        # There is no room, and none is made by losing something.
        assert send(mesh, 900)[0] == 429
        subscriber.takes = True
        mesh.wait_for(lambda: is_idle(mesh), limit_s=30.0)
        goes_on(mesh, subscriber, taken, 1000)


def limit_file_size(pid: int, size: int) -> None:
    """What this process may write of any file; -1 for no limit. Beyond it a write fails as on a full disk (EFBIG)."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_disk_that_takes_no_more_is_answered_503_until_it_does(subscriber: Subscriber) -> None:
    with Mesh(RESOURCES.format(port=subscriber.sink.port)) as mesh:
        (worker,) = mesh.worker_pids()
        limit_file_size(worker, 2 * MIB)
        taken, (status, headers, text) = fill(mesh, 1, most=400)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        assert text.strip()
        assert send(mesh, 900)[0] == 503
        limit_file_size(worker, resource.RLIM_INFINITY)
        goes_on(mesh, subscriber, taken, 1000)
        assert mesh.worker_pids() == [worker]


def test_start_after_a_kill_on_a_full_disk_loses_nothing(subscriber: Subscriber) -> None:
    with Mesh(RESOURCES.format(port=subscriber.sink.port)) as mesh:
        limit_file_size(mesh.worker_pids()[0], 2 * MIB)
        taken, _ = fill(mesh, 1, most=400)
        mesh.kill_group()
        mesh.start()
        goes_on(mesh, subscriber, taken, 1000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB. Only where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_full_file_system_is_answered_503_until_there_is_room(subscriber: Subscriber, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * MIB))
    with Mesh(RESOURCES.format(port=subscriber.sink.port), folder=small_disk) as mesh:
        pids = mesh.worker_pids()
        taken, (status, _, text) = fill(mesh, 1, most=400)
        assert status == 503
        assert b"the log cannot write" in text
        ballast.unlink()
        goes_on(mesh, subscriber, taken, 1000)
        assert mesh.worker_pids() == pids
