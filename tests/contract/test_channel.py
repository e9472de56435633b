"""The contract suite on every backend of this project, and on the example of docs/write-a-channel.md."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.contract.suite import *  # noqa: F403  # the tests themselves
from tests.support.channels import Harness

BACKENDS = ["memory", "log", "redis"]
DURABLE = ["log", "redis"]


@pytest.fixture(params=BACKENDS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    made = Harness(request.param, tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    made = Harness(request.param, tmp_path)
    await made.open()
    yield made
    await made.close()
