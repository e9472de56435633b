"""The event that goes to a dead-letter sink: the one first sent, with what went wrong in three attributes. Pure.

Knative's `knativeerrordest`, `knativeerrorcode`, `knativeerrordata`.
"""

from __future__ import annotations

import re
from base64 import b64encode

from mesh.delivery.outcome import Answer, Outcome
from mesh.events.event import Event, encode_block

DESTINATION = "knativeerrordest"
CODE = "knativeerrorcode"
DATA = "knativeerrordata"
MAX_BODY_BYTES = 768
"""Kept of an error body. Base64 makes exactly the 1024 characters of it that Knative allows. It has to be cut before it is
encoded: upstream encodes all of it into 1024 bytes and dies of a longer body."""
NO_ANSWER = 500
"""The code where there was no answer, as Knative's Go dispatcher reports it."""

_CREDENTIALS = re.compile(r"^(https?://)[^/?#]*@", re.IGNORECASE)


def failure_of(outcome: Outcome) -> tuple[int, bytes]:
    """Return code and error body of a failed attempt, in the words of Knative's dispatcher where there was no answer."""
    if isinstance(outcome, Answer):
        return outcome.status, outcome.body
    return NO_ANSWER, f"dispatch error: {outcome.why or outcome.kind}".encode()


def dead_letter_event(event: Event, *, destination: str, code: int, body: bytes) -> Event:
    """Return `event` with the error attributes; all else of it stays as it is.

    destination: the URL that failed, the subscriber's or the reply's; credentials in it are left out, because a
    dead-letter sink need not be trusted with them. code: the last status, 0 for no answer. body: what was answered; of an
    empty one there is no attribute.
    """
    extra = {DESTINATION: _CREDENTIALS.sub(r"\1", destination), CODE: str(code or NO_ANSWER)}
    if body:
        extra[DATA] = b64encode(body[:MAX_BODY_BYTES]).decode("ascii")
    elif DATA in event.attributes:
        # Left by an earlier failure, elsewhere: beside the new code it would mislead.
        event = _without(event, DATA)
    return event.with_attributes(extra)


def _without(event: Event, name: str) -> Event:
    kept = {key: value for key, value in event.attributes.items() if key != name}
    return Event(encode_block(kept), event.body, passed=event.passed, ttl=event.ttl, attributes=kept)
