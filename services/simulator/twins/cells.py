"""One point's bytes in a device's memory: packed and unpacked, whatever its wire type.

Letters of an order name the bytes of a value from its most significant, A, as they come over the
wire; 0 is a byte that is none of the value's. Bit tables hold one byte a bit.
"""

from __future__ import annotations

import math
import struct
from typing import Final, NamedTuple

from services.simulator.registers import Table

Raw = int | float | str

_PACKING: Final = {
    "bool": ">H", "double_point": ">H", "int8": ">b", "uint8": ">B", "int16": ">h", "uint16": ">H",
    "int32": ">i", "uint32": ">I", "int64": ">q", "uint64": ">Q", "float16": ">e", "float32": ">f", "float64": ">d",
}  # fmt: skip
_DIGITS: Final = {"bcd16": 4, "bcd32": 8, "bcd64": 16}
TEXT: Final = "string"
TYPES: Final = (*_PACKING, *_DIGITS, TEXT)
# Beyond this a float64 skips integers.
_EXACT: Final = 2**53
# Decimals of a value as it is stored.
_DECIMALS: Final = 6


class Cell(NamedTuple):
    """Where a point stands, how it is packed, and what its raw value means: raw * scale + offset.

    `bit` and `bits` are the place of a field inside the value; None and 0 for a whole one.
    """

    name: str
    table: Table
    address: int
    width: int
    type: str
    order: str
    bit: int | None = None
    bits: int = 0
    scale: float = 1.0
    offset: float = 0.0
    reverse: bool = False
    low: float | None = None
    high: float | None = None
    writable: bool = False
    encoding: str = "ascii"

    @property
    def whole(self) -> bool:
        """True when the point's number is an integer on the wire."""
        return self.type not in {"float16", "float32", "float64", TEXT}

    @property
    def size(self) -> int:
        """Bytes in the memory: one a bit, two a register."""
        return self.width if self.table.bits else 2 * self.width

    def range(self) -> tuple[float, float]:
        """Return the smallest and largest raw number."""
        if self.table.bits:
            return 0, (1 << self.width) - 1
        if self.bits:
            return _span(self.bits, signed=self.type.startswith("int"))
        if self.type in _DIGITS:
            return 0, 10 ** _DIGITS[self.type] - 1
        if not self.whole:
            return {"float16": (-65504.0, 65504.0)}.get(self.type, (-3.4e38, 3.4e38))
        return _span(8 * struct.calcsize(_PACKING[self.type]), signed=self.type.startswith("int"))

    def raw(self, value: float) -> Raw:
        """Return the raw number of a value; one beyond the type's range saturates, as meters do."""
        if self.type == "bool":
            return int(bool(value) != self.reverse)
        number = (value - self.offset) / self.scale
        low, high = self.range()
        number = min(max(number, low), high)
        return round(number) if self.whole else number

    def value(self, raw: Raw) -> float:
        """Return what a raw number means, NaN for a text."""
        if isinstance(raw, str):
            return math.nan
        if self.type == "bool":
            return float(bool(raw) != self.reverse)
        return raw * self.scale + self.offset

    def holds(self, raw: Raw, stored: str) -> bool:
        """Say whether a stored text, six decimals, is the value of a raw number."""
        if isinstance(raw, str):
            return raw.rstrip("\0 ") == stored
        # Twice the last decimal: two machines may round a product differently.
        return abs(self.value(raw) - float(stored)) <= max(2 * 10**-_DECIMALS, abs(float(stored)) * 1e-12)

    def put(self, data: bytearray, at: int, raw: Raw) -> None:
        """Write a raw value into a memory where it starts at `at`; bytes that are none of its own stay."""
        if self.table.bits:
            data[at : at + self.width] = bytes(int(raw) >> place & 1 for place in range(self.width))
        elif isinstance(raw, str):
            self._put_text(data, at, raw)
        elif self.bit is not None and "0" not in self.order:
            held = int.from_bytes(self._bytes(data, at), "big")
            mask = (1 << self.bits) - 1 << self.bit
            held = held & ~mask | int(raw) << self.bit & mask
            self._place(data, at, held.to_bytes(self.size, "big"))
        else:
            self._place(data, at, self._pack(raw))

    def take(self, data: bytes | bytearray, at: int) -> Raw:
        """Read the raw value from a memory where it starts at `at`; the reverse of `put`."""
        if self.table.bits:
            return sum(data[at + place] << place for place in range(self.width))
        if self.type == TEXT:
            return self._take_text(data, at)
        if self.bit is not None and "0" not in self.order:
            held = int.from_bytes(self._bytes(data, at), "big") >> self.bit & (1 << self.bits) - 1
            signed = self.type.startswith("int") and held >> self.bits - 1
            return held - (1 << self.bits) if signed else held
        packed = self._bytes(data, at)
        if self.type in _DIGITS:
            digits = packed.hex()
            return int(digits) if digits.isdecimal() else -1
        number: int | float = struct.unpack(_PACKING[self.type], packed)[0]
        return number

    def _pack(self, raw: float) -> bytes:
        if self.type in _DIGITS:
            return bytes.fromhex(f"{int(raw):0{_DIGITS[self.type]}d}")
        return struct.pack(_PACKING[self.type], raw if not self.whole else int(raw))

    def _place(self, data: bytearray, at: int, packed: bytes) -> None:
        for place, letter in enumerate(self.order):
            if letter != "0":
                data[at + place] = packed[ord(letter) - ord("A")]

    def _bytes(self, data: bytes | bytearray, at: int) -> bytes:
        letters = sorted(letter for letter in self.order if letter != "0")
        return bytes(data[at + self.order.index(letter)] for letter in letters)

    def _put_text(self, data: bytearray, at: int, text: str) -> None:
        places = [place for place, letter in enumerate(self.order) if letter != "0"]
        if self.order == "BA":
            places.reverse()
        packed = text.encode(self.encoding, "replace")
        for index in range(self.width * len(places)):
            register, letter = divmod(index, len(places))
            data[at + 2 * register + places[letter]] = packed[index] if index < len(packed) else 0

    def _take_text(self, data: bytes | bytearray, at: int) -> str:
        places = [place for place, letter in enumerate(self.order) if letter != "0"]
        if self.order == "BA":
            places.reverse()
        packed = bytes(data[at + 2 * register + place] for register in range(self.width) for place in places)
        return packed.split(b"\0", 1)[0].rstrip(b" ").decode(self.encoding, "replace")


def _span(bits: int, *, signed: bool) -> tuple[int, int]:
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def exact(cell: Cell) -> int:
    """Return how many different non-negative integers a cell can tell apart, none of which a float blurs."""
    if cell.type == TEXT:
        return _EXACT
    limits = {"float16": 1 << 11, "float32": 1 << 24, "float64": _EXACT}
    return limits.get(cell.type) or min(int(cell.range()[1]) + 1, _EXACT)
