"""kill -9 at random moments. `make kill`, or `python -m tests.chaos.kill --rounds 200 --seed 1`.

A mesh with the log channel is sent events without pause and killed over and over: its parent, one of its workers, or the
whole group. It starts again on the same data (a worker comes back by itself), with one worker and two in turn. Every few
rounds the senders stop, the backlog runs out, and everything that was ever sent is judged (`checker.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.checker import Report, Subscription, judge, table
from tests.chaos.peers import Answering, Ledger, Senders, Sink
from tests.support.mesh import Mesh

PARALLELISM = 8
RETRY = 5
_EARLIEST_S, _LATEST_S = 0.05, 0.7
_EMPTY_S = 60.0
_KINDS = ("parent", "worker", "group")

RESOURCES = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: b, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: all, namespace: default, annotations: {{delivery.knit.dev/parallelism: "{parallelism}"}}}}
spec:
  broker: b
  delivery: {{retry: {retry}, backoffPolicy: linear, backoffDelay: PT0.1S}}
  subscriber: {{uri: "http://127.0.0.1:{port}/all"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: half, namespace: default, annotations: {{delivery.knit.dev/parallelism: "{parallelism}"}}}}
spec:
  broker: b
  delivery: {{retry: {retry}, backoffPolicy: linear, backoffDelay: PT0.1S}}
  filter: {{attributes: {{type: chaos.even}}}}
  subscriber: {{uri: "http://127.0.0.1:{port}/half"}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: flaky, namespace: default, annotations: {{delivery.knit.dev/parallelism: "{parallelism}"}}}}
spec:
  broker: b
  delivery: {{retry: {retry}, backoffPolicy: linear, backoffDelay: PT0.1S}}
  subscriber: {{uri: "http://127.0.0.1:{port}/flaky"}}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: in-order, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: ordered, namespace: default, annotations: {{delivery.knit.dev/parallelism: "1"}}}}
spec:
  broker: in-order
  delivery: {{retry: {retry}, backoffPolicy: linear, backoffDelay: PT0.01S}}
  subscriber: {{uri: "http://127.0.0.1:{port}/ordered"}}
"""


def duplicates_per_kill() -> int:
    """What may be out without its ending on disk: each of three triggers up to its parallelism, the ordered one one event."""
    return 3 * PARALLELISM + 1


def answering(chance: random.Random) -> Answering:
    """`flaky` fails the first attempt of each event, `ordered` that of some; now and then an answer takes its time."""

    def answer(path: str, event_id: int, before: int) -> tuple[int, float]:
        fails = before == 0 and (path == "/flaky" or (path == "/ordered" and event_id % 23 == 0))
        return (503 if fails else 202), (chance.uniform(0.0, 0.02) if event_id % 8 == 0 else 0.0)

    return answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. kills: how many of each kind; problems: every promise that did not hold."""

    report: Report
    kills: Counter[str]
    statuses: Counter[int]
    problems: list[str]


class KillLoop:
    """One run. The mesh is driven from threads where that blocks; senders and subscriber live on the loop."""

    def __init__(self, *, rounds: int, seed: int, check_every: int, per_s: float, folder: Path) -> None:
        self.rounds = rounds
        self.seed = seed
        self.check_every = check_every
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.kills: Counter[str] = Counter()
        self.mesh: Mesh | None = None
        self._starts = 0
        self._killed = 0
        self._folder = folder
        self._per_s = per_s

    async def run(self) -> Outcome:
        async with Sink(answering(random.Random(self.seed))) as sink:
            problems: list[str] = []
            report = self._judge(sink, 0)
            try:
                for first in range(0, self.rounds, self.check_every):
                    last = min(first + self.check_every, self.rounds)
                    await self._rounds(sink, last - first)
                    report = self._judge(sink, last)
                    problems = report.problems(self.kills.total() * duplicates_per_kill())
                    print(f"{datetime.now(UTC):%H:%M:%S} {report.row()} {dict(self.kills)}", flush=True)
                    if problems:
                        break
            finally:
                await asyncio.to_thread(self._end)
        return Outcome(report, self.kills, self.ledger.statuses, problems)

    async def _rounds(self, sink: Sink, count: int) -> None:
        """So many kills with senders at work; then silence, until the mesh is back and has nothing left to do."""
        paths = ("/default/b",) * 3 + ("/default/in-order",) * 2
        senders = Senders(self.ledger, paths, per_s=self._per_s, chance=random.Random(self.seed))
        stop = asyncio.Event()
        await self._be_up(sink, senders)
        async with asyncio.TaskGroup() as group:
            group.create_task(senders.run(stop))
            for _ in range(count):
                await self._be_up(sink, senders)
                await asyncio.sleep(self.chance.uniform(_EARLIEST_S, _LATEST_S))
                await self._kill(self.chance.choice(_KINDS))
            await self._be_up(sink, senders)
            stop.set()
        assert self.mesh is not None
        mesh = self.mesh
        await asyncio.to_thread(lambda: mesh.wait_for(lambda: is_idle(mesh), limit_s=_EMPTY_S))

    async def _be_up(self, sink: Sink, senders: Senders) -> None:
        """Start it, if it is not there; wait until all workers take events."""
        if self.mesh is None:
            self._starts += 1
            resources = RESOURCES.format(port=sink.port, parallelism=PARALLELISM, retry=RETRY)
            self.mesh = Mesh(resources, workers=1 + self._starts % 2, folder=self._folder)
            await asyncio.to_thread(self.mesh.start)
        mesh = self.mesh
        await asyncio.to_thread(lambda: mesh.wait_for(lambda: workers_ready(mesh, but=self._killed), limit_s=20.0))
        senders.port = int(mesh.ingress.rpartition(":")[2])

    async def _kill(self, kind: str) -> None:
        assert self.mesh is not None
        process = self.mesh.process
        assert process is not None
        self.kills[kind] += 1
        if kind == "worker":
            self._killed = self.chance.choice(self.mesh.worker_pids())
            os.kill(self._killed, signal.SIGKILL)
            return
        if kind == "parent":
            process.kill()
            await asyncio.to_thread(process.wait, 10)
        else:
            await asyncio.to_thread(self.mesh.kill_group)
        self.mesh = None

    def _judge(self, sink: Sink, rounds: int) -> Report:
        ordered = {each for each, path in self.ledger.paths.items() if path == "/default/in-order"}
        wants = {
            "/all": lambda each: each not in ordered,
            "/half": lambda each: each not in ordered and each % 2 == 0,
            "/flaky": lambda each: each not in ordered,
            "/ordered": lambda each: each in ordered,
        }
        subscriptions = {
            path: Subscription(
                wants=wanted,
                deliveries=sink.seen(path).deliveries,
                attempts=sink.seen(path).attempts,
                first_seen=sink.seen(path).first_seen,
                most_attempts=RETRY + 1,
                lane=self.ledger.lanes.get if path == "/ordered" else None,
            )
            for path, wanted in wants.items()
        }
        return judge(
            seed=self.seed,
            rounds=rounds,
            attempted=self.ledger.attempted,
            acknowledged=self.ledger.acknowledged,
            subscriptions=subscriptions,
        )

    def _end(self) -> None:
        if self.mesh is not None:
            with suppress(AssertionError):
                self.mesh.stop()


def metric(text: str, name: str) -> float:
    """The sum of a metric over its labels; 0 where there is none."""
    found = re.findall(rf"^{name}(?:{{[^\n]*}})? ([0-9.e+-]+)$", text, re.MULTILINE)
    return sum(float(each) for each in found)


def workers_ready(mesh: Mesh, *, but: int = 0) -> bool:
    """Every worker process is there and takes events. but: a process that was killed; the parent may not know it yet."""
    try:
        workers = mesh.get("/readyz?verbose")["workers"].values()
    except (OSError, KeyError):
        return False
    return all(worker["ready"] and worker["pid"] != but for worker in workers)


def is_idle(mesh: Mesh) -> bool:
    """All workers are up and no event waits for anything."""
    text = mesh.text("/metrics")
    is_up = metric(text, "knit_workers_ready") == metric(text, "knit_workers")
    return is_up and "knit_backlog_events{" in text and metric(text, "knit_backlog_events") == 0


def results(outcome: Outcome, before: str) -> str:
    """The page that `make kill` writes: a row for each run. before: the page as it was."""
    rows = [line for line in before.splitlines() if line.startswith("| 20")]
    kills = ", ".join(f"{count} × {kind}" for kind, count in sorted(outcome.kills.items()))
    others = ", ".join(f"{count} × {status}" for status, count in sorted(outcome.statuses.items())) or "none"
    return f"""# kill -9

`make kill` adds a row to this page (`python -m tests.chaos.kill --help`). Two brokers on the log channel, one worker and two in
turn; triggers for all events, for half of them by filter, for a subscriber that fails every first attempt, and one in order.
At a random moment a worker, the parent or all of them are killed, under load. Counted per subscription.

{table(*rows, outcome.report.row())}

- lost: answered 202 and not delivered. unexpected: delivered without having been sent, or past a filter.
- duplicated: delivered again; at most {duplicates_per_kill()} a kill can be under way. recovered: delivered though the sender never read its answer.
- overtaken: by a later event of the same sender, in the ordered trigger. most attempts: retry is {RETRY}, so {RETRY + 1} are allowed.

The last run: {kills}; answers other than 202: {others}; problems: {"; ".join(outcome.problems) or "none"}.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument("--check-every", type=int, default=10, help="rounds between two reckonings")
    parser.add_argument("--rate", type=float, default=600.0, help="events sent in a second")
    parser.add_argument("--report", type=Path, help="Markdown page to add a row to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop = KillLoop(
            rounds=options.rounds,
            seed=options.seed,
            check_every=options.check_every,
            per_s=options.rate,
            folder=Path(folder),
        )
        outcome = asyncio.run(loop.run())
        if outcome.problems and loop.mesh is not None:
            print(loop.mesh.output.read_text()[-3000:])
    print(table(outcome.report.row()))
    print("\n".join(outcome.problems) or "every promise held")
    if options.report is not None:
        before = options.report.read_text() if options.report.exists() else ""
        options.report.write_text(results(outcome, before))
    return bool(outcome.problems)


if __name__ == "__main__":
    sys.exit(main())
