"""Servers as pytest fixtures: one of each for a whole run, started when the first test asks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.kafka import Kafka, UnavailableError


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One node, for `make test-kafka`: it fetches 44 MB and starts a JVM. Fails where Kafka cannot be had and CI is set."""
    if os.environ.get("TEST_KAFKA") != "1":
        pytest.skip("Kafka was not asked for: make test-kafka")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            server = Kafka(Path(folder)).__enter__()
        except UnavailableError as exc:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no Kafka: {exc}")
            pytest.skip(f"no Kafka: {exc}")
        try:
            yield server
        finally:
            server.__exit__()
