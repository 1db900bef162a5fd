"""Fixtures of all tests: a server of each kind a worker, flushed before each test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from libs.redis import client, library
from libs.redis.client import Client
from libs.redis.functions import Functions
from tests.support.servers import BINARIES, RedisServer


@pytest.fixture(scope="session", params=sorted(BINARIES))
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Start Redis 7.0.15 and Valkey 9.1 in turn; every test of functions runs on both."""
    with tempfile.TemporaryDirectory(prefix="voltage-") as folder:
        server = RedisServer(request.param, Path(folder))
        yield server
        server.stop()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Client]:
    """Give a client of an empty server with the library loaded."""
    connection = client.connect(redis_server.url)
    # Loading leaves the schema's number behind: the server is emptied after it.
    if await library.version(connection) is None:
        await library.load(connection)
    await client.execute(connection, "FLUSHALL")
    yield connection
    await connection.aclose()


@pytest.fixture
def functions(redis: Client) -> Functions:
    """Give the functions of an empty server, without a namespace."""
    return Functions(redis)
