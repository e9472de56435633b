"""An event as text for people, in the form of Knative's event_display. Pure."""

from __future__ import annotations

import contextlib
import json

from mesh.events.event import Event
from mesh.events.jsonformat import is_json

_CONTEXT = ("specversion", "type", "source", "subject", "id", "time", "dataschema", "datacontenttype")
_MAX_DATA_BYTES = 65_536


def event_text(event: Event) -> str:
    """Attributes, extensions and data, one a line. Control characters are spelt out: an event must not drive a terminal."""
    attributes = event.attributes
    lines = ["☁️  cloudevents.Event", "Context Attributes,"]
    lines += [f"  {name}: {visible(attributes[name])}" for name in _CONTEXT if name in attributes]
    extensions = sorted(name for name in attributes if name not in _CONTEXT)
    if extensions:
        lines.append("Extensions,")
        lines += [f"  {name}: {visible(attributes[name])}" for name in extensions]
    if event.body:
        lines.append("Data,")
        lines += [f"  {line}" for line in _data_text(event).splitlines()]
    return "\n".join(lines)


def visible(text: str) -> str:
    """The text with every control character spelt out, line ends too."""
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)


def _data_text(event: Event) -> str:
    body = event.body
    if len(body) > _MAX_DATA_BYTES:
        return _data_text(Event(event.block, body[:_MAX_DATA_BYTES])) + f"\n… {len(body)} bytes in all"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"{len(body)} bytes that are no text, beginning with {body[:16].hex(' ')}"
    if is_json(event.attributes.get("datacontenttype", "")):
        with contextlib.suppress(ValueError, RecursionError):  # then it is shown as it came
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return "\n".join(visible(line) for line in text.splitlines())
