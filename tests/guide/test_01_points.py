"""Page 1: everything that is a value is a point."""

from __future__ import annotations

from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.guide.conftest import Poller


async def test_a_point_is_a_field_of_a_hash(functions: Functions, poller: Poller) -> None:
    """A poller sends what changed, and `HGETALL comsrv:1001:T` shows it: text with six decimals."""
    await poller.send({"1": "23.456789", "2": "80.000000"})
    assert await execute(functions.client, "HGETALL", "comsrv:1001:T") == {b"1": b"23.456789", b"2": b"80.000000"}


async def test_quality_stands_beside_the_value(functions: Functions, poller: Poller) -> None:
    """A device that does not answer does not erase what it said: the value stays, and is marked."""
    await poller.send({"1": "23.456789"})
    await poller.send({}, {"1": "bad:timeout"})
    assert await execute(functions.client, "HGET", "comsrv:1001:T", "1") == b"23.456789"
    assert await execute(functions.client, "HGET", "comsrv:1001:T:q", "1") == b"bad:timeout"
    await poller.send({"1": "24.000000"})
    assert await execute(functions.client, "HGET", "comsrv:1001:T:q", "1") is None


async def test_a_model_gives_points_a_name(functions: Functions, poller: Poller) -> None:
    """Who reads `battery` needs no channel and no point number; both change in the same call."""
    mapping = {"channel": 1001, "data": {"active_power": 1, "state_of_charge": 2}, "action": {"set_power": "A:1"}}
    await functions.call("model_upsert", "battery", {"name": "Battery", "mapping": mapping})
    await poller.send({"1": "12.500000"})
    assert await execute(functions.client, "HGET", "modsrv:battery:measurement", "active_power") == b"12.500000"


async def test_the_same_block_twice_is_one_block(poller: Poller) -> None:
    """A poller that lost the reply sends again: (epoch, sequence) says that it is the same block."""
    first = await poller.send({"1": "1.000000"})
    poller.sequence -= 1
    again = await poller.send({"1": "1.000000"})
    assert (first["repeat"], again["repeat"]) == (False, True)
