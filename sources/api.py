"""What a source is: start here to add one.

A source turns something that happens into events and hands each to `emit`. Write `sources/NAME.py` with a class that satisfies
`Source`, add one line to `sources/registry.py`, and one to `tests/contract/test_source.py`, which is the promise as tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mesh.errors import KnitError
from mesh.events.event import Event


class NotTakenError(KnitError):
    """The sink did not take the event within the emitter's limits. It has been reported already."""


Emit = Callable[[Event], Awaitable[None]]
"""Returns when the sink took the event. Raises NotTakenError when that is given up."""


class Source(Protocol):
    """Something that makes events."""

    async def run(self, emit: Emit) -> None:
        """Make events until cancelled. Cancelled means: make no more, bring out what is under way within a limit, end.

        An exception is a bug or a lost backend: the runner starts the source again after a pause.
        """


Post = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]
"""POST to a URL with these headers and this body, follow no redirect, return the status. Raises OSError (TimeoutError is one)
or NotConnectedError where there is no answer. What it is made of is the business of the program that passes it in."""


@dataclass(frozen=True, slots=True)
class Emission:
    """What became of one event of a source, for log, metric and story.

    source: the SourceSpec's key. delivered False: the sink never took it, and `why` says what it answered last.
    """

    source: str
    event: Event
    delivered: bool
    attempts: int
    why: str = ""


Report = Callable[[Emission], None]
"""Called once for each event handed to an emitter. Must not raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitLimits:
    """What bounds an emitter and what is under way."""

    request_s: float = 60.0
    """One attempt. Long, because a synchronous in-memory channel answers only after its subscribers did."""
    retry_s: float = 60.0
    """After the first retries, which upstream makes too, further ones are begun until this long after the first attempt."""
    under_way: int = 100
    """Events of one source that wait for their sink at a time; beyond that the oldest is given up, and reported."""
    drain_s: float = 5.0
    """A source that is stopped waits this long for what is under way."""
