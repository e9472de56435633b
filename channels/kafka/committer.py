"""Storing positions: for each subscription in its own group, without being a member of it.

One round at a time; what changes meanwhile is the next round. Before a position is stored it is read: where it is not what
we stored last, an operator or another process has moved it, and ours gives way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from channels.kafka.cursor import Cursor, Group, Part
from channels.kafka.wire import RefusedError, TakenError, Wire
from mesh.errors import NotConnectedError

_LAZY_S = 5.0
"""Positions of subscriptions that want nothing of what passes are stored this often."""
_AGAIN_S = 0.5


class Committer:
    """Of one topic. moved: called with a cursor whose stored position is another one now, and that one.

    taken: called with a group that has members.
    """

    def __init__(
        self,
        wire: Wire,
        topic: str,
        *,
        period_s: float,
        moved: Callable[[Cursor, tuple[int, str]], None],
        taken: Callable[[Group, str], None],
        report: Callable[[str], None],
    ) -> None:
        self._wire = wire
        self._topic = topic
        self._period_s = period_s
        self._moved = moved
        self._taken = taken
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._dirty: dict[Cursor, None] = {}
        self._lazy: dict[Part, None] = {}
        self._lazy_timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._lock = asyncio.Lock()

    def add(self, cursor: Cursor, *, urgent: bool) -> None:
        self._dirty[cursor] = None
        self._wake.set()
        if urgent:
            self._urgent.set()

    def add_lazily(self, part: Part) -> None:
        """Reading went on there, for everybody who is near the head."""
        self._lazy[part] = None
        if self._lazy_timer is None:
            self._lazy_timer = self._loop.call_later(_LAZY_S, self._ripe)

    def _ripe(self) -> None:
        self._lazy_timer = None
        self._take_lazy()
        self._wake.set()

    def _take_lazy(self) -> None:
        for part in self._lazy:
            self._dirty |= dict.fromkeys(part.cursors.values())
        self._lazy.clear()

    def close(self) -> None:
        if self._lazy_timer is not None:
            self._lazy_timer.cancel()
        self._take_lazy()

    @property
    def is_idle(self) -> bool:
        return not self._dirty and not self._lock.locked()

    async def run(self) -> None:
        """Store what changed, until cancelled; at most a fifth of the time goes into it."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._urgent.clear()
            begun = self._loop.time()
            pause = self._period_s
            try:
                await self.flush()
            except NotConnectedError as exc:
                self._report(str(exc))
                self._wake.set()
                await asyncio.sleep(_AGAIN_S)
                continue
            pause = max(pause, 4 * (self._loop.time() - begun))
            try:
                async with asyncio.timeout(pause):
                    await self._urgent.wait()
            except TimeoutError:
                pass

    async def flush(self) -> None:
        """Store everything that changed so far. Raises NotConnectedError; nothing is forgotten then."""
        async with self._lock:
            dirty, self._dirty = self._dirty, {}
            groups: dict[Group, list[Cursor]] = {}
            for cursor in dirty:
                if not cursor.closed and not cursor.suspended:
                    groups.setdefault(cursor.group, []).append(cursor)
            results = await asyncio.gather(
                *[self._store(group, cursors) for group, cursors in groups.items()], return_exceptions=True
            )
            failed: BaseException | None = None
            for (_, cursors), result in zip(groups.items(), results, strict=True):
                if isinstance(result, BaseException):
                    failed = result
                    for cursor in cursors:
                        self._dirty[cursor] = None
            if failed is not None:
                raise failed

    async def _store(self, group: Group, cursors: list[Cursor]) -> None:
        now = await self._wire.positions(group.id, self._topic, [cursor.partition for cursor in cursors])
        storing: dict[int, tuple[int, str]] = {}
        versions: dict[int, int] = {}
        written: list[Cursor] = []
        for cursor in cursors:
            if cursor.closed or cursor.suspended:
                continue
            found = now.get(cursor.partition)
            # None: the group was deleted, and goes on where it was; a new topic of the same name is noticed by the reader.
            if found is not None and found != cursor.committed:
                self._moved(cursor, found)
                continue
            made = cursor.to_store()
            versions[cursor.partition] = cursor.tracker.version
            if made != found:
                storing[cursor.partition] = made
                written.append(cursor)
            else:
                cursor.stored(made, versions[cursor.partition])
        if not storing:
            return
        try:
            await self._wire.commit(group.id, self._topic, storing)
        except TakenError as exc:
            self._taken(group, str(exc))
            return
        except RefusedError as exc:
            raise NotConnectedError(str(exc)) from exc
        for cursor in written:
            if not cursor.closed:
                cursor.stored(storing[cursor.partition], versions[cursor.partition])
