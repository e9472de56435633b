"""One process per core on one port: starting workers, talking to them, and starting them again when they die.

A worker that dies is started again after a pause that doubles from 0.1 s to 10 s and begins anew once it has lived for
30 s. What it had accepted is in its own store, which the new one opens: its share goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mesh.runtime.clock import Clock
from mesh.runtime.pipe import Pipe

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_GOOD_LIFE_S = 30.0
_ANSWER_S = 5.0

Message = dict[str, Any]


def spawn(module: str, index: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start `python -m MODULE FD INDEX` with one end of a socket pair. Ctrl-C reaches the whole group: only the parent heeds it."""
    ours, theirs = socket.socketpair()
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited by the child from its first moment on
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), str(index)],
            pass_fds=[theirs.fileno()],
        )
    signal.signal(signal.SIGINT, heeded)
    return process, ours


class Worker:
    """One of the pool. `hello` is what it is told first; `ready` is set once it said so."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: Pipe | None = None
        self.ready = asyncio.Event()
        self.restarts = 0
        self.facts: Message = {}

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0


class WorkerPool:
    """All workers. `greet(index)` makes the first message to a worker; `on_message(worker, message)` takes what it says unasked."""

    def __init__(
        self,
        module: str,
        count: int,
        *,
        clock: Clock,
        greet: Callable[[int], Message],
        on_message: Callable[[Worker, Message], None],
        on_death: Callable[[Worker, int], None],
    ) -> None:
        self._module = module
        self._clock = clock
        self._greet = greet
        self._on_message = on_message
        self._on_death = on_death
        self.workers = [Worker(index) for index in range(count)]
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._stopping = False

    async def run(self, started: Sequence[tuple[subprocess.Popen[bytes], socket.socket]] = ()) -> None:
        """Keep all workers alive until cancelled. `started` are processes that `spawn` made already, one per worker."""
        async with asyncio.TaskGroup() as group:
            for worker, first in zip(self.workers, [*started, *[None] * len(self.workers)], strict=False):
                group.create_task(self._keep(worker, first))

    async def _keep(self, worker: Worker, first: tuple[subprocess.Popen[bytes], socket.socket] | None) -> None:
        pause = _FIRST_PAUSE_S
        while not self._stopping:
            worker.process, sock = first if first is not None else spawn(self._module, worker.index)
            first = None
            born = self._clock.monotonic()
            worker.pipe = await Pipe.open(sock)
            worker.pipe.send(self._greet(worker.index))
            await self._listen(worker, worker.pipe)
            worker.ready.clear()
            worker.pipe.close()
            code = await asyncio.to_thread(worker.process.wait)
            if self._stopping:
                return
            worker.restarts += 1
            self._on_death(worker, code)
            pause = (
                _FIRST_PAUSE_S if self._clock.monotonic() - born > _GOOD_LIFE_S else min(pause * 2, _LONGEST_PAUSE_S)
            )
            await asyncio.sleep(pause)

    async def _listen(self, worker: Worker, pipe: Pipe) -> None:
        while (message := await pipe.receive()) is not None:
            if message["op"] == "answer":
                future = self._questions.pop(message["id"], None)
                if future is not None and not future.done():
                    future.set_result(message["value"])
            else:
                self._on_message(worker, message)

    def tell(self, message: Message) -> None:
        """Say something to every worker that is there."""
        for worker in self.workers:
            if worker.pipe is not None:
                worker.pipe.send(message)

    async def ask(self, what: str, **arguments: object) -> Mapping[int, Any]:
        """Ask every ready worker; those that do not answer within 5 s, or die, are left out."""
        asked: dict[int, asyncio.Future[Any]] = {}
        for worker in self.workers:
            if worker.pipe is None or not worker.ready.is_set():
                continue
            self._asked += 1
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._questions[self._asked] = asked[worker.index] = future
            worker.pipe.send({"op": "ask", "id": self._asked, "what": what, "arguments": arguments})
        if asked:
            await asyncio.wait(asked.values(), timeout=_ANSWER_S)
        return {index: future.result() for index, future in asked.items() if future.done()}

    async def stop(self, *, drain_s: float) -> None:
        """Ask all to drain, wait, then end those that did not."""
        self._stopping = True
        self.tell({"op": "drain"})
        processes = [worker.process for worker in self.workers if worker.process is not None]
        waits = [asyncio.to_thread(_wait, process, drain_s + 2) for process in processes]
        await asyncio.gather(*waits)
        self.kill()

    def kill(self) -> None:
        """End what is left at once."""
        self._stopping = True
        for worker in self.workers:
            if worker.process is not None and worker.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.send_signal(signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(limit_s)
