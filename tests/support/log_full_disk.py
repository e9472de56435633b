"""A log whose file may not grow past a size (RLIMIT_FSIZE), then may; run in a process of its own by test_log_faults.

Prints one JSON line: how many were accepted before, the refusal, how many afterwards, and what did not arrive.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from channels.api import SubscriptionSpec
from tests.support.channels import TOPIC, Harness, Settling, event


async def main(folder: Path) -> dict[str, object]:
    harness = Harness("log", folder)
    channel = await harness.open()
    reader = Settling()
    channel.subscribe(TOPIC, SubscriptionSpec("a"), reader)
    channel.unsubscribe(TOPIC, "a", forget=False)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024**2, hard))
    accepted: list[str] = []

    async def publish(ident: str) -> str:
        refusal = await harness.publish(event(ident, body=b"x" * 20_000))
        if refusal is None:
            accepted.append(ident)
        return refusal.kind if refusal else ""

    n, kind = 0, ""
    while not kind and n < 1000:
        n += 1
        kind = await publish(str(n))
    before = len(accepted)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while await publish(f"after-{n}") and n < 3000:
        n += 1
        await asyncio.sleep(0.01)
    channel.subscribe(TOPIC, SubscriptionSpec("a"), reader)
    await harness.barrier()
    await reader.take(len(accepted))
    await harness.close()
    lost = set(accepted) - {delivery.event.id for delivery in reader.seen}
    words = [what for what, _ in harness.troubles]
    return {"before": before, "kind": kind, "after": len(accepted) - before, "lost": sorted(lost), "troubles": words}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
