"""Settings of the process, in small groups. Read once, in `mesh/cli`; each part is handed its own group."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The ingress listener and the sender. Environment KNIT_HTTP_*."""

    max_event_bytes: int = 1_048_576
    """Larger events get 413. Kafka's default message limit is the reason for 1 MiB (plus room for headers there)."""
    max_header_bytes: int = 65_536
    """All header lines of one request together; more gets 431."""
    max_headers: int = 256
    """Header lines of one request; more gets 431."""
    header_timeout_s: float = 10.0
    """From the first byte of a request to the end of its headers; then 408 and close."""
    body_timeout_s: float = 60.0
    """From the end of the headers to the end of the body; then 408 and close."""
    idle_timeout_s: float = 120.0
    """A kept-alive connection without a request is closed after this."""
    max_connections: int = 10_000
    """Per worker; further ones are answered 503 and closed."""
    request_timeout_s: float = 600.0
    """One attempt at a subscriber, where `delivery.timeout` says nothing. Knative's Kafka dispatcher has 600 s."""
    connect_timeout_s: float = 10.0
    """Opening a connection to a subscriber."""
    max_reply_bytes: int = 1_048_576 + 65_536
    """A subscriber's answer beyond this is cut: the connection is closed, the reply is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The embedded log. Environment KNIT_LOG_*."""

    max_bytes: int = 8 * 1024**3
    """Size of one worker's store; at the bound a publish is answered 429. Sparse: costs no disk until it is used."""
    max_retrying: int = 10_000
    """Events of one subscription that wait for a retry at a time; at the bound it reads no further until some are settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """The in-memory channel. Environment KNIT_MEMORY_*."""

    max_bytes: int = 256 * 1024**2
    """Bytes of events that wait in one worker; at the bound a publish is answered 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """Redis Streams. Environment KNIT_REDIS_*."""

    address: str = "redis://127.0.0.1:6379"
    """Where a RedisStreamChannel is kept that names no address."""
    connect_timeout_s: float = 5.0
    """Making a connection, log-in included."""
    answer_timeout_s: float = 5.0
    """Without an answer for so long the connection is given up, and who waits for it is refused."""
    beat_s: float = 2.0
    """How often each process shows that it lives, and looks at how much waits."""
    dead_s: float = 10.0
    """Not heard of for so long, a process counts as dead, and others take over what it had in hand."""
    max_pending_bytes: int = 64 * 1024**2
    """Bytes of events that wait to be sent to one Redis; at the bound a publish is answered 429."""
    max_retrying: int = 10_000
    """Events of one subscription that wait for a retry in one process; at the bound it reads no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Kafka brokers, channels and sinks. Environment KNIT_KAFKA_*."""

    publish_timeout_s: float = 5.0
    """A publish that Kafka did not store by then is answered 503. While Kafka is gone the answer comes sooner."""
    max_bytes: int = 64 * 1024**2
    """Bytes of events that wait in one worker to be stored in one topic; at the bound a publish is answered 429."""
    commit_period_s: float = 0.1
    """Positions are stored this often at most; what was settled since is delivered again after a crash."""
    session_timeout_s: float = 6.0
    """A worker that died is noticed after this, and its partitions go to others. The broker's lower limit is 6 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The process as a whole. Environment KNIT_RUN_*."""

    drain_s: float = 20.0
    """Shutdown waits this long for deliveries in hand; must stay below a pod's grace period (30 s)."""
    admin_host: str = "127.0.0.1"
    """Address of the admin API. It has no log-in: another address than loopback shows everything to whoever reaches it."""
    parallelism: int = 100
    """Requests in flight per Trigger or Subscription, where no annotation says otherwise; shared by the workers."""
    story_events: int = 16_384
    """How many recent happenings each worker remembers for `knit story`."""
    max_event_types: int = 100
    """Event types that get their own metric label; the rest is counted under `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    http: HttpSettings = field(default_factory=HttpSettings)
    log: LogSettings = field(default_factory=LogSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    run: RunSettings = field(default_factory=RunSettings)
