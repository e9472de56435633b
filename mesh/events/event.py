"""The CloudEvent as it travels through Knit: immutable, in HTTP binary form, decoded only when asked. Pure.

An event keeps the header lines it came with (`block`), so that passing it on costs a slice, not a join, and its
data as bytes. CloudEvents 1.0 and 0.3, HTTP binding section 3.1 (binary content mode).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote

from mesh.events.extensions import ARRIVAL_TIME, DEFAULT_TTL

CONTENT_TYPE = b"content-type"
_SAFE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def encode_value(text: str) -> str:
    """Percent-encode an attribute value for an HTTP header (HTTP binding 3.1.3.2): only 0x21-0x7E without `"` and `%` stay."""
    return quote(text, safe=_SAFE)


def decode_value(raw: bytes) -> str:
    """Decode a header value to text: percent-encoded and raw UTF-8 are both understood; a stray byte stays as U+FFFD."""
    text = raw.decode("utf-8", "replace")
    return unquote(text, errors="replace") if "%" in text else text


class Event:
    """One CloudEvent. Never changed after it is made; share it freely between triggers.

    block: header lines `ce-NAME: VALUE\\r\\n` for every context attribute, and `content-type: …\\r\\n` where there is one,
        each ended by CRLF, names in any case, as they came; without `ce-knativebrokerttl`, which is `ttl`.
    passed: other header lines that travel with the event (x-request-id, traceparent, knative-*, x-b3-*, …), same form.
    body: the data, as it came.
    ttl: hops left for brokers (`knativebrokerttl`), or -1 where the event carries none.
    """

    __slots__ = ("_attributes", "block", "body", "passed", "ttl")

    def __init__(
        self,
        block: bytes,
        body: bytes,
        *,
        passed: bytes = b"",
        ttl: int = -1,
        attributes: dict[str, str] | None = None,
    ) -> None:
        self.block = block
        self.body = body
        self.passed = passed
        self.ttl = ttl
        self._attributes = attributes

    @property
    def attributes(self) -> Mapping[str, str]:
        """All context attributes by lower-case name, decoded; the content type is `datacontenttype`. No ttl."""
        if self._attributes is None:
            self._attributes = _decode_block(self.block)
        return self._attributes

    @property
    def id(self) -> str:
        return self.attributes.get("id", "")

    @property
    def source(self) -> str:
        return self.attributes.get("source", "")

    @property
    def type(self) -> str:
        return self.attributes.get("type", "")

    def arrive(self, arrival: str) -> None:
        """A broker takes it, at this time (RFC 3339), with all its hops before it: the one change ever made to an event, by
        the ingress that has just read it and before anybody else has it. It carries neither attribute yet."""
        self.block += b"ce-knativearrivaltime: %b\r\n" % arrival.encode()
        self.ttl = DEFAULT_TTL
        if self._attributes is not None:
            self._attributes[ARRIVAL_TIME] = arrival

    def with_attributes(self, extra: Mapping[str, str]) -> Event:
        """A copy with these attributes set or replaced (values as text; they are percent-encoded here)."""
        merged = {**self.attributes, **extra}
        return Event(encode_block(merged), self.body, passed=self.passed, ttl=self.ttl, attributes=merged)

    def __repr__(self) -> str:
        return f"Event(id={self.id!r}, source={self.source!r}, type={self.type!r}, {len(self.body)} B)"


def encode_block(attributes: Mapping[str, str]) -> bytes:
    """Header lines for these attributes, in the form of `Event.block`."""
    lines = [
        f"content-type: {value}\r\n" if name == "datacontenttype" else f"ce-{name}: {encode_value(value)}\r\n"
        for name, value in attributes.items()
    ]
    return "".join(lines).encode("utf-8", "replace")


def _decode_block(block: bytes) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for line in block.split(b"\r\n"):
        header, colon, value = line.partition(b": ")
        if not colon:
            continue
        name = header.lower()
        if name.startswith(b"ce-"):
            attributes[name[3:].decode()] = decode_value(value)
        elif name == CONTENT_TYPE:
            attributes["datacontenttype"] = value.decode("utf-8", "replace")
    return attributes
