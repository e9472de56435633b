"""A running mesh under attack, beside a good sender that must not notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.sockets import dial, event_head
from tests.support.mesh import Mesh
from tests.support.recorder import Recorder, Seen

HEADER_TIMEOUT_S, BODY_TIMEOUT_S = 1.0, 2.0
MIB = 1024 * 1024
PERIOD_S = 0.05
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


class Siege:
    """A mesh, its subscriber, and a good sender that never stops: its events are `good-N`."""

    def __init__(self, mesh: Mesh, sink: Recorder) -> None:
        self.mesh = mesh
        self.sink = sink
        self.port = int(mesh.ingress.rpartition(":")[2])
        self.pids = mesh.worker_pids()
        self.statuses: list[int] = []
        self.failures: list[str] = []
        self.known = 0
        """How many requests to the subscriber were judged already."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_on)

    def __enter__(self) -> Siege:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _send_on(self) -> None:
        """One connection, one event every 50 ms."""
        try:
            with dial(self.port) as wire:
                while not self._stop.wait(PERIOD_S):
                    wire.send(event_head(f"good-{len(self.statuses)}", "content-length: 2") + b"{}")
                    answer = wire.answer()
                    self.statuses.append(answer.status if answer is not None else 0)
        except OSError as exc:
            self.failures.append(repr(exc))

    def came(self) -> list[Seen]:
        """Requests to the subscriber since this was asked last, those of the good sender left out."""
        seen = self.sink.at("/t")
        new, self.known = seen[self.known :], len(seen)
        return [each for each in new if not each.id.startswith("good-")]

    def check(self) -> None:
        """All that must hold whatever was sent: nobody died, the good sender is served, nothing came of what was refused."""
        sent = len(self.statuses)
        self.sink.wait_until(lambda seen: sum(each.id.startswith("good-") for each in seen) >= sent)
        assert self.failures == []
        assert set(self.statuses) <= {202}
        assert self.mesh.worker_pids() == self.pids
        assert [each.id for each in self.came()] == []
        assert all("x-injected" not in each.headers for each in self.sink.at("/t"))

    def memory(self) -> int:
        """Bytes of resident memory of all workers."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * 4096


@contextmanager
def besieged() -> Iterator[Siege]:
    """A mesh with two workers, one broker and one trigger for everything."""
    env = {"KNIT_HTTP_HEADER_TIMEOUT_S": str(HEADER_TIMEOUT_S), "KNIT_HTTP_BODY_TIMEOUT_S": str(BODY_TIMEOUT_S)}
    with (
        Recorder() as sink,
        Mesh(RESOURCES.format(port=sink.port), workers=2, env=env) as mesh,
        Siege(mesh, sink) as siege,
    ):
        yield siege


def came(siege: Siege, count: int) -> list[Seen]:
    """What came of events that were taken."""
    siege.sink.wait_until(lambda seen: sum(not each.id.startswith("good-") for each in seen[siege.known :]) >= count)
    return siege.came()
