"""The contract suite for channel backends, to be run on one's own: docs/write-a-channel.md. Needs pytest and pytest-asyncio."""

from channels.contract.harness import Harness

__all__ = ["Harness"]
