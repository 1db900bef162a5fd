"""Bytes of a Modbus answer to arrays.

Decoding works on a whole block: the bytes of all values of one wire type are gathered
with one index array, in which the byte order is already undone, and read as one numpy
array. Nothing is done point by point; texts are decoded when a byte of them changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.numbers import EXACT_LIMIT
from services.comsrv.contract import GOOD, NAN, OUT_OF_RANGE, SENTINEL, Codes, Values, quality_code
from services.comsrv.plugins.modbus.encoding import encode, from_device
from services.comsrv.plugins.modbus.mapping import Wire
from services.comsrv.plugins.modbus.scaling import Scaling, Stretch
from services.comsrv.plugins.modbus.sentinels import ANY_NAN
from services.comsrv.plugins.modbus.texts import TextDecoder
from services.comsrv.plugins.modbus.wiretypes import DOUBLE_POINT, TYPES, byte_places

__all__ = ["Decoder", "encode", "from_device"]

# A nibble above 9, a state that IEC 60870-5 calls indeterminate.
NO_BCD: Final = quality_code("bad:no_bcd")
INVALID_STATE: Final = quality_code("uncertain:invalid_state")
NO_TEXTS: Final[tuple[str, ...]] = ()


class _Group:
    """Values of one wire type: where their bytes are, most significant first, and where they go."""

    def __init__(self, name: str, members: list[tuple[int, Wire]], address: int) -> None:
        kind = TYPES[name]
        self.dtype = kind.numpy
        self.unsigned = f">u{kind.size}"
        self.digits = kind.digits
        self.gather = np.array(
            [
                [2 * (wire.address - address) + place for place in byte_places(wire.order, kind.size)]
                for _, wire in members
            ],
            np.intp,
        )
        self.target = np.array([index for index, _ in members], np.intp)
        # Near 2^53 the float can't tell whether an integer is exact; the integer can.
        self.long = kind.size == 8 and "f" not in kind.numpy
        known = [(place, bits) for place, (_, wire) in enumerate(members) for bits in wire.sentinels if bits != ANY_NAN]
        self.sentinel_at = np.array([place for place, _ in known], np.intp)
        self.sentinels = np.array([bits for _, bits in known], np.uint64).astype(self.unsigned)
        self.fields = _Fields([wire for _, wire in members]) if members[0][1].bits and kind.size > 1 else None

    def read(self, octets: NDArray[np.uint8], found: _Found) -> None:
        """Put the values into `found.raw`, and note what is no value."""
        bits = octets[self.gather].view(self.unsigned)[:, 0]
        if self.sentinel_at.size:
            hit = bits[self.sentinel_at] == self.sentinels
            if hit.any():
                found.mark(self.target[self.sentinel_at[hit]], SENTINEL)
        if self.fields is not None:
            found.raw[self.target] = self.fields.extract(bits)
            return
        values: NDArray[Any] = bits.view(self.dtype)
        if self.digits:
            values, wrong = _from_bcd(bits, self.digits)
            if wrong.any():
                found.mark(self.target[wrong], NO_BCD)
        found.raw[self.target] = values
        if self.long:
            large = values > EXACT_LIMIT
            if self.dtype == ">i8":
                large |= values < -EXACT_LIMIT
            if large.any():
                found.beyond.append(self.target[large])


class _Fields:
    """Bits inside the values of a group, counted from the least significant."""

    def __init__(self, wires: list[Wire]) -> None:
        self._shifts = np.array([wire.bit for wire in wires], np.uint64)
        self._masks = np.array([(1 << wire.bits) - 1 for wire in wires], np.uint64)
        # The sign bit of a signed field, 0 for an unsigned one.
        signed = [1 << wire.bits - 1 if TYPES[wire.type].numpy[1] == "i" else 0 for wire in wires]
        self._signs = np.array(signed, np.int64)

    def extract(self, bits: NDArray[Any]) -> NDArray[np.int64]:
        """Return the values of the fields."""
        plain = ((bits.astype(np.uint64) >> self._shifts) & self._masks).astype(np.int64)
        found: NDArray[np.int64] = (plain ^ self._signs) - self._signs
        return found


class _Found(NamedTuple):
    """What the groups found: the raw values, codes of points that have none, integers beyond 2^53."""

    raw: Values
    marks: list[tuple[NDArray[np.intp], int]]
    beyond: list[NDArray[np.intp]]

    def mark(self, points: NDArray[np.intp], code: int) -> None:
        """Note that points have no value."""
        self.marks.append((points, code))


class Decoder:
    """Decodes the answers to one request."""

    def __init__(self, wires: list[Wire], address: int, count: int, far: Sequence[Stretch] = ()) -> None:
        """Prepare the index arrays for points in the order of the block; texts come last.

        The registers of `far` stand behind those of the answer in what is decoded.
        """
        numbers = [wire for wire in wires if not wire.is_text]
        self.size = len(wires)
        self.byte_count = (count + 7) // 8 if wires[0].is_bit else 2 * count
        self._numbers = len(numbers)
        self._groups = _groups(numbers, address)
        self._bits = _Bits(numbers, address)
        self._scaling = Scaling(numbers, address, count, far)
        self._any_nan = np.array([ANY_NAN in wire.sentinels for wire in numbers], bool)
        self._limits = _Limits(numbers)
        texts = [wire for wire in wires if wire.is_text]
        self._texts = TextDecoder(texts, address) if texts else None

    def decode(self, data: bytes) -> tuple[Values, Codes]:
        """Return values and quality codes; where a code says bad the value is 0."""
        octets = np.frombuffer(data, np.uint8)
        found = _Found(np.zeros(self._numbers), [], [])
        for group in self._groups:
            group.read(octets, found)
        self._bits.read(octets, found)
        with np.errstate(all="ignore"):
            result = self._scaling.apply(found.raw, octets, found.mark)
            result, beyond_limits = self._limits.apply(result)
            good = np.abs(result) <= EXACT_LIMIT
        for large in found.beyond:
            good[large] &= np.abs(result[large]) < EXACT_LIMIT
        if beyond_limits is not None:
            good &= ~beyond_limits
        quality: Codes = np.zeros(self.size, np.uint8)
        if found.marks or not good.all():
            result = self._judge(found, result, good, quality)
        if self._texts is None:
            return result, quality
        quality[self._numbers :] = self._texts.decode(octets)
        return np.concatenate((result, np.zeros(self.size - self._numbers))), quality

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the last answer decoded, in the order of the block's last section."""
        return NO_TEXTS if self._texts is None else self._texts.texts

    def _judge(self, found: _Found, result: Values, good: NDArray[np.bool_], quality: Codes) -> Values:
        """Give what is no value its quality code; the first reason counts."""
        numbers = quality[: self._numbers]
        bad = ~good
        numbers[bad] = np.where(np.isfinite(found.raw[bad]), OUT_OF_RANGE, NAN)
        numbers[(numbers == NAN) & self._any_nan] = SENTINEL
        for points, code in reversed(found.marks):
            numbers[points] = code
        return np.where((numbers == GOOD) | (numbers == INVALID_STATE), result, 0.0)


class _Bits:
    """Coils, discrete inputs, bits of registers, and double points of both."""

    def __init__(self, wires: Sequence[Wire], address: int) -> None:
        members = [(index, wire) for index, wire in enumerate(wires) if wire.type in {"bool", DOUBLE_POINT}]
        self._target = np.array([index for index, _ in members], np.intp)
        places = [_bit_place(wire, address, 0) for _, wire in members]
        self._bytes = np.array([place for place, _ in places], np.intp)
        self._shifts = np.array([shift for _, shift in places], np.uint8)
        double = [(place, wire) for place, (_, wire) in enumerate(members) if wire.type == DOUBLE_POINT]
        self._double = np.array([place for place, _ in double], np.intp)
        high = [_bit_place(wire, address, 1) for _, wire in double]
        self._high_bytes = np.array([place for place, _ in high], np.intp)
        self._high_shifts = np.array([shift for _, shift in high], np.uint8)

    def read(self, octets: NDArray[np.uint8], found: _Found) -> None:
        """Put the bits into `found.raw`."""
        if not self._target.size:
            return
        values = (octets[self._bytes] >> self._shifts) & 1
        if self._double.size:
            values[self._double] += 2 * ((octets[self._high_bytes] >> self._high_shifts) & 1)
            wrong = values[self._double] == 3
            if wrong.any():
                found.mark(self._target[self._double[wrong]], INVALID_STATE)
        found.raw[self._target] = values


class _Limits:
    """What becomes of values beyond min and max, where a point says so."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self._clamp = _bounds(wires, "clamp")
        self._bad = _bounds(wires, "bad")

    def apply(self, values: Values) -> tuple[Values, NDArray[np.bool_] | None]:
        """Return the values, and which of them are bad."""
        if self._clamp is not None:
            values = np.clip(values, *self._clamp)
        if self._bad is None:
            return values, None
        low, high = self._bad
        return values, (values < low) | (values > high)


def _bounds(wires: Sequence[Wire], how: str) -> tuple[Values, Values] | None:
    if not any(wire.point.limits == how for wire in wires):
        return None

    def limit(wire: Wire, value: float | None, none: float) -> float:
        return none if value is None or wire.point.limits != how else value

    return (
        np.array([limit(wire, wire.point.min, -math.inf) for wire in wires]),
        np.array([limit(wire, wire.point.max, math.inf) for wire in wires]),
    )


def _groups(wires: Sequence[Wire], address: int) -> list[_Group]:
    """Return the values by type; fields of more than a byte apart from whole values."""
    members: dict[tuple[str, bool], list[tuple[int, Wire]]] = {}
    for index, wire in enumerate(wires):
        if wire.type not in {"bool", DOUBLE_POINT}:
            members.setdefault((wire.type, wire.bits > 0), []).append((index, wire))
    return [_Group(name, found, address) for (name, _), found in members.items()]


def _from_bcd(bits: NDArray[Any], digits: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the numbers that decimal digits of four bits spell, and which of them have one above 9."""
    shifts = np.arange(4 * (digits - 1), -4, -4).astype(np.uint64)
    nibbles: NDArray[np.uint64] = (bits.astype(np.uint64)[:, None] >> shifts) & np.uint64(15)
    powers = np.array([10**place for place in range(digits - 1, -1, -1)], np.uint64)
    wrong: NDArray[np.bool_] = np.any(nibbles > 9, axis=1)
    return np.asarray(nibbles @ powers, np.uint64), wrong


def _bit_place(wire: Wire, address: int, further: int) -> tuple[int, int]:
    """Return (byte, shift) in the answer of a point's bit, or of the one `further` up."""
    offset = wire.address - address
    if wire.bit is None:
        return (offset + further) // 8, (offset + further) % 8
    bit = wire.bit + further
    return 2 * offset + wire.order.index("A" if bit >= 8 else "B"), bit % 8
