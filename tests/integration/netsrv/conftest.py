"""A broker, a channel that is polled, the running service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.redis.functions import Functions
from services.netsrv.app import create_app
from tests.integration.hissrv.support import Channel
from tests.integration.netsrv.support import settings_of
from tests.support.brokers import Broker, Subscriber
from tests.support.servers import RedisServer, free_port
from tests.support.service import Service, running


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker."""
    made = Broker(tmp_path / "broker", free_port())
    made.start()
    yield made
    made.kill()


@pytest.fixture
async def channel(functions: Functions) -> Channel:
    """Give a claimed channel."""
    made = Channel(functions)
    await made.claim()
    return made


@pytest.fixture
async def netsrv(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Service]:
    """Give the running service."""
    async with running(create_app, settings_of(redis_server, tmp_path)) as service:
        yield service


@pytest.fixture
async def heard(broker: Broker) -> AsyncIterator[Subscriber]:
    """Give a subscriber of everything."""
    subscriber = Subscriber(broker, "#")
    try:
        await subscriber.start()
        yield subscriber
    finally:
        await subscriber.stop()
