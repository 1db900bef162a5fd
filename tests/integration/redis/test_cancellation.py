"""A call to Redis ends when its task is cancelled, at whatever moment."""

from __future__ import annotations

import asyncio

import pytest

from libs.redis.client import Client, execute


@pytest.mark.parametrize("moment", range(30))
async def test_cancelled_at_any_moment(redis: Client, moment: int) -> None:
    """A loop of calls stops at the first cancellation, whichever step of a call it meets."""

    async def loop() -> None:
        while True:
            await execute(redis, "PING")

    task = asyncio.create_task(loop())
    for _ in range(moment):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, "the cancellation got lost"
    assert task.cancelled()
