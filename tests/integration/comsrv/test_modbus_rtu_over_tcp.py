"""modbus_rtu_over_tcp: RTU frames have no transaction id, so order and check bytes must do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import ComBase, MalformedError, NoAnswerError
from services.comsrv.plugins.conformance import Conformance
from services.comsrv.plugins.modbus.rtu import ModbusRtuOverTcp
from services.comsrv.tables import check_channel
from tests.integration.comsrv.device import Device, crc
from tests.integration.comsrv.test_modbus_tcp import point, row


def channel(port: int, points: dict[str, list[dict[str, Any]]], **parameters: Any) -> Channel:
    document = {
        "id": 1004,
        "name": "serial server",
        "protocol": "modbus_rtu_over_tcp",
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 600, "retries": 0, **parameters},
        "points": points,
    }
    return Channel.model_validate(document)


class TestModbusRtuOverTcp(Conformance):
    """Conformance."""

    protocol = "modbus_rtu_over_tcp"

    @pytest.fixture(autouse=True)
    async def _device(self) -> AsyncIterator[None]:
        self.device = Device(rtu=True)
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
    """Units 1 and 2, and two blocks of unit 1 whose answers look alike."""
    found = Device(rtu=True)
    found.set_registers(0, 7)
    found.set_registers(500, 8)
    found.set_registers(0, 5, unit=2)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def plugin(device: Device) -> AsyncIterator[ComBase]:
    plugin = ModbusRtuOverTcp()
    points = [
        point(1, row(3, 0, "uint16")),
        point(2, row(3, 500, "uint16")),
        point(3, {**row(3, 0, "uint16"), "slave_id": 2}),
    ]
    write = point(1, {**row(6, 0, "uint16"), "slave_id": 0})
    await plugin.initialize(channel(device.port, {"T": points, "A": [write]}, turnaround_ms=1), port_base=6000)
    await plugin.connect()
    yield plugin
    await plugin.close()


async def value(plugin: ComBase, index: int) -> float:
    return float((await plugin.read_batch(plugin.blocks[index])).values[0])


def rejected(plugin: ComBase) -> dict[str, int]:
    assert plugin.traffic is not None
    return dict(plugin.traffic.rejected)


async def test_a_late_answer_that_looks_like_the_next_is_not_taken_for_it(device: Device, plugin: ComBase):
    """The answer to block 0 comes in front of what is asked next; block 1 must still be 8."""
    device.set_registers(501, 0)
    device.answer_late_once = True
    with pytest.raises(NoAnswerError):
        await value(plugin, 0)
    assert await value(plugin, 1) == 8.0
    assert await value(plugin, 0) == 7.0
    assert rejected(plugin) == {"late": 1}
    # A request of another shape came between, whose answer could not be mistaken.
    assert [request[2:] for request in device.requests] == [(0, 1), (500, 2), (500, 1), (0, 1)]
    assert device.connections == 1


async def test_a_neighbour_is_asked_without_ado_after_a_time_out(device: Device, plugin: ComBase):
    device.silent_units = {1}
    with pytest.raises(NoAnswerError):
        await value(plugin, 0)
    assert await value(plugin, 2) == 5.0
    assert [request[0] for request in device.requests] == [1, 2]


@pytest.mark.parametrize(
    ("twist", "kind"),
    [
        (lambda frame: frame[:-1] + bytes((frame[-1] ^ 0xFF,)), "wrong_crc"),
        (lambda frame: frame[:3] + bytes((frame[3] ^ 0x40,)) + frame[4:], "wrong_crc"),
        (lambda frame: checked(bytes((frame[0], frame[1], 4, 0, 1, 0, 2))), "wrong_byte_count"),
    ],
)
async def test_a_broken_answer_is_no_value(device: Device, plugin: ComBase, twist: Callable[[bytes], bytes], kind: str):
    device.twists.append(twist)
    with pytest.raises(MalformedError):
        await value(plugin, 0)
    assert rejected(plugin) == {kind: 1}
    assert await value(plugin, 0) == 7.0


@pytest.mark.parametrize(
    ("twist", "kind"),
    [
        (lambda frame: checked(b"\x09" + frame[1:-2]) + frame, "wrong_unit"),
        (lambda frame: checked(frame[:1] + b"\x04" + frame[2:-2]) + frame, "wrong_function"),
        (lambda frame: b"\xff\x00\xff" + frame, "unsolicited"),
    ],
)
async def test_what_stands_before_the_answer_is_passed_over(
    device: Device, plugin: ComBase, twist: Callable[[bytes], bytes], kind: str
):
    device.twists.append(twist)
    assert await value(plugin, 0) == 7.0
    assert rejected(plugin) == {kind: 1}


async def test_half_an_answer_is_no_answer(device: Device, plugin: ComBase):
    device.twists.append(lambda frame: frame[:4])
    with pytest.raises(NoAnswerError, match="only 4 bytes"):
        await value(plugin, 0)
    assert rejected(plugin) == {"partial": 1}
    assert await value(plugin, 0) == 7.0


async def test_a_broadcast_awaits_no_answer(device: Device, plugin: ComBase):
    device.set_registers(0, 0, unit=0)
    device.silent_units = {0}
    declared = channel(device.port, {"A": [point(1, {**row(6, 0, "uint16"), "slave_id": 0})]})
    write = plugin.prepare_write(PointKind.ADJUSTMENT, declared.points.A[0], 42.0)
    async with asyncio.timeout(0.5):
        await plugin.write_point(write)
    assert await value(plugin, 0) == 7.0
    assert device.registers[0, 3, 0] == 42 or device.requests[0] == (0, 6, 0, 42)


def test_units_that_a_serial_line_does_not_have_are_refused_with_the_field():
    points = {
        "T": [point(1, {**row(3, 0, "uint16"), "slave_id": 0}), point(2, {**row(3, 0, "uint16"), "slave_id": 250})]
    }
    texts = [str(problem) for problem in check_channel(channel(502, points), 6000)]
    assert any("slave_id: 0 is every unit" in text for text in texts)
    assert any("slave_id: 250 is reserved" in text for text in texts)


def checked(body: bytes) -> bytes:
    """Return a body with its check bytes."""
    return body + crc(body)
