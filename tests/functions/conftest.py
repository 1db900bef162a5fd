"""After every test of functions the keyspace is audited."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.redis.client import Client
from tests.support.audit import strangers


@pytest.fixture(autouse=True)
async def audited(redis: Client) -> AsyncIterator[None]:
    """Fail a test that leaves a key libs/redis/keys.py does not name, or one of another type."""
    yield
    assert await strangers(redis) == []
