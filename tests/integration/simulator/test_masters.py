"""Independent masters (pyModbusTCP, mbpoll) read and write the simulated devices."""

from __future__ import annotations

import asyncio
import shutil
import signal
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pyModbusTCP.client import ModbusClient

from libs.errors import UnavailableError
from services.simulator.server import Simulator
from services.simulator.settings import load_settings
from tests.support.processes import free_port_base
from tests.support.wait import wait_until

CONFIG = Path(__file__).parents[3] / "config" / "simulate.yaml"
ILLEGAL_ADDRESS, ILLEGAL_VALUE, NO_RESPONSE = 2, 3, 11


def port_base() -> int:
    """Return a base whose device ports are free: they are bound by nobody else here."""
    return free_port_base()


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Give the demo site, open; only the test steps it."""
    simulator = Simulator(load_settings(CONFIG), port_base())
    await simulator.open()
    yield simulator
    await simulator.close()


class Master:
    """pyModbusTCP in a thread, as it blocks."""

    def __init__(self, simulator: Simulator, name: str, unit_id: int = 1) -> None:
        ports = [port for port, units in simulator.units.items() if units[1].device.name == name]
        self.client = ModbusClient("127.0.0.1", ports[0], unit_id=unit_id, timeout=5)

    async def call(self, method: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(self.client, method), *arguments)


async def mbpoll(port: int, *arguments: str) -> str:
    """Run mbpoll once, counting addresses from 0."""
    binary = shutil.which("mbpoll")
    assert binary, "mbpoll is missing; install it with: apt-get install mbpoll"
    process = await asyncio.create_subprocess_exec(
        binary, "-q", "-0", "-1", "-p", str(port), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode()


async def test_balance_as_a_master_sees_it(simulator: Simulator) -> None:
    battery = Master(simulator, "Battery")
    assert await battery.call("write_multiple_registers", 100, [0, 0x4248])
    for _ in range(3):
        simulator.site.step()
    grid = await Master(simulator, "Grid meter").call("read_holding_registers", 0, 28)
    pv = await Master(simulator, "PV inverter").call("read_input_registers", 0, 13)
    power = await battery.call("read_holding_registers", 0, 2)
    load = await Master(simulator, "Load").call("read_input_registers", 0, 10)
    grid_w = round(struct.unpack(">f", struct.pack(">2H", grid[1], grid[0]))[0] * 1000)
    pv_w = struct.unpack(">i", struct.pack(">2H", *pv[:2]))[0]
    battery_w = round(struct.unpack(">f", struct.pack(">2H", *power))[0] * 1000)
    swapped = struct.pack(">2H", *load[:2])[::-1]  # DCBA
    load_w = round(struct.unpack(">f", swapped)[0] * 1000)
    assert battery_w == 50_000
    assert load_w == grid_w + pv_w + battery_w


async def test_refusals_have_their_exception_codes(simulator: Simulator) -> None:
    battery = Master(simulator, "Battery")
    for method, arguments, code in (
        ("write_multiple_registers", (100, [0, 0x42CA]), ILLEGAL_VALUE),  # 101 kW
        ("write_multiple_registers", (100, [0, 0x7F80]), ILLEGAL_VALUE),  # infinity
        ("write_single_register", (104, 1001), ILLEGAL_VALUE),
        ("write_single_register", (100, 0), ILLEGAL_ADDRESS),  # half of the set-point
        ("write_single_register", (2, 5000), ILLEGAL_ADDRESS),
        ("write_single_register", (500, 1), ILLEGAL_ADDRESS),
        ("read_holding_registers", (10, 10), ILLEGAL_ADDRESS),
        ("read_coils", (0, 2), ILLEGAL_ADDRESS),
    ):
        assert not await battery.call(method, *arguments)
        assert battery.client.last_except == code, (method, arguments)
    stranger = Master(simulator, "Battery", unit_id=9)
    assert await stranger.call("read_holding_registers", 0, 1) is None
    assert stranger.client.last_except == NO_RESPONSE


async def test_block_write_is_all_or_nothing(simulator: Simulator) -> None:
    battery = Master(simulator, "Battery")
    assert not await battery.call("write_multiple_registers", 102, [7, 9999])
    assert await battery.call("read_holding_registers", 102, 2) == [0, 600]
    assert await battery.call("write_multiple_registers", 102, [7, 30])
    assert await battery.call("read_holding_registers", 102, 2) == [7, 30]


async def test_coil_starts_the_genset(simulator: Simulator) -> None:
    genset = Master(simulator, "Genset")
    assert await genset.call("write_single_coil", 0, True)
    for _ in range(10):
        simulator.site.step()
    assert await genset.call("read_discrete_inputs", 0, 4) == [True, False, False, False]
    assert await genset.call("read_holding_registers", 11, 1) == [2]


async def test_mbpoll_reads_and_writes(simulator: Simulator) -> None:
    base = min(simulator.units)
    assert "Written 1 references" in await mbpoll(base + 2, "-r", "104", "127.0.0.1", "155")
    assert "Written 1 references" in await mbpoll(base + 2, "-t", "4:float", "-r", "100", "127.0.0.1", "--", "-40")
    assert "Illegal data value" in await mbpoll(base + 2, "-t", "4:float", "-r", "100", "127.0.0.1", "101")
    simulator.site.step()
    assert "-40" in await mbpoll(base + 2, "-B", "-t", "4:float", "-r", "0", "127.0.0.1")
    assert "\t155" in await mbpoll(base + 2, "-r", "104", "127.0.0.1")


async def test_taken_port_is_named(simulator: Simulator) -> None:
    second = Simulator(simulator.settings, min(simulator.units) - 20)
    with pytest.raises(UnavailableError, match=r"Grid meter.* can't be opened"):
        await second.open()


async def test_run_steps_by_the_clock() -> None:
    now = 0
    simulator = Simulator(load_settings(CONFIG), port_base(), clock=lambda: now)
    running = asyncio.create_task(simulator.run())
    try:
        await asyncio.sleep(0)
        now = 1000

        async def ten_steps() -> bool:
            return simulator.site.steps == 10

        await wait_until(ten_steps, "ten steps in a second")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_command_prints_its_devices_and_stops_on_sigterm() -> None:
    base = port_base()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "simulate", "--config", str(CONFIG), "--port-base", str(base),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    master = ModbusClient("127.0.0.1", base + 20, timeout=1)
    try:

        async def answers() -> bool:
            return bool(await asyncio.to_thread(master.read_holding_registers, 0, 2))

        await wait_until(answers, "the grid meter answers", timeout_s=20)
        master.close()
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    for name in ("Grid meter", "PV inverter", "Battery", "Genset", "Load"):
        assert name in output.decode()
