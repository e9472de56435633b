"""The documents say what the code says: settings, metrics, annotations, kinds, commands."""

from __future__ import annotations

import re

from mesh.cli.environment import names
from mesh.cli.main import COMMANDS
from mesh.resources.annotations import KNOWN
from mesh.resources.kinds import SERVED
from mesh.telemetry.metrics import MeshFacts, render
from mesh.telemetry.snapshot import MetricsSnapshot
from tests.house import settings_table
from tests.house.pages import ROOT

OPERATIONS = settings_table.PAGE.read_text(encoding="utf-8")


def test_the_table_of_settings_is_up_to_date() -> None:
    made = settings_table.page_with_table(OPERATIONS)
    assert made == OPERATIONS, "run `python -m tests.house.settings_table`"


def test_every_variable_that_is_read_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `(KNIT_[A-Z_]+)`", settings_table.table(), re.MULTILINE)) == set(names())


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    counted = MetricsSnapshot(gauges={"open_connections": 1.0, "story_events": 1.0})
    page = render([counted], MeshFacts(now_ns=0), accept="text/plain")
    exported = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    documented = set(re.findall(r"`((?:knit|kn|mt|inmemorychannel)_[a-z_]+)`", OPERATIONS))
    assert documented == exported


def test_every_annotation_of_ours_is_documented() -> None:
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z.]+knit\.dev/[a-z0-9-]+)`", page, re.MULTILINE)) == set(KNOWN)


def test_the_readme_names_every_kind_that_is_served() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Which Knative")[2]
    assert {kind for _, kind in SERVED} <= set(re.findall(r"\w+", table.partition("\n\n|")[2].partition("\n\n")[0]))


def test_the_documents_name_every_command() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")])
    assert set(COMMANDS) - {"version"} <= set(re.findall(r"\bknit ([a-z]+)", pages))
