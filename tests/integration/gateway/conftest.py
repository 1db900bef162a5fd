"""A running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from libs.http.tokens import signing_key
from libs.redis.functions import Functions
from libs.services import SERVICES
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.support import Channel, Gateway, device
from tests.support.servers import RedisServer, free_port


@pytest.fixture
async def settings(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[GatewaySettings]:
    """Give settings with comsrv behind the gateway, and every other service away."""
    async with TestServer(device()) as server:
        away = {"url": f"http://127.0.0.1:{free_port()}"}
        services = {service.name: away for service in SERVICES if service.name != "gateway"}
        services["comsrv"] = {"url": f"http://127.0.0.1:{server.port}"}
        yield GatewaySettings.model_validate(
            {"data_dir": tmp_path, "redis": {"url": redis_server.url}, "services": services}
        )


@pytest.fixture
async def gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """Give the gateway, running."""
    async with TestClient(TestServer(create_app(settings))) as http:
        yield Gateway(http, signing_key(settings))


@pytest.fixture
async def channel(functions: Functions) -> Channel:
    """Give a claimed channel."""
    made = Channel(functions)
    await made.claim()
    return made
