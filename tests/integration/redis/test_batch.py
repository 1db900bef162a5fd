"""Calls in batches: fewer exchanges, and each call with its own reply or error."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import NotFoundError, UnavailableError
from libs.redis import client
from libs.redis.batch import Batches
from libs.redis.client import Client
from libs.redis.functions import Functions


async def test_each_call_gets_its_own_reply(redis: Client):
    batches = Batches(redis)
    replies = await asyncio.gather(*(batches.execute("INCR", "number") for _ in range(100)))
    assert sorted(replies) == list(range(1, 101))


async def test_the_error_of_one_call_is_not_the_others(functions: Functions):
    good, bad, other = await asyncio.gather(
        functions.batched("voltage_version", None),
        functions.batched("channel_get", 1001),
        functions.batched("voltage_version", None),
        return_exceptions=True,
    )
    assert good == other
    assert isinstance(bad, NotFoundError)


async def test_calls_of_one_caller_stay_in_order(redis: Client):
    batches = Batches(redis)

    async def caller(name: str) -> None:
        for number in range(50):
            await batches.execute("RPUSH", name, number)

    await asyncio.gather(*(caller(f"list{number}") for number in range(8)))
    for number in range(8):
        found = await client.execute(redis, "LRANGE", f"list{number}", 0, -1)
        assert [int(item) for item in found] == list(range(50))


async def test_a_lost_connection_is_said_to_every_caller_and_the_next_call_works(redis: Client):
    batches = Batches(redis)
    outcomes = await asyncio.gather(
        batches.execute("INCR", "number"),
        batches.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"),
        batches.execute("INCR", "number"),
        return_exceptions=True,
    )
    assert any(isinstance(outcome, UnavailableError) for outcome in outcomes)
    assert int(await batches.execute("INCR", "other")) == 1


async def test_a_caller_that_is_gone_holds_nobody_up(redis: Client):
    batches = Batches(redis)
    tasks = [asyncio.create_task(batches.execute("INCR", "number")) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[2], asyncio.CancelledError)
    assert all(isinstance(outcome, int) for place, outcome in enumerate(outcomes) if place != 2)


async def test_an_unreachable_server_is_unavailable():
    away = client.connect("redis://127.0.0.1:1")
    with pytest.raises(UnavailableError):
        await Batches(away).execute("PING")
    await away.aclose()
