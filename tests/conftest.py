"""What holds for all tests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture(scope="session", autouse=True)
def default_loop() -> Iterator[None]:
    """Own the main thread's default event loop.

    Until Python 3.14, asking for it makes one where none was ever set; pytest-asyncio asks before its first test and drops it
    afterwards, and the warning of a loop that was never closed then fails whichever test runs when it is collected.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
