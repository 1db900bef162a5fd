"""Values on the wire: a device's register map, read and written as a master does it.

A register map is data (config/simulate.yaml). Reading encodes the device's present
readings; writing decodes, checks every value and only then applies them, so a write
that is refused changed nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from libs.errors import InvalidError, NotFoundError
from libs.validation import Model
from services.simulator.devices import Device

MAX_ADDRESS: Final = 65535


class Table(StrEnum):
    """The four tables of a Modbus device."""

    COIL = "coil"
    DISCRETE = "discrete"
    INPUT = "input"
    HOLDING = "holding"

    @property
    def bits(self) -> bool:
        """True for the tables of single bits."""
        return self in {Table.COIL, Table.DISCRETE}

    @property
    def writable(self) -> bool:
        """True for the tables a master may write."""
        return self in {Table.COIL, Table.HOLDING}


# struct's code of each wire type.
CODES: Final = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip
WireType = Literal["bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
ByteOrder = Literal["AB", "BA", "ABCD", "CDAB", "BADC", "DCBA"]
# Orders that send the low word first, and those that swap the bytes inside a word.
LOW_WORD_FIRST: Final = frozenset({"CDAB", "DCBA"})
BYTES_SWAPPED: Final = frozenset({"BA", "BADC", "DCBA"})
DEFAULT_ORDER: Final = "ABCD"


class Register(Model):
    """Where one point of a device stands and how it is written there.

    value = raw * scale + offset. 64-bit values take the four-letter orders too: CDAB is
    low word first, BADC swaps the bytes of each word, DCBA does both.
    """

    table: Table
    address: int = Field(ge=0, le=MAX_ADDRESS)
    type: WireType
    byte_order: ByteOrder = DEFAULT_ORDER
    scale: float = 1.0
    offset: float = 0.0
    writable: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if self.table.bits != (self.type == "bool"):
            problems.append(f"type {self.type} does not go into the {self.table} table")
        if self.writable and not self.table.writable:
            problems.append(f"the {self.table} table can't be written")
        if self.scale == 0:
            problems.append("scale must not be 0")
        if self.address + self.words - 1 > MAX_ADDRESS:
            problems.append(f"{self.type} at {self.address} ends beyond address {MAX_ADDRESS}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def words(self) -> int:
        """How many addresses the value takes."""
        return 1 if self.type == "bool" else struct.calcsize(CODES[self.type]) // 2

    def encode(self, value: float) -> list[int]:
        """Return the words of a value; one beyond the type's range saturates, as meters do."""
        if self.type == "bool":
            return [int(value != 0)]
        code = CODES[self.type]
        raw = (value - self.offset) / self.scale
        data = struct.pack(">" + code, raw) if code in "fd" else struct.pack(">" + code, _saturate(raw, code))
        words = list(struct.unpack(f">{self.words}H", data))
        return self._ordered(words)

    def decode(self, words: Sequence[int]) -> float:
        """Return the value of the words; it may be NaN or infinite where the type allows."""
        if self.type == "bool":
            return float(bool(words[0]))
        data = struct.pack(f">{self.words}H", *self._ordered(list(words)))
        raw: float = struct.unpack(">" + CODES[self.type], data)[0]
        # 3 * 0.1 must not lie outside a range that ends at 0.3.
        return round(raw * self.scale + self.offset, 9)

    def _ordered(self, words: list[int]) -> list[int]:
        # Its own inverse, so that encode and decode share it.
        if self.byte_order in LOW_WORD_FIRST:
            words.reverse()
        if self.byte_order in BYTES_SWAPPED:
            words = [(word & 0xFF) << 8 | word >> 8 for word in words]
        return words


def _saturate(raw: float, code: str) -> int:
    bits = struct.calcsize(code) * 8
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if code.islower() else (0, (1 << bits) - 1)
    return min(max(round(raw), low), high)


class Entry(NamedTuple):
    """A point and its register."""

    point: str
    register: Register


class RegisterMap:
    """One device's tables as a master sees them."""

    def __init__(self, device: Device, registers: dict[str, Register]) -> None:
        """Index every address by table."""
        self.device = device
        self.entries: dict[Table, dict[int, Entry]] = {table: {} for table in Table}
        for point, register in registers.items():
            for address in range(register.address, register.address + register.words):
                self.entries[register.table][address] = Entry(point, register)

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """Return the words (or bits) of a span; all of one step.

        Raises:
            NotFoundError: an address of the span is no register (Modbus exception 2).
        """
        entries = self.entries[table]
        readings = self.device.readings()
        words: list[int] = []
        for at in range(address, address + count):
            entry = entries.get(at)
            if entry is None:
                msg = f"{self.device.name}: no {table} at {at}"
                raise NotFoundError(msg)
            register = entry.register
            words.append(register.encode(readings[entry.point])[at - register.address])
        return words

    def write(self, table: Table, address: int, words: Sequence[int]) -> None:
        """Write a span: all of its values, or none.

        Raises:
            NotFoundError: an address is unknown, read-only, or half of a value (exception 2).
            InvalidError: a value is out of the point's range (exception 3).
        """
        values: list[tuple[str, float]] = []
        at, end = address, address + len(words)
        while at < end:
            entry = self.entries[table].get(at)
            if entry is None or not entry.register.writable:
                msg = f"{self.device.name}: {table} {at} can't be written"
                raise NotFoundError(msg)
            point, register = entry
            if at != register.address or at + register.words > end:
                msg = f"{self.device.name}: {table} {at} is a part of {point}"
                raise NotFoundError(msg)
            value = register.decode(words[at - address : at - address + register.words])
            if not math.isfinite(value):
                msg = f"{self.device.name}: {point} takes no {value}"
                raise InvalidError(msg)
            self.device.check(point, value)
            values.append((point, value))
            at += register.words
        for point, value in values:
            self.device.write(point, value)
