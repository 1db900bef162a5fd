"""Requests out of a stream of bytes, and answers as frames: Modbus TCP and RTU."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, Protocol

from services.simulator.twins.unit import READS, WRITES

_HEAD: Final = 7
_MAX_LENGTH: Final = 254
# Bytes of an RTU request with a fixed length; 15, 16 and 23 say theirs.
_RTU_LENGTHS: Final = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 22: 10}


class Request(NamedTuple):
    """A request and what its answer must repeat."""

    transaction: int
    unit: int
    pdu: bytes

    @property
    def known(self) -> bool:
        """True for a function that a device may have."""
        return bool(self.pdu) and (self.pdu[0] in READS or self.pdu[0] in WRITES)


class Framing(Protocol):
    """How requests and answers are marked off on a link."""

    def requests(self, buffer: bytearray) -> list[Request]:
        """Take the whole requests out of the buffer.

        Raises:
            ValueError: the bytes are no requests; the link can't be followed any more.
        """

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Return an answer as it goes over the wire."""


class TcpFraming:
    """Modbus TCP: transaction, protocol 0, length, unit."""

    def requests(self, buffer: bytearray) -> list[Request]:
        """Take the whole requests out of the buffer."""
        found = []
        while len(buffer) >= _HEAD + 1:
            transaction, protocol, length, unit = struct.unpack_from(">HHHB", buffer)
            if protocol != 0 or not 2 <= length <= _MAX_LENGTH:
                msg = f"protocol {protocol}, length {length}"
                raise ValueError(msg)
            if len(buffer) < 6 + length:
                break
            found.append(Request(transaction, unit, bytes(buffer[_HEAD : 6 + length])))
            del buffer[: 6 + length]
        return found

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Return an answer with its head."""
        return struct.pack(">HHHB", transaction & 0xFFFF, 0, len(pdu) + 1, unit) + pdu


class RtuFraming:
    """Modbus RTU: unit, function, data, checksum; no transaction number."""

    def requests(self, buffer: bytearray) -> list[Request]:
        """Take the whole requests out of the buffer; bytes that start none are skipped, as a device does."""
        found = []
        while len(buffer) >= 4:
            code = buffer[1]
            length = _RTU_LENGTHS.get(code, 0)
            if code in {15, 16}:
                if len(buffer) < 7:
                    break
                length = 9 + buffer[6]
            if code == 23:
                if len(buffer) < 11:
                    break
                length = 13 + buffer[10]
            if length and len(buffer) < length:
                break
            if length and crc(buffer[: length - 2]) == struct.unpack_from("<H", buffer, length - 2)[0]:
                found.append(Request(0, buffer[0], bytes(buffer[1 : length - 2])))
                del buffer[:length]
            else:
                del buffer[0]
        return found

    def frame(self, transaction: int, unit: int, pdu: bytes) -> bytes:
        """Return an answer with its checksum."""
        del transaction
        body = bytes((unit,)) + pdu
        return body + struct.pack("<H", crc(body))


def _crc_table() -> list[int]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
        table.append(value)
    return table


_CRC: Final = _crc_table()


def crc(data: bytes | bytearray) -> int:
    """Return the checksum of Modbus RTU: CRC-16, polynomial 0xA001, start 0xFFFF (over serial line V1.02, 6.2.2)."""
    value = 0xFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value
