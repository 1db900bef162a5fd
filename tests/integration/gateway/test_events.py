"""`/api/stream`: the live stream as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson

from libs.http import Role
from tests.integration.gateway.support import PATIENCE_S, Channel, Gateway


async def next_event(answer: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    """Return the next event that is more than a sign of life."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            name = (await answer.content.readline()).decode().removeprefix("event: ").strip()
            data = orjson.loads((await answer.content.readline()).removeprefix(b"data: "))
            assert await answer.content.readline() == b"\n"
            assert data["op"] == name
            assert data["now_ms"] > 0
            if name != "tick":
                return name, data


async def until(answer: aiohttp.ClientResponse, wanted: str) -> dict[str, Any]:
    """Return the next event of a name; a gateway that has only begun says `stale` before its first snapshot."""
    while (event := await next_event(answer))[0] != wanted:
        pass
    return event[1]


def bearer(gateway: Gateway, ttl_s: int = 60) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.token(Role.VIEWER, ttl_s=ttl_s)}"}


async def test_a_snapshot_then_deltas(gateway: Gateway, channel: Channel) -> None:
    number = await channel.send({"1": 23.5, "2": 4})
    path = "/api/stream?ref=comsrv:1001:T:*&interval_ms=50"
    async with gateway.http.get(path, headers=bearer(gateway)) as answer:
        assert answer.content_type == "text/event-stream"
        snapshot = await until(answer, "snapshot")
        assert snapshot["seq"] == number
        assert snapshot["points"]["comsrv:1001:T:1"][:2] == [23.5, "good"]
        await channel.send({"2": 5})
        while "points" not in (event := await next_event(answer))[1]:
            pass
        assert event[0] == "delta"
        assert event[1]["points"]["comsrv:1001:T:2"][:2] == [5, "good"]


async def test_it_ends_with_the_token_and_says_so(gateway: Gateway, channel: Channel) -> None:
    await channel.send({"1": 1})
    async with gateway.http.get("/api/stream?ref=alarms", headers=bearer(gateway, ttl_s=3)) as answer:
        assert "expired" in (await until(answer, "end"))["reason"]
        assert await answer.content.read() == b""


async def test_what_is_wrong_is_said_before_it_begins(gateway: Gateway) -> None:
    assert (await gateway.call("GET", "/api/stream?ref=alarms", role=None))[0] == 401
    for query, path in (("", "ref"), ("?ref=alarms&interval_ms=1", "interval_ms"), ("?ref=alarms&refs=x", "refs")):
        status, problem = await gateway.call("GET", f"/api/stream{query}")
        assert (status, problem["code"]) == (422, "INVALID")
        assert path in str(problem["errors"])
    status, problem = await gateway.call("GET", "/api/stream?ref=nothing")
    assert (status, problem["code"]) == (422, "INVALID")
    assert "'nothing' can't be subscribed" in problem["detail"]
