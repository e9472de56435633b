"""What a subscription finds in Redis when it begins, comes back, or when another process died: ordinary coroutines.

XAUTOCLAIM would take by idle time, and a slow subscriber's delivery is idle too. So a process shows that it lives, and what
a dead one left is taken as a whole, by its name, in one step that only one of several survivors can make.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from channels.redis_streams.keys import GROUP, Row, decode_row
from channels.redis_streams.lane import CommandError, Lane
from channels.redis_streams.subscription import Subscription

_PAGE = 500
_TAKE = """
local entries = {}
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 500, ARGV[3])) do
  entries[#entries + 1] = pending[1]
end
if #entries == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[3])
  return entries
end
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}
for _, entry in ipairs(entries) do claim[#claim + 1] = entry end
claim[#claim + 1] = 'JUSTID'
redis.call(unpack(claim))
return entries
"""
_HOLD = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


async def make_group(lane: Lane, subscription: Subscription, listed: str) -> None:
    """The stream holds only what is not settled, so a group that is made anew begins with the first entry.

    Both are said before anything is waited for: who forgets the subscription meanwhile says so after them.
    """
    made = lane.call("XGROUP", "CREATE", subscription.stream, GROUP, "0", "MKSTREAM")
    await lane.call("SADD", listed, subscription.key)
    try:
        await made
    except CommandError as exc:
        if not str(exc).startswith("BUSYGROUP"):
            raise


async def hold(lane: Lane, owner: str, consumer: str, *, dead_s: float) -> bool:
    """Be, or stay, the only reader; for `dead_s` seconds from now."""
    return bool(await lane.call("EVAL", _HOLD, 1, owner, consumer, int(dead_s * 1000)))


async def recover(lane: Lane, subscription: Subscription, consumer: str, *, fresh: bool) -> None:
    """Find what stands under our name. fresh: it was a former life of this process that had it."""
    found: set[bytes] = set()
    after = "-"
    while True:
        page = await lane.call("XPENDING", subscription.stream, GROUP, after, "+", _PAGE, consumer)
        entries = [bytes(entry) for entry, *_ in page]
        found.update(entries)
        await _adopt(lane, subscription, entries, fresh=fresh)
        if len(entries) < _PAGE:
            break
        after = f"({entries[-1].decode()}"
    for entry in [entry for entry in subscription.waiting if entry not in found]:
        # Another process took us for dead: it is its now.
        del subscription.waiting[entry]


async def take_over(lane: Lane, subscription: Subscription, consumer: str, *, dead: str) -> int:
    """Take all that another process had in hand. Returns how much that was."""
    taken = 0
    while entries := await lane.call("EVAL", _TAKE, 1, subscription.stream, GROUP, consumer, dead):
        await _adopt(lane, subscription, entries, fresh=True)
        taken += len(entries)
    return taken


async def other_readers(lane: Lane, subscription: Subscription, consumer: str) -> list[str]:
    """Who else ever read this stream."""
    names: list[str] = []
    with suppress(CommandError):
        for row in await lane.call("XINFO", "CONSUMERS", subscription.stream, GROUP):
            facts = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=False))
            names.append(facts[b"name"].decode())
    return [name for name in names if name != consumer]


async def _adopt(lane: Lane, subscription: Subscription, entries: Sequence[bytes], *, fresh: bool) -> None:
    unknown = [entry for entry in entries if not subscription.knows(entry)]
    if not unknown:
        return
    rows = await lane.call("HMGET", subscription.rows, *unknown)
    for entry, row, interrupted in _judged(unknown, rows, fresh=fresh):
        if not subscription.knows(entry):
            subscription.adopt(entry, row, interrupted=interrupted)


def _judged(
    entries: Sequence[bytes], rows: Sequence[bytes | None], *, fresh: bool
) -> Iterable[tuple[bytes, Row, bool]]:
    """Entry, the row of the attempt to make now, and whether the one before was interrupted.

    Without a row it was read for its first attempt. Where this process itself read it and never heard the answer
    (`fresh` False), that attempt was not made.
    """
    for entry, raw in zip(entries, rows, strict=True):
        try:
            row = decode_row(raw) if raw is not None else Row(1, flying=True)
        except ValueError:
            row = Row(1, flying=True)
        if not row.flying:
            yield entry, row, False
        else:
            yield entry, Row(row.attempt + fresh, 0, row.note), fresh
