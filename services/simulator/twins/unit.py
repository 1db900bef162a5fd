"""One device: its memory, filled anew at each step, and its answers to requests.

Exceptions as the specification has them (V1.1b3, section 7): 1 for a function it lacks, 2 for an
address it lacks, 3 for a count or a value it can't take.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from services.simulator.registers import Table
from services.simulator.twins.cells import Cell
from services.simulator.twins.generators import Generator

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
READS: Final = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
WRITES: Final = {
    5: Table.COIL,
    6: Table.HOLDING,
    15: Table.COIL,
    16: Table.HOLDING,
    22: Table.HOLDING,
    23: Table.HOLDING,
}
MAX_REGISTERS: Final = 125
MAX_BITS: Final = 2000
_ON, _OFF = 0xFF00, 0
Holes = Literal["refuse", "zero"]


class RefusalError(Exception):
    """An exception code instead of an answer."""

    def __init__(self, code: int) -> None:
        """Keep the code."""
        super().__init__(f"exception {code}")
        self.code = code


class Asked(NamedTuple):
    """What a request is about: reading or writing, and which addresses."""

    code: int
    table: Table
    address: int
    number: int
    is_write: bool

    def touches(self, first: int, last: int) -> bool:
        """Say whether an address of a span is asked for."""
        return self.address <= last and first < self.address + self.number


class Memory:
    """The addresses of one table, from the first that a point has to the last."""

    def __init__(self, cells: Sequence[Cell], *, bits: bool) -> None:
        """Reserve them, all zero."""
        self.first = min((cell.address for cell in cells), default=0)
        self.end = max((cell.address + cell.width for cell in cells), default=0)
        self.width = 1 if bits else 2
        self.data = bytearray((self.end - self.first) * self.width)
        self.known = bytearray(self.end - self.first)
        for cell in cells:
            self.known[cell.address - self.first : cell.address + cell.width - self.first] = b"\1" * cell.width

    def at(self, address: int) -> int:
        """Return where an address starts in the data."""
        return (address - self.first) * self.width

    def has(self, address: int, count: int) -> bool:
        """Say whether a point has every address of a span."""
        place = address - self.first
        return place >= 0 and address + count <= self.end and 0 not in self.known[place : place + count]

    def read(self, address: int, count: int) -> bytes:
        """Return the bytes of a span; addresses that no point has are 0."""
        found = bytearray(count * self.width)
        low, high = max(address, self.first), min(address + count, self.end)
        if low < high:
            place = (low - address) * self.width
            found[place : place + (high - low) * self.width] = self.data[self.at(low) : self.at(high)]
        return bytes(found)


class Unit:
    """A device. `step` gives every generated point its next value; what a master writes stays."""

    def __init__(self, name: str, unit_id: int, cells: Sequence[Cell], *, holes: Holes = "refuse") -> None:
        """Lay out the memory. Points are generated once `generators` names them."""
        self.name = name
        self.unit_id = unit_id
        self.cells = tuple(cells)
        self.holes = holes
        self.generators: list[tuple[Cell, Generator]] = []
        self.memories = {
            table: Memory([cell for cell in cells if cell.table is table], bits=table.bits) for table in Table
        }
        self.steps = 0
        self._reverting: list[tuple[int, Memory, int, bytes]] = []

    def step(self) -> None:
        """Advance by one step."""
        self.steps += 1
        for cell, generate in self.generators:
            memory = self.memories[cell.table]
            cell.put(memory.data, memory.at(cell.address), generate(self.steps))

    def restart(self) -> None:
        """Lose everything, as a device does that was switched off: counters begin again."""
        for memory in self.memories.values():
            memory.data[:] = bytes(len(memory.data))
        self.steps = 0
        self.step()

    def image(self) -> dict[str, str]:
        """Return what it holds now: table -> bytes in hexadecimal."""
        return {str(table): memory.data.hex() for table, memory in self.memories.items() if memory.data}

    def answer(self, pdu: bytes, *, written: float = 1.0) -> bytes:
        """Return the answer to a request, both without address and checksum; of a write `written` takes effect."""
        code = pdu[0]
        try:
            if code in READS:
                return self._read(pdu)
            if code in WRITES:
                return self._write(pdu, written)
        except RefusalError as error:
            return bytes((code | 0x80, error.code))
        except (struct.error, IndexError):
            return bytes((code | 0x80, ILLEGAL_VALUE))
        return bytes((code | 0x80, ILLEGAL_FUNCTION))

    def _read(self, pdu: bytes) -> bytes:
        asked = asked_of(pdu)
        limit = MAX_BITS if asked.table.bits else MAX_REGISTERS
        if not 1 <= asked.number <= limit:
            raise RefusalError(ILLEGAL_VALUE)
        memory = self.memories[asked.table]
        if not memory.has(asked.address, asked.number) and (
            self.holes == "refuse" or asked.address + asked.number > 1 << 16
        ):
            raise RefusalError(ILLEGAL_ADDRESS)
        data = memory.read(asked.address, asked.number)
        if asked.table.bits:
            data = _packed(data)
        return bytes((asked.code, len(data))) + data

    def keep(self, asked: Asked, until_ms: int) -> None:
        """Put what stands at some addresses back when the time has come."""
        memory = self.memories[asked.table]
        if memory.has(asked.address, asked.number):
            at = memory.at(asked.address)
            held = bytes(memory.data[at : at + asked.number * memory.width])
            self._reverting.append((until_ms, memory, at, held))

    def revert(self, now_ms: int) -> bool:
        """Put back what is due; say whether anything was."""
        due = [entry for entry in self._reverting if entry[0] <= now_ms]
        for entry in due:
            self._reverting.remove(entry)
            _, memory, at, held = entry
            memory.data[at : at + len(held)] = held
        return bool(due)

    def _write(self, pdu: bytes, written: float) -> bytes:
        asked = asked_of(pdu)
        memory = self.memories[asked.table]
        if not memory.has(asked.address, asked.number):
            raise RefusalError(ILLEGAL_ADDRESS)
        at = memory.at(asked.address)
        data = _written(pdu, asked, memory.data[at : at + asked.number * memory.width])
        size = int(asked.number * written) * memory.width
        memory.data[at : at + size] = data[:size]
        if asked.code == 23:
            # The read comes after the write.
            return bytes((23,)) + self._read(b"\x03" + pdu[1:5])[1:]
        # 15 and 16 answer address and count, the others the request.
        return pdu[:5] if asked.code in {15, 16} else pdu


def asked_of(pdu: bytes) -> Asked:
    """Return what a request of a known function asks for."""
    code = pdu[0]
    address = struct.unpack_from(">H", pdu, 1)[0]
    if code in READS:
        return Asked(code, READS[code], address, struct.unpack_from(">H", pdu, 3)[0], is_write=False)
    if code == 23:
        address, count = struct.unpack_from(">HH", pdu, 5)
        return Asked(code, WRITES[code], address, count, is_write=True)
    count = struct.unpack_from(">H", pdu, 3)[0] if code in {15, 16} else 1
    return Asked(code, WRITES[code], address, count, is_write=True)


def _written(pdu: bytes, asked: Asked, held: bytearray) -> bytes:
    """Return the bytes that a write puts into the memory."""
    if asked.code == 5:
        value = struct.unpack_from(">H", pdu, 3)[0]
        if value not in {_ON, _OFF}:
            raise RefusalError(ILLEGAL_VALUE)
        return bytes((value == _ON,))
    if asked.code == 6:
        return pdu[3:5]
    if asked.code == 22:
        and_mask, or_mask = struct.unpack_from(">HH", pdu, 3)
        now = int.from_bytes(held, "big")
        return int(now & and_mask | or_mask & ~and_mask).to_bytes(2, "big")
    if asked.code == 23:
        # From here on as function code 16 has it.
        pdu = pdu[4:]
    size = (asked.number + 7) // 8 if asked.code == 15 else 2 * asked.number
    if pdu[5] != size or len(pdu) != 6 + size or not 1 <= asked.number <= (1968 if asked.code == 15 else 123):
        raise RefusalError(ILLEGAL_VALUE)
    data = pdu[6:]
    if asked.code in {16, 23}:
        return data
    return bytes(data[place // 8] >> place % 8 & 1 for place in range(asked.number))


def _packed(bits: bytes) -> bytes:
    """Return bits eight a byte, the first in the lowest place."""
    number = sum(bit << place for place, bit in enumerate(bits))
    return number.to_bytes((len(bits) + 7) // 8, "little")
