"""What a filter means by the name of an attribute. Pure. Knative eventing, known names of attribute filters.

Most names are the event's own. `schemaurl` is the name that `dataschema` had in CloudEvents 0.3, and either finds the
other; `datamediatype` is `datacontenttype` without its parameters. CESQL knows the event's own names only.
"""

from __future__ import annotations

from collections.abc import Mapping

_SCHEMA = ("dataschema", "schemaurl")
DERIVED = frozenset({*_SCHEMA, "datamediatype"})
"""Names that `value_of` does not answer with a plain look into the event."""


def value_of(name: str, attributes: Mapping[str, str]) -> str | None:
    """The value a filter compares with, or None where the event has none."""
    if name not in DERIVED:
        return attributes.get(name)
    if name in _SCHEMA:
        return attributes.get("dataschema", attributes.get("schemaurl"))
    content_type = attributes.get("datacontenttype")
    return None if content_type is None else content_type.partition(";")[0].strip()
