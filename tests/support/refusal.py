"""A call that is refused changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.errors import VoltageError
from libs.redis.functions import Functions
from tests.support.site import keyspace


@asynccontextmanager
async def refused(functions: Functions, error: type[VoltageError], text: str = "") -> AsyncIterator[None]:
    """Expect an error whose message has `text`, and the whole keyspace as it was."""
    before = await keyspace(functions)
    with pytest.raises(error) as caught:
        yield
    assert text in str(caught.value)
    assert await keyspace(functions) == before
