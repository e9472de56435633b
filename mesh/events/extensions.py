"""Names of the attributes and headers Knative and Knit read or set. Pure. Knative: eventing data plane, extension attributes."""

from __future__ import annotations

TTL = "knativebrokerttl"
ARRIVAL_TIME = "knativearrivaltime"
ERROR_DEST = "knativeerrordest"
ERROR_CODE = "knativeerrorcode"
ERROR_DATA = "knativeerrordata"
PARTITION_KEY = "partitionkey"
TRACEPARENT = "traceparent"

DEFAULT_TTL = 255
"""Hops through brokers an event may make where it says nothing itself."""

PASSED_HEADERS = frozenset({b"x-request-id", b"retry-after", b"traceparent", b"tracestate", b"baggage"})
"""Request headers that travel with an event, beside those that begin with one of PASSED_PREFIXES. Everything else is dropped."""
PASSED_PREFIXES = (b"knative-", b"x-b3-")
