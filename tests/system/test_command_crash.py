"""A command whose sender dies: it is never sent twice, it never fires late, and the device looks after itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymodbus.client import AsyncModbusTcpClient

from services.comsrv.runner import definition
from tests.integration.comsrv.device import Device
from tests.integration.comsrv.site import meter
from tests.support.processes import Api, Site
from tests.support.wait import wait_until

Maker = Callable[..., Site]
pytestmark = pytest.mark.xdist_group("command_crash")


def writes(device: Device) -> list[tuple[int, int, int, int]]:
    return [request for request in device.requests if request[1] == 6]


async def with_meter(api: Api, device: Device) -> None:
    """Add a channel for the device and wait until it is polled."""
    document = definition(meter(device.port, polling={"interval_ms": 500}))
    body: dict[str, Any] = {name: document[name] for name in ("name", "protocol", "parameters", "polling", "points")}
    assert (await api("POST", "/api/channels", body | {"id": 2001})).status == 201

    async def polled() -> bool:
        point = await api("GET", "/api/channels/2001/points/T/1")
        return bool(point.body.get("value") == 12.3)

    await wait_until(polled, "the meter is polled", 30)


async def test_killed_between_send_and_answer(own_site: Maker):
    site, device = own_site("--without", "simulator"), Device()
    device.set_registers(0, 123, 0, 0)
    device.set_registers(10, 0)
    device.set_bits(0, False)
    await device.start()
    try:
        async with aiohttp.ClientSession() as session:
            api = Api(site, session, site.token())
            await with_meter(api, device)
            device.silent_units = {1}
            command = {"id": "crash", "type": "A", "point": 1, "value": 5, "ttl_ms": 60_000}
            assert (await api("POST", "/api/channels/2001/commands", command)).status == 202

            async def sent() -> bool:
                return len(writes(device)) == 1

            await wait_until(sent, "the write is on the wire")
            os.kill(site.pid("comsrv"), signal.SIGKILL)
            device.silent_units = set()

            async def ended() -> Any:
                answer = await api("GET", "/api/commands/crash")
                return answer.body if answer.status == 200 and answer.body["final"] else None

            found = await wait_until(ended, "the command has an outcome", 60)
            assert found["state"] == "failed"
            assert found["reason"].startswith("unknown outcome")

            async def polled_again() -> bool:
                return (await api("GET", "/api/channels/2001")).body.get("state") == "running"

            await wait_until(polled_again, "the channel runs again", 60)
            assert (await api("POST", "/api/channels/2001/commands?wait_ms=5000", command | {"id": "next"})).body[
                "state"
            ] == "verified"
            assert [request[3] for request in writes(device)] == [50, 50], "the first one was sent once"
    finally:
        await device.stop()


async def test_the_battery_falls_back_by_its_own_watchdog_when_everything_is_killed(tmp_path: Path):
    """What a site relies on when nothing of ours is left: the device's watchdog, which our heartbeat fed."""
    site = Site(tmp_path / "site")
    comsrv = site.config / "comsrv.yaml"
    entry = "  - id: 1003\n"
    text = comsrv.read_text()
    assert text.count(entry) == 1
    heartbeat = "    commands: {heartbeat: {type: A, point: 2, interval_ms: 300}}\n"
    comsrv.write_text(text.replace(entry, entry + heartbeat))
    # The simulated devices are nobody's child here: they stay when the site dies.
    simulator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "simulate", env=site.environ, cwd=site.folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.to_thread(site.start, "--without", "simulator")
        async with aiohttp.ClientSession() as session:
            api = Api(site, session, site.token())
            for point, value in ((3, 2), (1, 5)):
                body = {"type": "A", "point": point, "value": value}
                answer = await api("POST", "/api/channels/1003/commands?wait_ms=10000", body)
                assert answer.body["state"] == "verified", answer

            async def fed() -> bool:
                shown = await api("GET", "/api/channels/1003/points/T/1")
                tripped = await api("GET", "/api/channels/1003/points/S/5")
                return abs(shown.body["value"] - 5) < 0.5 and tripped.body["value"] == 0

            await wait_until(fed, "the battery runs at 5 kW", 20)
            after = time.monotonic() + 4
            while time.monotonic() < after:
                assert await fed(), "the heartbeat keeps it running past the watchdog's time"
                await asyncio.sleep(0.25)
        assert site.process is not None
        pids = [site.process.pid, *site.children().values()]
        for pid in pids:
            # The others may go with their parent.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        site.process.wait()
        async with AsyncModbusTcpClient("127.0.0.1", port=site.port_base + 22, timeout=5) as client:

            async def tripped() -> bool:
                words = await client.read_holding_registers(8, count=1)
                return bool(words.registers[0] & 1)

            await wait_until(tripped, "the watchdog tripped", 30)
    finally:
        simulator.kill()
        await simulator.wait()
        site.stop()
