"""The contract suite for channel backends, to be run on one's own: docs/write-a-channel.md. Needs pytest and pytest-asyncio."""

import pytest

pytest.register_assert_rewrite("channels.contract.suite")

from channels.contract.harness import Harness  # noqa: E402  # assertions are rewritten when the suite is imported

__all__ = ["Harness"]
