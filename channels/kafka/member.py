"""Which partitions of a topic are this process's: an ordinary consumer group of ours, in which nothing is consumed.

The consumer is paused at once and never polled for records: it only keeps the membership. All reading is reader.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from channels.kafka.link import Link
from mesh.errors import NotConnectedError

_POLL_S = 60.0
_LEAVE_S = 3.0
_MAX_POLL_MS = 2**31 - 1
"""A subscriber that is slow for an hour costs no rebalance."""

Change = Callable[[set[int]], Awaitable[None]]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, consumer: AIOKafkaConsumer, assigned: Change, revoked: Change) -> None:
        self._consumer = consumer
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._revoked({each.partition for each in revoked})

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        if assigned:
            self._consumer.pause(*assigned)
        await self._assigned({each.partition for each in assigned})


async def keep_membership(
    link: Link, topic: str, group: str, *, client_id: str, session_s: float, assigned: Change, revoked: Change
) -> None:
    """Be a member until cancelled; leaving is told to the others at once.

    Raises:
        NotConnectedError: the cluster is gone.
    """
    consumer = AIOKafkaConsumer(
        **link.arguments(),
        client_id=client_id,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        session_timeout_ms=int(session_s * 1000),
        heartbeat_interval_ms=int(session_s * 300),
        max_poll_interval_ms=_MAX_POLL_MS,
        rebalance_timeout_ms=15_000,
        metadata_max_age_ms=30_000,
        request_timeout_ms=30_000,
    )
    consumer.subscribe([topic], listener=_Listener(consumer, assigned, revoked))
    try:
        await consumer.start()
        while True:
            await asyncio.sleep(_POLL_S)
            await consumer.getmany(timeout_ms=0)
    except (KafkaError, OSError) as exc:
        raise NotConnectedError(f"group {group}: {type(exc).__name__}: {exc}") from exc
    finally:
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(_LEAVE_S):
                await consumer.stop()
