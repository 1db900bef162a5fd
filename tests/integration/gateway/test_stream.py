"""The live stream over a real Redis: one snapshot, then exactly what came after it."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from libs.http import Role
from libs.http.tokens import signing_key
from libs.redis import client, library
from libs.redis.client import Client, execute
from libs.redis.functions import Functions
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.support import PATIENCE_S, Channel, Gateway
from tests.support.servers import RedisServer


async def test_a_snapshot_then_deltas(gateway: Gateway, channel: Channel) -> None:
    number = await channel.send({"1": 23.5, "2": 4}, {"2": "uncertain:test"})
    watcher = await gateway.stream("comsrv:1001:*")
    snapshot = await watcher.until("snapshot")
    assert snapshot["seq"] == number
    assert watcher.points == {"comsrv:1001:T:1": (23.5, "good"), "comsrv:1001:T:2": (4, "uncertain:test")}
    assert list(snapshot["seen"]["1001"]) == ["b1"]
    await watcher.until_number(await channel.send({"2": 5}))
    await watcher.until_number(await channel.send({}, {"1": "bad:timeout"}))
    await watcher.until_number(await channel.send({"1": 1}, kind="S"))
    assert watcher.points == {
        "comsrv:1001:T:1": (23.5, "bad:timeout"),
        "comsrv:1001:T:2": (5, "good"),
        "comsrv:1001:S:1": (1, "good"),
    }
    await watcher.close()


async def test_who_asks_for_what_can_not_be_read_is_not_left_without_a_word(gateway: Gateway, channel: Channel) -> None:
    await execute(channel.functions.client, "SET", "comsrv:1001:T", "no hash")
    watcher = await gateway.stream("comsrv:1001:*")
    async with asyncio.timeout(PATIENCE_S):
        while (message := await watcher.socket.receive()).type != aiohttp.WSMsgType.CLOSE:
            pass
    assert message.data == aiohttp.WSCloseCode.INTERNAL_ERROR


async def test_single_points_only(gateway: Gateway, channel: Channel) -> None:
    await channel.send({"1": 1, "2": 2, "3": 3})
    watcher = await gateway.stream("comsrv:1001:T:2", "comsrv:1001:T:9")
    await watcher.until("snapshot")
    await watcher.until_number(await channel.send({"1": 10, "2": 20, "9": 90}))
    assert watcher.points == {"comsrv:1001:T:2": (20, "good"), "comsrv:1001:T:9": (90, "good")}
    await watcher.close()


async def test_no_change_is_lost_or_older_between_snapshot_and_deltas(gateway: Gateway, channel: Channel) -> None:
    """Clients that join while values change end with the image, and never see a number go back."""
    rounds = 150

    async def feed() -> int:
        number = 0
        for step in range(rounds):
            number = await channel.send({str(1 + random.randrange(50)): step for _ in range(5)})
        return number

    async def watch(delay: float) -> dict[str, object]:
        await asyncio.sleep(delay)  # joins at an instant of its own; nothing is waited for
        watcher = await gateway.stream("comsrv:1001:*")
        await watcher.until("snapshot")
        while not done.is_set() or max(watcher.numbers) < last[0]:
            message = await watcher.next()
            if message["op"] == "delta" and message.get("seq"):
                assert message["seq"] > watcher.numbers[-2], "a delta repeats what was shown"
        await watcher.close()
        return {ref: value for ref, (value, _) in watcher.points.items()}

    done, last = asyncio.Event(), [0]
    watchers = [asyncio.create_task(watch(number * 0.02)) for number in range(10)]
    last[0] = await feed()
    done.set()
    stored = await execute(channel.functions.client, "HGETALL", "comsrv:1001:T")
    image = {f"comsrv:1001:T:{point.decode()}": float(value) for point, value in stored.items()}
    for seen in await asyncio.gather(*watchers):
        assert seen == image


async def test_alarms_and_commands(gateway: Gateway, functions: Functions, channel: Channel) -> None:
    alarm = {"id": "a1", "title": "Door open", "level": "Major", "source": "door"}
    await functions.call("store_alarm", "a1", alarm)
    watcher = await gateway.stream("alarms", "commands")
    snapshot = await watcher.until("snapshot")
    assert [one["id"] for one in snapshot["alarms"]] == ["a1"]
    assert snapshot["commands"] == []
    await functions.call("acknowledge_alarm", "a1", "ann")
    while watcher.alarms["a1"]["status"] != "Acknowledged":
        await watcher.next()
    command = {"type": "A", "point": 1, "value": 5, "source": {"kind": "user", "name": "ann"}}
    submitted = await functions.json("command_submit", 1001, command)
    delta = await watcher.until("delta")
    assert [(one["id"], one["state"]) for one in delta["commands"]] == [(submitted["id"], "queued")]
    await watcher.close()


async def test_many_alarms_come_whole_and_those_that_turn_meanwhile_are_right(
    gateway: Gateway, functions: Functions
) -> None:
    """More than one call reads; alarms are acknowledged, resolved and raised while clients join."""
    for number in range(150):
        await functions.call("store_alarm", f"a{number:03}", {"title": "many", "level": "Minor"})

    async def turn() -> None:
        for number in range(0, 150, 3):
            await functions.call("acknowledge_alarm", f"a{number:03}", "tester")
            await functions.call("resolve_alarm", f"a{number + 1:03}", "tester")
            await functions.call("store_alarm", f"b{number:03}", {"title": "late", "level": "Minor"})

    async def watch() -> dict[str, str]:
        watcher = await gateway.stream("alarms")
        shown = {alarm["id"]: alarm["status"] for alarm in (await watcher.until("snapshot"))["alarms"]}
        while "b147" not in shown:
            for alarm in (await watcher.next()).get("alarms", ()):
                shown[alarm["id"]] = alarm["status"]
        await watcher.close()
        # A flood of alarms raises one of its own.
        return {name: status for name, status in shown.items() if status != "Resolved" and name[1].isdigit()}

    turning = asyncio.create_task(turn())
    found = await asyncio.gather(*(watch() for _ in range(5)))
    await turning
    kept = {f"a{number:03}": "Acknowledged" if number % 3 == 0 else "New" for number in range(150) if number % 3 != 1}
    kept |= {f"b{number:03}": "New" for number in range(0, 150, 3)}
    assert [sorted(one.items() ^ kept.items()) for one in found] == [[]] * 5


async def test_a_wish_ends_with_unsubscribe(gateway: Gateway, channel: Channel) -> None:
    watcher = await gateway.stream("comsrv:1001:T:1", "comsrv:1001:T:2")
    await watcher.until("snapshot")
    await watcher.socket.send_json({"op": "unsubscribe", "refs": ["comsrv:1001:T:1"]})
    await watcher.socket.send_json({"op": "ping", "t": 7})
    assert (await watcher.until("pong"))["t"] == 7
    await watcher.until_number(await channel.send({"1": 1, "2": 2}))
    assert watcher.points == {"comsrv:1001:T:2": (2, "good")}
    await watcher.close()


@pytest.mark.parametrize(
    "text",
    ["no json", "[]", '{"op":"dance"}', '{"op":"subscribe","refs":["x"]}', '{"op":"subscribe","refs":[]}'],
)
async def test_nonsense_is_answered_and_harms_nothing(gateway: Gateway, text: str) -> None:
    watcher = await gateway.stream()
    await watcher.socket.send_str(text)
    assert (await watcher.until("error"))["code"] == "INVALID"
    await watcher.socket.send_json({"op": "ping"})
    await watcher.until("pong")
    await watcher.close()


async def test_a_token_is_needed_and_never_taken_from_the_address(gateway: Gateway) -> None:
    token = gateway.token(Role.VIEWER)
    status, _ = await gateway.call("GET", f"/ws?token={token}", role=None)
    assert status == 401
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await gateway.http.ws_connect("/ws", headers={"Authorization": "Bearer nonsense"})
    for first in ({"op": "ping"}, {"op": "auth", "token": "nonsense"}):
        socket = await gateway.http.ws_connect(f"/ws?token={token}")
        await socket.send_json(first)
        message = await socket.receive(10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4401)
        await socket.close()


async def test_the_subprotocol_may_bring_the_token(gateway: Gateway) -> None:
    socket = await gateway.http.ws_connect("/ws", protocols=[f"bearer.{gateway.token(Role.VIEWER)}"])
    assert (await socket.receive_json())["op"] == "welcome"
    await socket.close()


async def test_a_stream_ends_with_its_token_unless_a_newer_one_comes(gateway: Gateway) -> None:
    short = await gateway.stream(token=gateway.token(Role.VIEWER, ttl_s=2))
    prolonged = await gateway.stream(token=gateway.token(Role.VIEWER, ttl_s=2))
    await prolonged.socket.send_json({"op": "auth", "token": gateway.token(Role.VIEWER)})
    async for _ in short.socket:
        pass
    assert short.socket.close_code == 4401
    await prolonged.until("tick")
    await prolonged.close()


async def test_a_slow_client_gets_the_newest_values(gateway: Gateway, channel: Channel) -> None:
    """A client that stops reading costs one sample a point, and then sees the present."""
    watcher = await gateway.stream("comsrv:1001:*", interval_ms=1500)
    await watcher.until("snapshot")
    number = 0
    for step in range(300):
        number = await channel.send({str(point): step for point in range(1, 51)})
    await watcher.until_number(number)
    deltas = [message for message in watcher.messages if message["op"] == "delta" and "points" in message]
    assert len(deltas) < 10
    assert set(watcher.points.values()) == {(299, "good")}
    await watcher.close()


async def test_redis_lost_and_back_is_said_and_ends_in_a_fresh_snapshot(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="voltage-") as folder:
        server = RedisServer("valkey", Path(folder), "--appendonly", "yes")
        settings = GatewaySettings.model_validate({"data_dir": tmp_path, "redis": {"url": server.url}})
        redis = client.connect(server.url)
        await library.load(redis)
        channel = Channel(Functions(redis))
        await channel.claim()
        await channel.send({"1": 1})
        async with TestClient(TestServer(create_app(settings))) as http:
            watcher = await Gateway(http, signing_key(settings)).stream("comsrv:1001:*")
            await watcher.until("snapshot")
            server.kill()
            assert "away" in (await watcher.until("stale"))["reason"]
            server.start()
            await watcher.until("snapshot")
            await channel.claim()
            await watcher.until_number(await channel.send({"1": 2}))
            assert watcher.points["comsrv:1001:T:1"] == (2, "good")
            await watcher.close()
        await redis.aclose()
        server.stop()


async def test_a_namespace_sees_its_own_points_only(redis_server: RedisServer, redis: Client, tmp_path: Path) -> None:
    plant, other = Channel(Functions(redis, "plant7")), Channel(Functions(redis))
    await plant.claim()
    await other.claim()
    await plant.send({"1": 7})
    settings = GatewaySettings.model_validate(
        {"data_dir": tmp_path, "redis": {"url": redis_server.url}, "namespace": "plant7"}
    )
    async with TestClient(TestServer(create_app(settings))) as http:
        watcher = await Gateway(http, signing_key(settings)).stream("comsrv:1001:*", "alarms", "commands", "rules")
        await watcher.until("snapshot")
        await other.send({"1": 1})
        await watcher.until_number(await plant.send({"2": 8}))
        assert watcher.points == {"comsrv:1001:T:1": (7, "good"), "comsrv:1001:T:2": (8, "good")}
        await watcher.close()
