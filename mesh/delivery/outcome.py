"""How one attempt at a delivery can end. Pure values; `mesh/http/client.py` makes them, `decide` judges them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """The target answered.

    headers: names in lower case, as sent; empty for a 2xx answer without a body and without a `ce-` header (the fast path
        keeps none). Any other answer keeps them: a 503 without a body may still say `retry-after`.
    body: at most the sender's limit. cut: the body was longer than that, or broke off; what came first is kept.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No complete answer. kind: `refused`, `resolve`, `tls`, `timeout`, `reset`, `garbage`; `why` is for people."""

    kind: str
    why: str


Outcome = Answer | Unreachable
