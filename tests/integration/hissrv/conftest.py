"""A real InfluxDB for the store's tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.influx import InfluxServer


@pytest.fixture(scope="session")
def influx_server() -> Iterator[InfluxServer]:
    """Give Debian's InfluxDB, empty."""
    with tempfile.TemporaryDirectory(prefix="voltage-influx-") as folder:
        server = InfluxServer(Path(folder))
        yield server
        server.stop()
