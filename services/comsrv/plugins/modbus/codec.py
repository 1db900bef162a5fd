"""Bytes of a Modbus answer to arrays, and a value to the bytes of a write.

Decoding works on a whole block: the bytes of all values of one wire type are gathered
with one index array, in which the byte order is already undone, and read as one numpy
array. Nothing is done point by point.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.errors import InvalidError
from libs.numbers import EXACT_LIMIT
from services.comsrv.contract import GOOD, NAN, OUT_OF_RANGE, SENTINEL, Codes, Values
from services.comsrv.plugins.modbus.mapping import Wire

_NUMPY: Final = {
    "int16": ">i2", "uint16": ">u2", "int32": ">i4", "uint32": ">u4", "float32": ">f4",
    "int64": ">i8", "uint64": ">u8", "float64": ">f8",
}  # fmt: skip
_STRUCT: Final = {
    "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "float32": ">f",
    "int64": ">q", "uint64": ">Q", "float64": ">d", "bool": ">H",
}  # fmt: skip
_RANGES: Final = {
    f"{sign}int{bits}": ((-(1 << bits - 1), (1 << bits - 1) - 1) if not sign else (0, (1 << bits) - 1))
    for bits in (16, 32, 64)
    for sign in ("", "u")
}


class _Group(NamedTuple):
    """Values of one wire type: where their bytes are, most significant first, and where they go."""

    dtype: str
    gather: NDArray[np.intp]
    target: NDArray[np.intp]


class Decoder:
    """Decodes the answers to one request."""

    def __init__(self, wires: list[Wire], address: int, count: int) -> None:
        """Prepare the index arrays for points in the order of the block."""
        self.size = len(wires)
        self.byte_count = (count + 7) // 8 if wires[0].is_bit else 2 * count
        self._groups = [
            _group(
                dtype, [(index, wire) for index, wire in enumerate(wires) if _NUMPY.get(wire.type) == dtype], address
            )
            for dtype in dict.fromkeys(_NUMPY[wire.type] for wire in wires if wire.type != "bool")
        ]
        bits = [(index, wire) for index, wire in enumerate(wires) if wire.type == "bool"]
        self._bits = np.array([index for index, _ in bits], np.intp)
        self._bit_bytes = np.array([_bit_place(wire, address)[0] for _, wire in bits], np.intp)
        self._bit_shifts = np.array([_bit_place(wire, address)[1] for _, wire in bits], np.uint8)
        self._scale = np.array([-1.0 if wire.point.reverse else wire.point.scale for wire in wires])
        self._offset = np.array([1.0 if wire.point.reverse else wire.point.offset for wire in wires])
        self._linear = bool((self._scale != 1.0).any() or (self._offset != 0.0).any())
        sentinels = [math.nan if wire.sentinel is None else wire.sentinel for wire in wires]
        self._sentinels = None if all(map(math.isnan, sentinels)) else np.array(sentinels)

    def decode(self, data: bytes) -> tuple[Values, Codes]:
        """Return values and quality codes; where the code is not GOOD the value is 0."""
        octets = np.frombuffer(data, np.uint8)
        raw = np.empty(self.size)
        beyond: NDArray[np.intp] | None = None
        for dtype, gather, target in self._groups:
            values = octets[gather].view(dtype)[:, 0]
            raw[target] = values
            if dtype in {">i8", ">u8"}:
                # Near 2^53 the float can't tell; the integer can.
                large = (values > EXACT_LIMIT) | (values < -EXACT_LIMIT if dtype == ">i8" else False)
                if large.any():
                    beyond = np.concatenate([beyond, target[large]]) if beyond is not None else target[large]
        if self._bits.size:
            raw[self._bits] = (octets[self._bit_bytes] >> self._bit_shifts) & 1
        with np.errstate(all="ignore"):
            result: Values = raw * self._scale + self._offset if self._linear else raw
            good = np.abs(result) <= EXACT_LIMIT
        if beyond is not None:
            good[beyond] &= np.abs(result[beyond]) < EXACT_LIMIT
        quality: Codes = np.zeros(self.size, np.uint8)
        if self._sentinels is not None:
            hit = raw == self._sentinels
            quality[hit] = SENTINEL
            good &= ~hit
        if not good.all():
            bad = ~good & (quality == GOOD)
            quality[bad] = np.where(np.isfinite(raw[bad]), OUT_OF_RANGE, NAN)
            result = np.where(good, result, 0.0)
        return result, quality


def encode(wire: Wire, value: float) -> bytes:
    """Return the register bytes of a value, as they go over the wire.

    The value is un-scaled and rounded to nearest, halves away from zero. It is never
    truncated, wrapped or saturated.

    Raises:
        InvalidError: the wire type can't hold the value, or it is outside the point's limits.
    """
    device = to_device(wire, value)
    if wire.type == "bool":
        packed = struct.pack(">H", int(device))
    elif wire.type in _RANGES:
        low, high = _RANGES[wire.type]
        if not low <= device <= high:
            raise InvalidError(f"{value:g} is {device:.15g} on the device, outside {wire.type} ({low} to {high})")
        packed = struct.pack(_STRUCT[wire.type], int(device))
    else:
        packed = _pack_float(wire, device, value)
    return bytes(packed[ord(letter) - ord("A")] for letter in wire.order)


def to_device(wire: Wire, value: float) -> float:
    """Return the number the device gets: un-scaled, rounded for integers, checked against the limits."""
    point = wire.point
    if not math.isfinite(value):
        raise InvalidError(f"{value} is not finite")
    if point.min is not None and value < point.min:
        raise InvalidError(f"{value:g} is below the minimum {point.min:g}")
    if point.max is not None and value > point.max:
        raise InvalidError(f"{value:g} is above the maximum {point.max:g}")
    if wire.type == "bool":
        if value not in {0, 1}:
            raise InvalidError(f"{value:g} is neither 0 nor 1")
        return 1.0 - value if point.reverse else value
    device = (value - point.offset) / point.scale
    if wire.type in _RANGES:
        # Nine decimals first: (1.005 - 0) / 0.01 is 100.49999999999999 and means 100.5.
        device = math.copysign(math.floor(round(abs(device), 9) + 0.5), device)
    return device


def from_device(wire: Wire, data: bytes) -> float:
    """Return the value that register bytes stand for, in engineering units; NaN where there is none."""
    packed = bytes(len(wire.order))
    packed = bytes(data[wire.order.index(chr(ord("A") + index))] for index in range(len(packed)))
    raw = struct.unpack(_STRUCT[wire.type], packed)[0]
    if wire.type == "bool":
        return float(bool(raw) != wire.point.reverse)
    return float(raw * wire.point.scale + wire.point.offset)


def _pack_float(wire: Wire, device: float, value: float) -> bytes:
    try:
        packed = struct.pack(_STRUCT[wire.type], device)
    except OverflowError:
        packed = struct.pack(_STRUCT[wire.type], math.inf)
    if not math.isfinite(struct.unpack(_STRUCT[wire.type], packed)[0]):
        raise InvalidError(f"{value:g} is beyond what {wire.type} holds")
    return packed


def _group(dtype: str, members: list[tuple[int, Wire]], address: int) -> _Group:
    gather = [
        [2 * (wire.address - address) + wire.order.index(chr(ord("A") + place)) for place in range(2 * wire.width)]
        for _, wire in members
    ]
    return _Group(dtype, np.array(gather, np.intp), np.array([index for index, _ in members], np.intp))


def _bit_place(wire: Wire, address: int) -> tuple[int, int]:
    """Return (byte, shift) of a bit in the answer."""
    offset = wire.address - address
    if wire.bit is None:
        return offset // 8, offset % 8
    high = wire.bit >= 8
    return 2 * offset + wire.order.index("A" if high else "B"), wire.bit % 8
