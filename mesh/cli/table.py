"""Kinds as users name them, and their columns as `kubectl get` shows them. Pure. Eventing reference §0, printer columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any

Object = Mapping[str, Any]
Column = tuple[str, Callable[[Object, datetime], str]]
EVENTING, MESSAGING, KNIT, FLOWS, SOURCES = (
    "eventing.knative.dev",
    "messaging.knative.dev",
    "messaging.knit.dev",
    "flows.knative.dev",
    "sources.knative.dev",
)


def _at(item: object, *path: str) -> str:
    for step in path:
        item = item.get(step, {}) if isinstance(item, dict) else {}
    return str(item) if item not in ({}, None) else ""


def _ready(item: Object) -> Mapping[str, str]:
    conditions = item.get("status", {}).get("conditions", [])
    found: Mapping[str, str] = next((condition for condition in conditions if condition["type"] == "Ready"), {})
    return found


def age(since: str, now: datetime) -> str:
    """As kubectl writes it: 5s, 3m12s, 45m, 7h, 3d; "" where there is no time."""
    try:
        seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    except (ValueError, TypeError):
        return ""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    return f"{hours}h" if days < 2 else f"{days}d"


def _class(item: Object, _now: datetime) -> str:
    return _at(item, "metadata", "annotations", "eventing.knative.dev/broker.class") or "MTChannelBasedBroker"


def _message(item: Object, _now: datetime) -> str:
    """Why it is not ready; else that a newer version of its file is not valid."""
    conditions = item.get("status", {}).get("conditions", [])
    held = next(
        (c.get("message", "") for c in conditions if c["type"] == "LatestFileValid" and c["status"] == "False"), ""
    )
    return _ready(item).get("message", "") or held


def _destination(value: object) -> str:
    """A Destination as it was written, in few words: `Service other/x/path` or the URI; "" for none."""
    uri, kind, name = _at(value, "uri"), _at(value, "ref", "kind"), _at(value, "ref", "name")
    if not kind:
        return uri
    space = _at(value, "ref", "namespace")
    path = f"/{uri.removeprefix('/')}" if uri else ""
    return f"{kind} {space}{'/' if space else ''}{name}{path}"


def _mark(status: object) -> str:
    """What follows a part that is not ready."""
    return "" if _at(status, "ready", "status") in ("True", "") else " (not ready)"


def _field(item: object, *path: str) -> Any:  # noqa: ANN401  # what a user wrote there may be anything
    for step in path:
        item = item.get(step) if isinstance(item, Mapping) else None
    return item


def _parts(item: Object, field: str, statuses: str) -> list[tuple[Any, Any]]:
    """Each step or branch with what the status says of it, None where it says nothing."""
    parts, found = _field(item, "spec", field), _field(item, "status", statuses) or []
    return list(zip_longest(parts, found[: len(parts)])) if isinstance(parts, list) else []


def _steps(item: Object, _now: datetime) -> str:
    """`Service a → http://b/ (not ready) → reply Broker default`."""
    parts = _parts(item, "steps", "subscriptionStatuses")
    words = [_destination(step) + _mark(status) for step, status in parts]
    reply = _destination(_field(item, "spec", "reply"))
    return " → ".join([*words, *([f"reply {reply}"] if reply else [])])


def _branches(item: Object, _now: datetime) -> str:
    """`Service filter ⇒ Service a → reply Broker default; Service b`."""
    common = _destination(_field(item, "spec", "reply"))
    words = []
    for branch, status in _parts(item, "branches", "branchStatuses"):
        gate = _destination(_field(branch, "filter"))
        if gate:
            gate += _mark(_field(status, "filterSubscriptionStatus")) + " ⇒ "
        own = _destination(_field(branch, "subscriber")) + _mark(_field(status, "subscriberSubscriptionStatus"))
        reply = _destination(_field(branch, "reply")) or common
        words.append(gate + own + (f" → reply {reply}" if reply else ""))
    return "; ".join(words)


def _service_url(item: Object, _now: datetime) -> str:
    builtin = _at(item, "metadata", "annotations", "run.knit.dev/builtin")
    return _at(item, "metadata", "annotations", "run.knit.dev/url") or (f"built in: {builtin}" if builtin else "")


NAME: Column = ("NAME", lambda item, _: _at(item, "metadata", "name"))
NAMESPACE: Column = ("NAMESPACE", lambda item, _: _at(item, "metadata", "namespace"))
_URL: Column = ("URL", lambda item, _: _at(item, "status", "address", "url"))
_AGE: Column = ("AGE", lambda item, now: age(_at(item, "metadata", "creationTimestamp"), now))
_READY: Column = ("READY", lambda item, _: _ready(item).get("status", ""))
_REASON: Column = ("REASON", lambda item, _: _ready(item).get("reason", ""))
_STATE = (_AGE, _READY, _REASON)
_MESSAGE: Column = ("MESSAGE", _message)
_DEAD_LETTER: Column = ("DEAD_LETTER_SINK", lambda item, _: _at(item, "status", "deadLetterSinkUri"))


@dataclass(frozen=True, slots=True)
class Kind:
    """columns come after NAME; wide ones follow with `-o wide`."""

    kind: str
    group: str
    plural: str
    short: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (_AGE,)
    wide: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling that means this kind."""
        singular = self.kind.lower()
        full = (f"{self.plural}.{self.group}", f"{singular}.{self.group}") if self.group else ()
        return (singular, self.plural, *self.short, *full)

    def reference(self, item: Object) -> str:
        """`trigger.eventing.knative.dev/one`."""
        return f"{self.kind.lower()}{'.' if self.group else ''}{self.group}/{_at(item, 'metadata', 'name')}"


_ADDRESSED = (_URL, *_STATE)
KINDS = (
    Kind("Broker", EVENTING, "brokers", (), (*_ADDRESSED, ("CLASS", _class)), (_DEAD_LETTER, _MESSAGE)),
    Kind(
        "Trigger",
        EVENTING,
        "triggers",
        (),
        (
            ("BROKER", lambda item, _: _at(item, "spec", "broker") or _at(item, "spec", "brokerRef", "name")),
            ("SUBSCRIBER_URI", lambda item, _: _at(item, "status", "subscriberUri")),
            *_STATE,
        ),
        (_DEAD_LETTER, _MESSAGE),
    ),
    Kind("Channel", MESSAGING, "channels", ("ch",), _ADDRESSED, (_DEAD_LETTER, _MESSAGE)),
    Kind("InMemoryChannel", MESSAGING, "inmemorychannels", ("imc",), _ADDRESSED, (_DEAD_LETTER, _MESSAGE)),
    Kind("RedisStreamChannel", KNIT, "redisstreamchannels", ("rsc",), _ADDRESSED, (_DEAD_LETTER, _MESSAGE)),
    Kind("PluginChannel", KNIT, "pluginchannels", ("pc",), _ADDRESSED, (_DEAD_LETTER, _MESSAGE)),
    Kind("RedisStreamSink", "sinks.knative.dev", "redisstreamsinks", ("rss",), _ADDRESSED, (_MESSAGE,)),
    Kind("LogChannel", KNIT, "logchannels", ("lc",), _ADDRESSED, (_DEAD_LETTER, _MESSAGE)),
    Kind(
        "Subscription",
        MESSAGING,
        "subscriptions",
        ("sub", "subs"),
        _STATE,
        (
            ("CHANNEL", lambda item, _: _at(item, "spec", "channel", "name")),
            ("SUBSCRIBER_URI", lambda item, _: _at(item, "status", "physicalSubscription", "subscriberUri")),
            ("REPLY_URI", lambda item, _: _at(item, "status", "physicalSubscription", "replyUri")),
            _MESSAGE,
        ),
    ),
    Kind("Sequence", FLOWS, "sequences", (), _ADDRESSED, (("STEPS", _steps), _MESSAGE)),
    Kind("Parallel", FLOWS, "parallels", (), _ADDRESSED, (("BRANCHES", _branches), _MESSAGE)),
    Kind(
        "PingSource",
        SOURCES,
        "pingsources",
        (),
        (
            ("SINK", lambda item, _: _at(item, "status", "sinkUri")),
            ("SCHEDULE", lambda item, _: _at(item, "spec", "schedule") or "* * * * *"),
            *_STATE,
        ),
        (_MESSAGE,),
    ),
    Kind(
        "Service",
        "",
        "services",
        ("svc",),
        (("URL", _service_url), _AGE),
    ),
    Kind("ConfigMap", "", "configmaps", ("cm",), (("DATA", lambda item, _: str(len(item.get("data") or {}))), _AGE)),
    Kind("Namespace", "", "namespaces", ("ns",)),
)
IN_ALL = tuple(kind for kind in KINDS if kind.group)
"""What `all` means: Knative's and our kinds, in the order of an event's way."""
DEAD_LETTERS = ("deadletters", "deadletter", "dl")
SOURCES_NAMES = ("sources", "source")


def find_kinds(word: str) -> tuple[Kind, ...] | str:
    """The kinds that a word means (`trigger`, `sub`, `all`, `broker,trigger`), or the likely right word ("" for none)."""
    found: list[Kind] = []
    for part in word.lower().split(","):
        if part == "all":
            found += IN_ALL
        elif part in SOURCES_NAMES:
            found += [kind for kind in KINDS if kind.group == SOURCES]
        else:
            matches = [kind for kind in KINDS if part in kind.names]
            if not matches:
                known = [name for kind in KINDS for name in kind.names] + ["all", *DEAD_LETTERS]
                return next(iter(get_close_matches(part, known, n=1)), "")
            found += matches
    return tuple(dict.fromkeys(found))


DEAD_LETTER_COLUMNS: tuple[Column, ...] = (
    ("REF", lambda item, _: _at(item, "ref")),
    ("SUBSCRIPTION", lambda item, _: _at(item, "subscription")),
    ("TYPE", lambda item, _: _at(item, "type")),
    ("ID", lambda item, _: _at(item, "id")),
    ("CODE", lambda item, _: _at(item, "code")),
    ("ATTEMPTS", lambda item, _: _at(item, "attempts")),
    ("AGE", lambda item, now: age(_at(item, "buried"), now)),
    ("WHY", lambda item, _: _at(item, "why")),
)


def rows(items: Sequence[Object], columns: Sequence[Column], *, now: datetime) -> list[list[str]]:
    """Head and one line an item."""
    return [[name for name, _ in columns], *([value(item, now) for _, value in columns] for item in items)]


def layout(table: Sequence[Sequence[str]]) -> str:
    """Columns under each other, three spaces between, as kubectl has them; empty cells stay empty."""
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
    return "\n".join(lines)


def from_ns(now_ns: int) -> datetime:
    """The wall clock as a time in UTC."""
    return datetime.fromtimestamp(now_ns / 1e9, UTC)
