"""A few rounds of the kill loop, each time the tests run; `make kill` runs two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kill import KillLoop


@pytest.mark.slow
@pytest.mark.timeout(110)
async def test_no_acknowledged_event_is_lost_to_kill_9(tmp_path: Path) -> None:
    outcome = await KillLoop(rounds=10, seed=3, check_every=5, per_s=500.0, folder=tmp_path).run()
    assert outcome.problems == []
    assert set(outcome.kills) == {"parent", "worker", "group"}
    assert outcome.report.acknowledged > 500
