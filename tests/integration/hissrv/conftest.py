"""A real InfluxDB for the store's tests, and the running service."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from libs.http.tokens import signing_key
from libs.redis.functions import Functions
from services.hissrv.app import create_app
from services.hissrv.settings import HissrvSettings
from tests.integration.hissrv.support import Api
from tests.support.influx import InfluxServer
from tests.support.servers import RedisServer
from tests.support.wait import wait_until


@pytest.fixture(scope="session")
def influx_server() -> Iterator[InfluxServer]:
    """Give Debian's InfluxDB, empty."""
    with tempfile.TemporaryDirectory(prefix="voltage-influx-") as folder:
        server = InfluxServer(Path(folder))
        yield server
        server.stop()


@pytest.fixture
async def api(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Api]:
    """Give the running service."""
    settings = HissrvSettings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "config_dir": tmp_path / "config",
            "redis": {"url": redis_server.url},
            "consumer": {"linger_ms": 10},
        }
    )
    async with TestClient(TestServer(create_app(settings))) as http:

        async def ready() -> bool:
            async with http.get("/health") as answer:
                return answer.status == 200

        await wait_until(ready, "the service is ready")
        yield Api(http, signing_key(settings))
