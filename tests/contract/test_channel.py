"""The contract suite on every backend of this project, and on the example of docs/write-a-channel.md."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.contract.suite import *  # noqa: F403  # the tests themselves
from tests.support.channels import Harness

BACKENDS = ["memory", "log", "redis", "kafka"]
DURABLE = ["log", "redis", "kafka"]


async def made(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[Harness]:
    backend: str = request.param
    bootstrap = request.getfixturevalue("kafka").bootstrap if backend == "kafka" else ""
    harness = Harness(backend, folder, bootstrap=bootstrap)
    await harness.open()
    yield harness
    await harness.close()


@pytest.fixture(params=BACKENDS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    async for each in made(request, tmp_path):
        yield each


@pytest.fixture(params=DURABLE)
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    async for each in made(request, tmp_path):
        yield each
