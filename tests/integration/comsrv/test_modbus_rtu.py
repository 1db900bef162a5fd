"""modbus_rtu over a pseudo-terminal pair against modbus_tk's RTU server, which shares no code with it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from modbus_tk import defines, modbus_rtu

from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import NotConnectedError, RefusedError
from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.modbus.rtu import ModbusRtu
from tests.integration.comsrv.site import Site
from tests.integration.comsrv.test_modbus_tcp import point, row
from tests.support.serial_line import SerialLine

# modbus_tk asks its thread by a name that Python has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:isSet")


class Peer:
    """modbus_tk's server at the right end of a line, with units 1 and 2."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line
        self.server: Any = None

    def start(self) -> None:
        self._line.open()
        port = serial.Serial(self._line.right, 115200)
        self.server = modbus_rtu.RtuServer(port)
        for unit in (1, 2):
            slave = self.server.add_slave(unit)
            slave.add_block("holding", defines.HOLDING_REGISTERS, 0, 400)
            slave.add_block("inputs", defines.DISCRETE_INPUTS, 0, 32)
            slave.add_block("coils", defines.COILS, 0, 32)
        slave = self.server.get_slave(1)
        slave.set_values("holding", 40, list(struct.unpack(">HH", struct.pack(">f", 23.5))))
        slave.set_values("inputs", 16, [1])
        self.server.set_timeout(0.05)
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None
        self._line.close()


@pytest.fixture
def line(tmp_path: Path) -> SerialLine:
    return SerialLine(tmp_path)


@pytest.fixture
def peer(line: SerialLine) -> Iterator[Peer]:
    found = Peer(line)
    found.start()
    yield found
    found.stop()


def channel(port: str, points: dict[str, list[dict[str, Any]]], **parameters: Any) -> Channel:
    document = {
        "id": 1002,
        "name": "line",
        "protocol": "modbus_rtu",
        "parameters": {"port": port, "baud_rate": 115200, "timeout_ms": 1000, **parameters},
        "points": points,
    }
    return Channel.model_validate(document)


class TestModbusRtu(Conformance):
    """Conformance."""

    protocol = "modbus_rtu"

    @pytest.fixture(autouse=True)
    async def _device(self, line: SerialLine) -> AsyncIterator[None]:
        self.line = line
        self.peer = Peer(line)
        await asyncio.to_thread(self.peer.start)
        yield
        await asyncio.to_thread(self.peer.stop)

    async def channel(self) -> Channel:
        return channel(
            self.line.left,
            {
                "T": [point(1, row(3, 40, "float32"))],
                "S": [point(1, row(2, 16, "bool"))],
                "C": [point(1, row(5, 8, "bool"))],
                "A": [point(1, row(6, 300, "int16"), scale=0.1, min=-100, max=100)],
            },
        )

    async def lose_device(self) -> None:
        await asyncio.to_thread(self.peer.stop)

    async def return_device(self) -> None:
        await asyncio.to_thread(self.peer.start)


async def test_units_of_one_line_and_their_exceptions(line: SerialLine, peer: Peer):
    """A block, a write of two registers, and an exception from each unit, on one line."""
    points = [point(unit, {**row(3, 10 * unit, "uint16"), "slave_id": unit}) for unit in (1, 2)]
    illegal = point(3, row(3, 1000, "uint16"))
    plugin = ModbusRtu()
    wide = point(1, {**row(16, 20, "uint32"), "slave_id": 2})
    declared = channel(line.left, {"T": [*points, illegal], "A": [wide]})
    await plugin.initialize(declared, port_base=6000)
    await plugin.connect()
    try:
        write = plugin.prepare_write(PointKind.ADJUSTMENT, declared.points.A[0], 70_000.0)
        await plugin.write_point(write)
        assert (await plugin.read_back(write)).matches
        found = {}
        for block in plugin.blocks:
            try:
                found[block.name] = (await plugin.read_batch(block)).values.tolist()
            except RefusedError as error:
                found[block.name] = error.exception_code
        assert found == {"1-holding-10-1": [0.0], "1-holding-1000-1": 2, "2-holding-20-1": [1.0]}
        assert plugin.traffic is not None
        assert plugin.traffic.rejected == {}
    finally:
        await plugin.close()


async def test_a_port_that_does_not_take_its_settings_says_which(line: SerialLine, peer: Peer):
    """A pseudo-terminal has no parity."""
    plugin = ModbusRtu()
    await plugin.initialize(channel(line.left, {"T": [point(1, row(3, 0, "uint16"))]}, parity="even"), port_base=6000)
    with pytest.raises(NotConnectedError, match="does not take 115200 baud, parity even, stop bits 1"):
        await plugin.connect()
    await plugin.close()


async def test_a_port_is_not_shared_with_another_program(line: SerialLine, peer: Peer):
    other = serial.Serial(line.left, 115200, exclusive=True)
    plugin = ModbusRtu()
    await plugin.initialize(channel(line.left, {"T": [point(1, row(3, 0, "uint16"))]}), port_base=6000)
    with pytest.raises(NotConnectedError, match="lock"):
        await plugin.connect()
    other.close()
    await plugin.connect()
    assert (await plugin.read_batch(plugin.blocks[0])).values.tolist() == [0.0]
    await plugin.close()


async def test_a_channel_polls_and_commands_over_a_line_with_a_dead_unit(site: Site, line: SerialLine, peer: Peer):
    """Unit 3 is not there; unit 1 is read and written all the same, and its values are its own."""
    dead = point(3, {**row(3, 0, "uint16"), "slave_id": 3})
    points = {
        "T": [point(1, row(3, 40, "float32")), point(2, row(3, 100, "uint16")), dead],
        "A": [point(1, row(6, 100, "uint16"))],
    }
    declared = channel(line.left, points, timeout_ms=1000)
    polling = declared.polling.model_copy(update={"interval_ms": 100})
    await site.run(declared.model_copy(update={"id": 1001, "polling": polling}))
    await site.becomes("T:1", "23.500000")
    await site.becomes("T:3", "bad:timeout")
    final = await site.command("A", 42)
    assert final["state"] == "verified", str(final)
    await site.becomes("T:2", "42.000000")
