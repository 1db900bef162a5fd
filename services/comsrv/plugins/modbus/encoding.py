"""A value to the bytes of a write, and the bytes of a read-back to a value."""

from __future__ import annotations

import math
import struct
from typing import Final

from libs.errors import InvalidError
from services.comsrv.channel import Point
from services.comsrv.plugins.modbus.mapping import MASK_WRITE, Wire
from services.comsrv.plugins.modbus.wiretypes import DOUBLE_POINT, RANGES, TYPES, from_wire, to_wire

_STATES: Final = 3


def encode(wire: Wire, value: float, factor: float = 1.0) -> bytes:
    """Return the register bytes of a value, as they go over the wire.

    The value is un-scaled and rounded to nearest, halves away from zero. It is never
    truncated, wrapped or saturated. Of a field the other bits are 0; `mask` says which count.

    Args:
        wire: the point.
        value: in engineering units.
        factor: what the point's scale register says.

    Raises:
        InvalidError: the wire type can't hold the value, or it is outside the point's limits.
    """
    device = to_device(wire, value, factor)
    kind = TYPES[wire.type]
    if wire.bit is not None:
        low, high = field_range(wire)
        if not low <= device <= high:
            raise InvalidError(f"{_named(value, device)} outside {low} to {high}")
        bits = (int(device) & ((1 << wire.bits) - 1)) << wire.bit
        size = len(wire.order)
        # A byte in a register is a field of the register; its order only says which half.
        return bits.to_bytes(2, "big") if kind.size == 1 else to_wire(wire.order, bits.to_bytes(size, "big"))
    if wire.type in RANGES:
        low, high = RANGES[wire.type]
        if not low <= device <= high:
            raise InvalidError(f"{_named(value, device)} outside {wire.type} ({low} to {high})")
        number = int(device)
        packed = struct.pack(kind.packing, int(str(number), 16) if kind.digits else number)
    elif "f" in kind.numpy:
        packed = _pack_float(wire, device, value)
    else:
        packed = struct.pack(kind.packing, int(device))
    return to_wire(wire.order, packed)


def _named(value: float, device: float) -> str:
    return f"{value:.15g} is" if device == value else f"{value:.15g} is {device:.15g} on the device,"


def field_range(wire: Wire) -> tuple[int, int]:
    """Return the smallest and largest integer of a field."""
    if TYPES[wire.type].numpy[1] == "i":
        return -(1 << wire.bits - 1), (1 << wire.bits - 1) - 1
    return 0, (1 << wire.bits) - 1


def mask(wire: Wire) -> bytes | None:
    """Return the bits of the registers that a write may change, None where it is all of them."""
    if wire.bit is None or not (wire.read_modify_write or wire.code == MASK_WRITE):
        return None
    bits = ((1 << wire.bits) - 1) << wire.bit
    if TYPES[wire.type].size == 1:
        return bits.to_bytes(2, "big")
    return to_wire(wire.order, bits.to_bytes(len(wire.order), "big"))


def to_device(wire: Wire, value: float, factor: float = 1.0) -> float:
    """Return the number the device gets: un-scaled, rounded for integers, checked against the limits."""
    point = wire.point
    check_value(point, value)
    if wire.type == "bool":
        if value not in {0, 1}:
            raise InvalidError(f"{value:.15g} is neither 0 nor 1")
        return 1.0 - value if point.reverse else value
    if wire.type == DOUBLE_POINT:
        if value not in range(_STATES):
            raise InvalidError(f"{value:.15g} is none of 0 moving, 1 open, 2 closed")
        return value
    if wire.bits == 1 and point.reverse:
        value = 1.0 - value
    device = (value - point.offset) / (point.scale * factor)
    if wire.type in RANGES:
        # Nine decimals first: (1.005 - 0) / 0.01 is 100.49999999999999 and means 100.5.
        size = round(abs(device), 9)
        # Adding 0.5 would round once more beyond 2^52.
        device = math.copysign(math.floor(size) + (size % 1 >= 0.5), device)
    return device


def from_device(wire: Wire, data: bytes, factor: float = 1.0) -> float:
    """Return the value that register bytes stand for, in engineering units; NaN where there is none."""
    kind = TYPES[wire.type]
    packed = from_wire(wire.order, data, kind.size)
    raw = float(struct.unpack(kind.packing, packed)[0])
    if wire.is_bit:
        raw = float(int.from_bytes(packed, "big"))
    elif wire.bit is not None and kind.size > 1:
        raw = _field(wire, int.from_bytes(packed, "big"))
    elif kind.digits:
        text = packed.hex()
        raw = float(text) if text.isdecimal() else math.nan
    if wire.point.reverse:
        return 1.0 - raw
    return float(raw * wire.point.scale * factor + wire.point.offset)


def check_value(point: Point, value: float) -> None:
    """Refuse what is beyond a point's limits, or none of the values that its map names."""
    if not math.isfinite(value):
        raise InvalidError(f"{value} is not finite")
    if point.min is not None and value < point.min:
        raise InvalidError(f"{value:.15g} is below the minimum {point.min:.15g}")
    if point.max is not None and value > point.max:
        raise InvalidError(f"{value:.15g} is above the maximum {point.max:.15g}")
    if point.value_map is not None and f"{value:.15g}" not in point.value_map:
        known = ", ".join(f"{key} {text}" for key, text in point.value_map.items())
        raise InvalidError(f"{value:.15g} is none of {known}")


def _field(wire: Wire, bits: int) -> float:
    assert wire.bit is not None  # noqa: S101 - asked for fields alone
    if wire.type == "bool" and mask(wire) is None and wire.bit == 0:
        # A register written as a whole is on when it is anything but 0.
        return float(bool(bits))
    value = (bits >> wire.bit) & ((1 << wire.bits) - 1)
    low, _ = field_range(wire)
    return float(value - (1 << wire.bits) if low < 0 and value >> wire.bits - 1 else value)


def _pack_float(wire: Wire, device: float, value: float) -> bytes:
    packing = TYPES[wire.type].packing
    try:
        packed = struct.pack(packing, device)
    except OverflowError:
        packed = struct.pack(packing, math.inf)
    if not math.isfinite(struct.unpack(packing, packed)[0]):
        raise InvalidError(f"{value:.15g} is beyond what {wire.type} holds")
    return packed
