"""What is said of a Redis: how durable an answered event is, and what is wrong with a connection. Pure."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from socket import gaierror

_HINTS = {
    "WRONGPASS": "user or password is wrong: see the Secret's keys user and password",
    "NOAUTH": "this Redis wants a password: name a Secret in spec.auth.secret.ref.name",
    "NOPERM": "the ACL user needs: +@stream +@hash +@sortedset +@set +@transaction +@scripting +@connection, ~knit:* and &knit:*",
    "ERR AUTH": "this Redis has no password set: leave spec.auth out",
    "ERR DB": "there is no such database: see the number behind the last / of the address",
    "ERR unknown command": "Redis 6 or newer is needed",
    "LOADING": "it is reading its files and will answer soon",
}


def durability(facts: Mapping[str, str], *, wait_replicas: int) -> tuple[str, str]:
    """(reason, message): what the settings that were found mean for an event that was answered 202."""
    if not facts:
        return "DurabilityUnknown", "this user may not ask for appendfsync: how durable an event is cannot be told"
    policy = facts.get("maxmemory-policy", "noeviction")
    if policy.startswith("allkeys"):
        return (
            "EvictsEvents",
            f"maxmemory-policy {policy}: Redis throws events away when its memory is full; set noeviction",
        )
    copies = f"; answered when {wait_replicas} replicas have it too" if wait_replicas else ""
    if facts.get("appendonly") != "yes":
        return "NotDurable", f"appendonly no: what waits is lost when Redis ends{copies}"
    match facts.get("appendfsync"):
        case "always":
            return "Durable", f"appendfsync always: what was answered is on disk{copies}"
        case "everysec":
            lost = "what was answered in the last two seconds can be lost with the machine"
            return "DurableWithinSeconds", f"appendfsync everysec: {lost}{copies}"
        case other:
            return "NotFlushed", f"appendfsync {other}: what was answered can be lost with the machine{copies}"


def explain(exc: BaseException, *, timeout_s: float) -> str:
    """Why connecting failed, in one line, with what to do about it."""
    text = str(exc) or type(exc).__name__
    if isinstance(exc, TimeoutError):
        return f"no answer in {timeout_s:g} s (is the address right, and no firewall between?)"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: {exc.verify_message} (the Secret's ca.crt must have signed it, for the host in the address)"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {text} (is TLS spoken on this port? redis:// is without, rediss:// with it)"
    if isinstance(exc, gaierror):
        return f"the name cannot be resolved: {exc.strerror or text}"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused (is Redis running there?)"
    hint = next((hint for word, hint in _HINTS.items() if text.startswith(word)), "")
    return f"{text} ({hint})" if hint else text
