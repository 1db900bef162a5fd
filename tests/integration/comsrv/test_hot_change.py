"""A change touches only what changed: one point of 10,000 over 64 connections."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from libs.points import PointKind
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.comsrv.channel import Channel
from services.comsrv.channels import Channels
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.identity import Identity
from services.comsrv.memory import settle
from services.comsrv.runner import definition
from services.comsrv.settings import ComsrvSettings
from tests.integration.comsrv.device import Device
from tests.integration.comsrv.site import Site, meter
from tests.support.wait import wait_until

CHANNELS = 64
POINTS = 157


def channel(number: int, port: int, **first: Any) -> Channel:
    """157 telemetry points in two blocks; `first` changes the first of them."""
    mapping = {"slave_id": 1, "function_code": 3, "data_type": "int16"}
    points: list[dict[str, Any]] = [
        {"id": n, "name": f"p{n}", "data_type": "float64", "mapping": {**mapping, "register_address": n}}
        for n in range(1, POINTS + 1)
    ]
    points[0] |= first
    return Channel.model_validate({
        "id": number, "name": f"device {number}", "protocol": "modbus_tcp", "polling": {"interval_ms": 200},
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 2000}, "points": {"T": points},
    })  # fmt: skip


async def image(functions: Functions, number: int) -> dict[str, dict[bytes, bytes]]:
    """Return values, instants and qualities of a channel's telemetry."""
    names = ("", ":ts", ":q")
    return {name: await execute(functions.client, "HGETALL", f"comsrv:{number}:T{name}") for name in names}


async def frozen() -> bool:
    return gc.get_freeze_count() > CHANNELS * POINTS


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert gc.get_freeze_count() == 0


async def test_one_point_of_ten_thousand(functions: Functions, tmp_path: Path):
    async with AsyncExitStack() as stack:
        devices = []
        for _ in range(CHANNELS):
            device = Device()
            device.set_registers(0, *range(POINTS + 1))
            await device.start()
            stack.push_async_callback(device.stop)
            devices.append(device)
        identity = Identity(tmp_path)
        stack.callback(identity.close)
        declared = [channel(1001 + index, device.port) for index, device in enumerate(devices)]
        settings = ComsrvSettings.model_validate({"data_dir": tmp_path})
        channels = Channels(ComsrvFunctions(functions), settings, declared, identity)
        stack.push_async_callback(channels.stop)
        await channels.start()

        async def complete() -> bool:
            found = [await image(functions, one.id) for one in declared]
            return all(len(one[""]) == POINTS and not one[":q"] for one in found)

        await wait_until(complete, "every point has a good value", 30)
        before = [await image(functions, one.id) for one in declared]

        async def polled(times: int = 2) -> None:
            """Wait until every device was polled a few times more."""
            start = [len(device.requests) for device in devices]

            async def check() -> bool:
                return all(len(device.requests) >= n + 2 * times for device, n in zip(devices, start, strict=True))

            await wait_until(check, "every device was polled", 30)

        settling = asyncio.create_task(settle(channels, look_s=0.05))
        stack.push_async_callback(ended, settling)
        await channels.replace(channel(1001, devices[0].port, scale=0.5, offset=100.0))
        await polled()
        await wait_until(frozen, "what stays is out of the search for garbage")
        after = [await image(functions, one.id) for one in declared]
        assert after[0][""].pop(b"1") == b"100.500000"
        assert before[0][""].pop(b"1") == b"1.000000"
        assert int(after[0][":ts"].pop(b"1")) > int(before[0][":ts"].pop(b"1"))
        assert after == before, "no other value, instant or quality"
        assert [device.connections for device in devices] == [1] * CHANNELS


async def test_points_come_and_go_while_the_channel_runs(site: Site):
    runner = await site.run()
    await site.becomes("T:2", "-5.000000")
    site.device.set_registers(3, 77)
    changed = meter(site.device.port).model_dump()
    new = changed["points"]["T"][1] | {"id": 3, "name": "new"}
    new["mapping"] = new["mapping"] | {"register_address": 3}
    changed["points"]["T"] = [changed["points"]["T"][0], new]
    channel_then = Channel.model_validate(changed)
    await site.redis.call("channel_upsert", 1001, definition(channel_then))
    assert await runner.change(channel_then)
    await site.becomes("T:3", "77.000000")
    await site.redis.call("channel_upsert", 1001, definition(channel_then))
    assert (await site.functions.image(1001, PointKind.TELEMETRY)).values.keys() == {"1", "3"}
    assert site.device.connections == 1
    assert (await site.command("A", 5))["state"] == "verified"


async def test_a_channel_whose_frame_changes_is_started_anew(site: Site):
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    assert not await runner.change(meter(site.device.port, polling={"interval_ms": 70}))


async def test_another_protocol_takes_over_a_running_channel_and_its_neighbour_notices_nothing(
    functions: Functions, tmp_path: Path
):
    async with AsyncExitStack() as stack:
        devices = [Device(), Device()]
        for device in devices:
            device.set_registers(0, *range(POINTS + 1))
            await device.start()
            stack.push_async_callback(device.stop)
        identity = Identity(tmp_path)
        stack.callback(identity.close)
        modbus, neighbour = (channel(1001 + index, device.port) for index, device in enumerate(devices))
        channels = Channels(
            ComsrvFunctions(functions), ComsrvSettings.model_validate({"data_dir": tmp_path}),
            [modbus, neighbour], identity,
        )  # fmt: skip
        stack.push_async_callback(channels.stop)
        await channels.start()

        async def shows(number: int, value: bytes) -> None:
            async def check() -> bool:
                found = await image(functions, number)
                return found[""].get(b"1") == value and not found[":q"]

            await wait_until(check, f"T:1 of {number} is {value!r}", 20)

        await shows(1001, b"1.000000")
        await shows(1002, b"1.000000")
        before = await image(functions, 1002)
        point = {"id": 1, "name": "p1", "data_type": "float64", "expression": "6 * 7"}
        virtual = {"id": 1001, "name": "device 1001", "protocol": "virtual", "points": {"T": [point]}}
        await channels.replace(Channel.model_validate(virtual))
        await shows(1001, b"42.000000")
        assert devices[0].open == 0, "the device is let go"
        await channels.replace(modbus)
        await shows(1001, b"1.000000")
        assert await image(functions, 1002) == before
        assert [device.connections for device in devices] == [2, 1]
