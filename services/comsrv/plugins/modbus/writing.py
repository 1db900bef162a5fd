"""Writes: whole values, single bits and fields, and values whose scale stands in the device.

A part of a register is written with function code 22 (mask write), which the device does at one
stroke, or by reading, changing and writing the registers, where the mapping says so: whatever
the device itself changes between the two is lost then. Function code 23 writes and reads back
with one request, into which nobody else comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from libs.errors import InvalidError
from services.comsrv.contract import ReadBack
from services.comsrv.plugins.modbus.encoding import check_value, encode, from_device, mask
from services.comsrv.plugins.modbus.mapping import MASK_WRITE, WRITE_AND_READ, Wire
from services.comsrv.plugins.modbus.scaling import factor_of
from services.comsrv.plugins.modbus.texts import decode_text, encode_text
from services.comsrv.plugins.modbus.wiretypes import WIDTHS


class Registers(Protocol):
    """What a write needs of a connection; each raises a DeviceError."""

    async def read(self, unit: int, code: int, address: int, count: int) -> bytes:
        """Return the data bytes of a read answer."""
        ...

    async def write_bits(self, unit: int, code: int, address: int, bits: list[bool]) -> None:
        """Write one coil with function code 5, or several with 15."""
        ...

    async def write_registers(self, unit: int, code: int, address: int, data: bytes) -> None:
        """Write registers with function code 6 or 16."""
        ...

    async def mask_write(self, unit: int, address: int, and_mask: int, or_mask: int) -> None:
        """Change bits of a register with function code 22."""
        ...

    async def write_and_read(self, unit: int, address: int, data: bytes, read_address: int) -> bytes:
        """Write registers with function code 23 and return as many from an address."""
        ...


@dataclass
class Planned:
    """A write that is checked. `data` are the bytes on the wire, known once the scale is."""

    wire: Wire
    value: float
    data: bytes | None = None
    factor: float = 1.0
    # What the answer to the write showed, until it was looked at.
    shown: bytes | None = None


def prepare(wire: Wire, value: float) -> Planned:
    """Check a value and make its bytes; those of a value with a scale register follow when that was read.

    Raises:
        InvalidError: the device can't hold the value, or it is outside the point's limits.
    """
    if wire.scale is None:
        return Planned(wire, value, encode(wire, value))
    check_value(wire.point, value)
    return Planned(wire, value)


def prepare_text(wire: Wire, text: str) -> Planned:
    """Make the bytes of a text; raises InvalidError where it does not fit."""
    return Planned(wire, 0.0, encode_text(wire, text))


async def write(registers: Registers, planned: Planned) -> None:
    """Send a write and await the answer.

    Raises:
        DeviceError: what became of it.
        InvalidError: with the scale that the device has now it can't hold the value; nothing was sent.
    """
    wire = planned.wire
    if wire.scale is not None:
        planned.factor = await _factor(registers, wire)
        planned.data = encode(wire, planned.value, planned.factor)
    data = planned.data or b""
    if wire.is_bit:
        number = int.from_bytes(data, "big")
        bits = [bool(number >> place & 1) for place in range(wire.width)]
        await registers.write_bits(wire.unit, wire.code, wire.address, bits)
        return
    changed = mask(wire)
    if wire.code == WRITE_AND_READ:
        planned.shown = await registers.write_and_read(wire.unit, wire.address, data, wire.verify_address)
    elif changed is None:
        await registers.write_registers(wire.unit, wire.code, wire.address, data)
    elif wire.code == MASK_WRITE:
        keep = ~int.from_bytes(changed, "big") & 0xFFFF
        await registers.mask_write(wire.unit, wire.address, keep, int.from_bytes(data, "big"))
    else:
        held = await registers.read(wire.unit, wire.read_code, wire.address, wire.width)
        merged = bytes(old & ~bit | new for old, bit, new in zip(held, changed, data, strict=True))
        await registers.write_registers(wire.unit, wire.code, wire.address, merged)


async def read_back(registers: Registers, planned: Planned) -> ReadBack:
    """Read the written address, or the one declared for it, and compare the bits that were written.

    The answer to function code 23 counts for the first look, unless the point wants a delay.
    """
    wire = planned.wire
    shown, planned.shown = planned.shown, None
    delayed = wire.point.command is not None and wire.point.command.verify_delay_ms
    if shown is None or delayed:
        shown = await registers.read(wire.unit, wire.read_code, wire.verify_address, wire.width)
    found = shown
    data = planned.data or b""
    if wire.is_bit:
        found = bytes((0, found[0] & ((1 << wire.width) - 1)))
    if wire.is_text:
        text = decode_text(wire, found)
        return ReadBack(text, matches=text == decode_text(wire, data))
    changed = mask(wire)
    same = found == data if changed is None else _masked(found, changed) == data
    return ReadBack(from_device(wire, found, planned.factor), matches=same)


async def _factor(registers: Registers, wire: Wire) -> float:
    scale = wire.scale
    assert scale is not None  # noqa: S101 - asked for scaled points alone
    count = WIDTHS[scale.type]
    factor = factor_of(scale, await registers.read(wire.unit, wire.read_code, scale.address, count))
    if factor is None:
        raise InvalidError(f"the device has no scale for it now: register {scale.address} holds none")
    return factor


def _masked(data: bytes, bits: bytes) -> bytes:
    return bytes(octet & bit for octet, bit in zip(data, bits, strict=True))
