"""modbus_tcp against a device that shares no code with it, and against its faults."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import (
    ComBase,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.modbus.tcp import ModbusTcp
from tests.integration.comsrv.device import Device


def row(code: int, address: int, data_type: str, **more: Any) -> dict[str, Any]:
    return {"slave_id": 1, "function_code": code, "register_address": address, "data_type": data_type, **more}


def point(point_id: int, mapping: dict[str, Any], **more: Any) -> dict[str, Any]:
    data_type = "bool" if mapping["data_type"] == "bool" else "float64"
    return {"id": point_id, "name": f"p{point_id}", "data_type": data_type, "mapping": mapping, **more}


def channel(port: int, points: dict[str, list[dict[str, Any]]], **parameters: Any) -> Channel:
    return Channel.model_validate(
        {
            "id": 1001,
            "name": "meter",
            "protocol": "modbus_tcp",
            "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 600, **parameters},
            "points": points,
        }
    )


class TestModbusTcp(Conformance):
    """Conformance."""

    protocol = "modbus_tcp"
    device: Device

    @pytest.fixture(autouse=True)
    async def _device(self) -> AsyncIterator[None]:
        self.device = Device()
        self.device.set_registers(40, *struct.unpack(">HH", struct.pack(">f", 23.5)))
        self.device.set_registers(300, 0)
        self.device.set_bits(16, True, table=2)
        self.device.set_bits(8, False)
        await self.device.start()
        yield
        await self.device.stop()

    async def channel(self) -> Channel:
        return channel(
            self.device.port,
            {
                "T": [point(1, row(3, 40, "float32"))],
                "S": [point(1, row(2, 16, "bool"))],
                "C": [point(1, row(5, 8, "bool"))],
                "A": [point(1, row(6, 300, "int16"), scale=0.1, min=-100, max=100)],
            },
        )

    async def lose_device(self) -> None:
        await self.device.stop()

    async def return_device(self) -> None:
        await self.device.start()


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    found = Device()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def plugin(device: Device) -> AsyncIterator[ComBase]:
    """Two units, two blocks of unit 1: registers 0 to 1 and, behind another table, input register 0."""
    device.set_registers(0, 7, 8)
    device.set_registers(0, 9, table=4)
    device.set_registers(0, 5, unit=2)
    plugin = ModbusTcp()
    points = [
        point(1, row(3, 0, "uint16")),
        point(2, row(3, 1, "uint16")),
        point(3, row(4, 0, "uint16")),
        point(4, {**row(3, 0, "uint16"), "slave_id": 2}),
    ]
    await plugin.initialize(channel(device.port, {"T": points}), port_base=6000)
    await plugin.connect()
    yield plugin
    await plugin.close()


async def values(plugin: ComBase, index: int) -> list[float]:
    return (await plugin.read_batch(plugin.blocks[index])).values.tolist()


async def test_one_request_a_block_and_one_transaction_in_flight(device: Device, plugin: ComBase):
    device.delay_s = 0.01
    assert await asyncio.gather(*(values(plugin, index) for index in range(3))) == [[7.0, 8.0], [9.0], [5.0]]
    assert device.requests == [(1, 3, 0, 2), (1, 4, 0, 1), (2, 3, 0, 1)]
    assert device.most_in_flight == 1
    assert device.connections == 1


async def test_an_answer_in_single_bytes_is_put_together(device: Device, plugin: ComBase):
    device.fragment = True
    assert await values(plugin, 0) == [7.0, 8.0]


async def test_a_late_answer_is_not_taken_for_the_next(device: Device, plugin: ComBase):
    """The stale frame of unit 1's block must not become the value of another block."""
    device.answer_late_once = True
    with pytest.raises(NoAnswerError):
        await values(plugin, 0)
    assert await values(plugin, 1) == [9.0]
    assert device.connections == 1


async def test_an_exception_is_an_answer(device: Device, plugin: ComBase):
    del device.registers[1, 3, 1]
    with pytest.raises(RefusedError) as caught:
        await values(plugin, 0)
    assert caught.value.quality == "bad:illegal_address"
    assert await values(plugin, 1) == [9.0]
    assert device.connections == 1


async def test_a_silent_unit_does_not_cost_the_others_their_connection(device: Device, plugin: ComBase):
    device.silent_units = {2}
    for _ in range(4):
        with pytest.raises(NoAnswerError):
            await values(plugin, 2)
        assert await values(plugin, 0) == [7.0, 8.0]
    assert device.connections == 1


async def test_silence_of_all_ends_the_connection(device: Device, plugin: ComBase):
    device.silent_units = {1, 2}
    outcomes = []
    for _ in range(3):
        with pytest.raises((NoAnswerError, NotConnectedError)) as caught:
            await values(plugin, 0)
        outcomes.append(caught.type)
    assert outcomes == [NoAnswerError, NoAnswerError, NotConnectedError]


async def test_a_dropped_connection_is_noticed_at_once(device: Device, plugin: ComBase):
    device.drop_after = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NotConnectedError):
        await values(plugin, 0)
    assert loop.time() - began < 0.5


async def test_time_outs_log_no_frames(device: Device, plugin: ComBase, caplog: pytest.LogCaptureFixture):
    device.silent_units = {2}
    with caplog.at_level(logging.INFO), pytest.raises(NoAnswerError):
        await values(plugin, 2)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("code", "data_type", "value", "request_code"),
    [(6, "int16", -12.0, 6), (16, "float32", 1.5, 16), (16, "int64", -(2.0**40), 16), (16, "uint16", 65535.0, 16)],
)
async def test_registers_are_written_with_the_code_of_the_mapping(
    device: Device, code: int, data_type: str, value: float, request_code: int
):
    device.set_registers(10, 0, 0, 0, 0)
    plugin = ModbusTcp()
    declared = channel(device.port, {"A": [point(1, row(code, 10, data_type))]})
    await plugin.initialize(declared, port_base=6000)
    await plugin.connect()
    write = plugin.prepare_write(PointKind.ADJUSTMENT, declared.points.A[0], value)
    await plugin.write_point(write)
    assert await plugin.read_back(write) == (value, True)
    assert device.requests[0][1] == request_code
    await plugin.close()


async def test_fifteen_writes_coils_and_a_frozen_one_shows_in_the_read_back(device: Device):
    device.set_bits(3, False)
    plugin = ModbusTcp()
    declared = channel(device.port, {"C": [point(1, row(15, 3, "bool"), reverse=True)]})
    await plugin.initialize(declared, port_base=6000)
    await plugin.connect()
    write = plugin.prepare_write(PointKind.CONTROL, declared.points.C[0], 0.0)
    await plugin.write_point(write)
    assert device.bits[1, 1, 3] is True
    assert await plugin.read_back(write) == (0.0, True)
    device.frozen[1, 1, 3] += 1
    write = plugin.prepare_write(PointKind.CONTROL, declared.points.C[0], 1.0)
    await plugin.write_point(write)
    assert await plugin.read_back(write) == (0.0, False)
    await plugin.close()
