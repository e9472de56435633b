"""One cluster as the rest of this package sees it: plain requests, answers as plain values, errors as ours.

All goes through one AIOKafkaClient. Fetches that wait for records have connections of their own, one for each topic, since
a broker answers the requests of a connection one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from channels.kafka.link import Link
from mesh.errors import KnitError, NotConnectedError

EARLIEST, LATEST = -2, -1
UNKNOWN_TOPIC, OUT_OF_RANGE, UNKNOWN_MEMBER = 3, 1, 25
_TOPIC_EXISTS, _GROUP_NOT_FOUND, _NON_EMPTY_GROUP = 36, 69, 68
_COORDINATOR_MOVED = frozenset({14, 15, 16})
_FETCH_BYTES = 50 * 1024**2


class RefusedError(KnitError):
    """The cluster answers, and says no. code: Kafka's error code."""

    def __init__(self, what: str, code: int) -> None:
        self.code = code
        error = for_code(code)
        super().__init__(f"{what}: {error.__name__} ({getattr(error, 'description', '') or code})")


class TakenError(RefusedError):
    """The group has members: somebody else serves this subscription."""


class Record:
    """A record as it was read. timestamp_ms: when it was written, milliseconds since 1970."""

    __slots__ = ("headers", "offset", "timestamp_ms", "value")

    def __init__(
        self, offset: int, timestamp_ms: int, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.value = value
        self.headers = headers


class Fetched:
    """What a fetch brought of one partition. end: the offset after the last record there is; next: where to read on."""

    __slots__ = ("code", "data", "end", "partition", "start")

    def __init__(self, partition: int, code: int, end: int, *, start: int, data: bytes) -> None:
        self.partition = partition
        self.code = code
        self.end = end
        self.start = start
        self.data = data

    def records(self) -> tuple[list[Record], int]:
        """The records from `start` on, and the offset to read on from."""
        found: list[Record] = []
        following = self.start
        batches = MemoryRecords(self.data)
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.is_control_batch:
                for record in batch:
                    if record.offset >= self.start:
                        found.append(Record(record.offset, record.timestamp or 0, record.value, record.headers))
                        following = record.offset + 1
            following = max(following, batch.next_offset)
        return found, following


class Wire:
    """Opened by `connect`. Every call has the limit `limit_s` and raises NotConnectedError where the cluster is gone."""

    def __init__(self, link: Link, *, client_id: str, limit_s: float) -> None:
        self.link = link
        self._client_id = client_id
        self._limit_s = limit_s
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._coordinators: dict[str, int] = {}

    async def connect(self) -> None:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connected()

    async def _connected(self) -> Any:  # noqa: ANN401  # aiokafka is untyped
        client = AIOKafkaClient(
            **self.link.arguments(),
            client_id=self._client_id,
            request_timeout_ms=int(self._limit_s * 1000),
            metadata_max_age_ms=30_000,
        )
        is_connected = False
        try:
            async with asyncio.timeout(self._limit_s * 2):
                await client.bootstrap()
            is_connected = True
        except (KafkaError, OSError, TimeoutError, ValueError) as exc:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap} is not reached: {_told(exc)}") from exc
        finally:
            if not is_connected:
                await client.close()
        return client

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def send(self, node: object, request: object, *, group: object = ConnectionGroup.DEFAULT) -> Any:  # noqa: ANN401
        if self._client is None:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap} is not connected")
        try:
            async with asyncio.timeout(self._limit_s + 1):
                return await self._client.send(node, request, group=group)
        except (KafkaError, OSError, TimeoutError) as exc:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap}: {_told(exc)}") from exc

    # Topics.

    async def refresh(self) -> None:
        """Ask who leads what."""
        if self._client is None:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap} is not connected")
        try:
            async with asyncio.timeout(self._limit_s):
                known = await self._client.force_metadata_update()
        except (KafkaError, OSError, TimeoutError) as exc:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap}: {_told(exc)}") from exc
        if not known:
            raise NotConnectedError(f"no broker of {self.link.bootstrap} answers")

    def follow(self, topic: str) -> None:
        """Keep the leaders of a topic known."""
        if self._client is not None:
            self._client.add_topic(topic)

    def partitions(self, topic: str) -> list[int]:
        """The partitions that are known now, in order; empty: the topic is not there, or not known yet."""
        found = self._client.cluster.partitions_for_topic(topic) if self._client is not None else None
        return sorted(found or ())

    def leader(self, topic: str, partition: int) -> int | None:
        if self._client is None:
            return None
        node = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        return None if node is None or node == -1 else int(node)

    def by_leader(self, topic: str, partitions: Sequence[int]) -> dict[int, list[int]]:
        """Partitions by the node that leads them; raises NotConnectedError where one has no leader."""
        found: dict[int, list[int]] = {}
        for partition in partitions:
            node = self.leader(topic, partition)
            if node is None:
                raise NotConnectedError(f"partition {partition} of topic {topic} has no leader")
            found.setdefault(node, []).append(partition)
        return found

    async def create_topic(self, topic: str, *, partitions: int, replicas: int, config: Mapping[str, str]) -> None:
        """Raises RefusedError where the cluster does not want it; one that is there already is fine."""
        request = CreateTopicsRequest(
            [(topic, partitions, replicas, [], list(config.items()))],
            int(self._limit_s * 1000),
            False,  # noqa: FBT003
        )
        answer = await self._to_controller(request)
        code = answer.topic_errors[0][1]
        if code not in (0, _TOPIC_EXISTS):
            raise RefusedError(f"topic {topic} cannot be made", code)

    async def delete_topic(self, topic: str) -> None:
        """One that is not there is fine."""
        answer = await self._to_controller(DeleteTopicsRequest([topic], int(self._limit_s * 1000)))
        code = answer.topic_error_codes[0][1]
        if code not in (0, UNKNOWN_TOPIC):
            raise RefusedError(f"topic {topic} cannot be deleted", code)

    async def _to_controller(self, request: object) -> Any:  # noqa: ANN401
        await self.refresh()
        controller = self._client.cluster.controller if self._client is not None else None
        if controller is None:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap} has no controller")
        return await self.send(controller.nodeId, request)

    async def offsets(self, topic: str, partitions: Sequence[int], *, which: int) -> dict[int, int]:
        """The first (EARLIEST) or next (LATEST) offset of each partition."""
        found: dict[int, int] = {}
        for node, led in self.by_leader(topic, partitions).items():
            request = OffsetRequest(-1, 0, [(topic, [(partition, which) for partition in led])])
            answer = await self.send(node, request)
            for _, rows in answer.topics:
                for partition, code, *rest in rows:
                    if code:
                        await self.refresh()
                        raise NotConnectedError(f"topic {topic}, partition {partition}: {for_code(code).__name__}")
                    found[partition] = rest[1]
        return found

    # Groups.

    async def _coordinator(self, group: str) -> int:
        node = self._coordinators.get(group)
        if node is not None:
            return node
        if self._client is None:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap} is not connected")
        try:
            async with asyncio.timeout(self._limit_s):
                node = int(await self._client.coordinator_lookup(CoordinationType.GROUP, group))
        except (KafkaError, OSError, TimeoutError, AssertionError) as exc:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap}: no coordinator: {_told(exc)}") from exc
        self._coordinators[group] = node
        return node

    def _check(self, what: str, group: str, code: int) -> None:
        if code in _COORDINATOR_MOVED:
            self._coordinators.pop(group, None)
            raise NotConnectedError(f"{what}: {for_code(code).__name__}")
        if code == UNKNOWN_MEMBER:
            raise TakenError(what, code)
        if code and for_code(code).retriable:
            raise NotConnectedError(f"{what}: {for_code(code).__name__}")
        if code:
            raise RefusedError(what, code)

    async def _to_coordinator(self, group: str, request: object) -> Any:  # noqa: ANN401
        node = await self._coordinator(group)
        try:
            return await self.send(node, request, group=ConnectionGroup.COORDINATION)
        except NotConnectedError:
            self._coordinators.pop(group, None)
            raise

    async def positions(
        self, group: str, topic: str, partitions: Sequence[int] | None = None
    ) -> dict[int, tuple[int, str]]:
        """Offset and metadata of what the group committed; without `partitions` of all that it did."""
        wanted = None if partitions is None else [(topic, list(partitions))]
        answer = await self._to_coordinator(group, OffsetFetchRequest(group, wanted))
        what = f"positions of group {group} cannot be read"
        self._check(what, group, getattr(answer, "error_code", 0))
        found: dict[int, tuple[int, str]] = {}
        for name, rows in answer.topics:
            for partition, offset, text, code in (row[:4] for row in rows if name == topic):
                self._check(what, group, code)
                if offset >= 0:
                    found[partition] = offset, text or ""
        return found

    async def commit(self, group: str, topic: str, positions: Mapping[int, tuple[int, str]]) -> None:
        """Store positions without being a member.

        Raises:
            TakenError: the group has members.
        """
        rows = [(partition, offset, text) for partition, (offset, text) in positions.items()]
        answer = await self._to_coordinator(group, OffsetCommitRequest(group, -1, "", -1, [(topic, rows)]))
        for _, codes in answer.topics:
            for _, code in codes:
                self._check(f"the position of group {group} cannot be stored", group, code)

    async def delete_group(self, group: str) -> None:
        """Forget its positions. One that is not there, or that somebody else is a member of, is left alone."""
        answer = await self._to_coordinator(group, DeleteGroupsRequest([group]))
        for _, code in answer.results:
            if code not in (_GROUP_NOT_FOUND, _NON_EMPTY_GROUP):
                self._check(f"group {group} cannot be deleted", group, code)

    # Records.

    async def fetch(
        self, node: int, topic: str, starts: Mapping[int, int], *, wait_s: float, max_bytes: int, lane: object
    ) -> list[Fetched]:
        """Read from these offsets on. lane: names the connection. Waits for the first record at most `wait_s`."""
        rows = [(partition, start, max_bytes) for partition, start in starts.items()]
        request = FetchRequest(int(wait_s * 1000), 1, _FETCH_BYTES, 0, [(topic, rows)])
        answer = await self.send(node, request, group=lane)
        return list(_fetched(answer, starts))

    async def producer_id(self) -> tuple[int, int]:
        """A new id and epoch for an idempotent producer."""
        node = self._client.get_random_node() if self._client is not None else None
        if node is None:
            raise NotConnectedError(f"Kafka at {self.link.bootstrap} is not connected")
        answer = await self.send(node, InitProducerIdRequest(None, 0))
        if answer.error_code:
            raise NotConnectedError(f"no producer id: {for_code(answer.error_code).__name__}")
        return answer.producer_id, answer.producer_epoch

    async def produce(self, node: int, topic: str, batches: Mapping[int, bytes]) -> dict[int, int]:
        """Store a batch in each of these partitions, on all replicas in sync. Returns Kafka's error code for each."""
        request = ProduceRequest(None, -1, int(self._limit_s * 1000), [(topic, list(batches.items()))])
        answer = await self.send(node, request, group=("produce", topic))
        return {row[0]: row[1] for _, rows in answer.topics for row in rows}


def _fetched(answer: Any, starts: Mapping[int, int]) -> Iterator[Fetched]:  # noqa: ANN401
    for _, rows in answer.topics:
        for row in rows:
            partition = row[0]
            yield Fetched(partition, row[1], row[2], start=starts[partition], data=row[-1] or b"")


def _told(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
