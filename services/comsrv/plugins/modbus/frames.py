"""Requests, and what every search for their answers has in common.

A receiver (`tcp_receiver`, `rtu_receiver`) knows the one request under way and the first
bytes its answer must begin with: transaction, unit, function code and byte count, or the whole
echo of a write. Whatever else comes is counted by kind and dropped, so that no late, foreign
or broken frame becomes a value.

Sources: MODBUS Application Protocol V1.1b3; MODBUS Messaging on TCP/IP V1.0b; MODBUS over
Serial Line V1.02.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from pymodbus.framer.rtu import FramerRTU

from services.comsrv.traffic import Traffic

READS: Final = (1, 2, 3, 4)
WRITES: Final = (5, 6, 15, 16, 22)
MASK_WRITE: Final = 22
WRITE_AND_READ: Final = 23
EXCEPTION: Final = 0x80
# So many kinds of probe are there.
PROBES: Final = 16


class Query(NamedTuple):
    """A request without address or check: what goes out, and what its answer begins with.

    `head` are the first bytes of the answer's PDU, `length` is that PDU's length.
    """

    pdu: bytes
    head: bytes
    length: int

    @property
    def code(self) -> int:
        """The function code."""
        return self.pdu[0]


class Fault(NamedTuple):
    """An answer that came and can't be taken."""

    kind: str
    text: str


@lru_cache(8192)
def read(code: int, address: int, count: int) -> Query:
    """Return a read of registers (3, 4) or bits (1, 2)."""
    byte_count = (count + 7) // 8 if code in {1, 2} else 2 * count
    return Query(struct.pack(">BHH", code, address, count), bytes((code, byte_count)), 2 + byte_count)


def write(pdu: bytes) -> Query:
    """Return a write; its answer repeats the first five bytes, that to a mask write all of it."""
    size = len(pdu) if pdu[0] == MASK_WRITE else 5
    return Query(pdu, pdu[:size], size)


def write_and_read(address: int, data: bytes, read_address: int, count: int) -> Query:
    """Return a write of registers whose answer has the registers at another address, or the same."""
    head = struct.pack(">BHHHHB", WRITE_AND_READ, read_address, count, address, len(data) // 2, len(data))
    return Query(head + data, bytes((WRITE_AND_READ, 2 * count)), 2 + 2 * count)


def probe(query: Query, owed: Collection[bytes]) -> Query:
    """Return a read at the same address whose answer can't be taken for one that is still owed."""
    code = query.code if query.code in READS else 3
    address = int.from_bytes(query.pdu[1:3], "big")
    step = 8 if code in {1, 2} else 1
    candidates = [read(code, address, 1 + step * more) for more in range(PROBES)]
    return next((found for found in candidates if found.head not in owed and found.head != query.head), candidates[-1])


def crc(data: bytes) -> bytes:
    """Return the two check bytes as they go over the wire."""
    return FramerRTU.compute_CRC(data).to_bytes(2, "big")


class Receiver(ABC):
    """Finds the answer to one request at a time."""

    # What a frame of full length that can't be made out is counted as.
    _garbled = "malformed"

    def __init__(self, traffic: Traffic) -> None:
        """Start with nothing awaited."""
        self._traffic = traffic
        self._buffer = b""
        self._size = 0
        self._waiting = False
        self._unit = 0
        self._query = Query(b"\0", b"", 0)

    @abstractmethod
    def ask(self, unit: int, query: Query, *, any_unit: bool) -> bytes:
        """Return the frame to send, and wait for its answer from now on."""

    @abstractmethod
    def feed(self, data: bytes) -> bytes | Fault | None:
        """Take bytes in; return the answer's PDU when it is whole, or why there will be none."""

    def settled(self) -> None:
        """Wait for nothing: the request ended."""
        self._waiting = False

    @abstractmethod
    def in_step(self, unit: int) -> None:
        """Note that a unit answered what it was asked."""

    def expire(self) -> str:
        """Give the request up; return what came instead of an answer, for the message."""
        self._waiting = False
        if not self._buffer:
            return ""
        size = len(self._buffer)
        self._drop(self._buffer, "partial" if size < self._size else self._garbled)
        self._buffer = b""
        return f", only {size} bytes of something"

    def _drop(self, data: bytes, kind: str) -> None:
        """Count a frame, or what is left of one, that is no answer."""
        self._traffic.rejected[kind] += 1
        if self._traffic.frames.on:
            self._traffic.frames.add(False, data, kind)

    def _take(self, data: bytes) -> None:
        if self._traffic.frames.on:
            self._traffic.frames.add(False, data)


def answers(pdu: bytes, query: Query) -> bool:
    """Say whether a PDU is a whole answer to a request, or an exception to it."""
    if len(pdu) == 2 and pdu[0] == query.code | EXCEPTION:
        return True
    return len(pdu) == query.length and pdu.startswith(query.head)


def fault_of(pdu: bytes, query: Query) -> Fault:
    """Return what is wrong with an answer to a request that does not fit it."""
    if query.code in WRITES:
        return Fault("wrong_echo", "the answer does not repeat what was written")
    return Fault("wrong_byte_count", f"{len(pdu) - 2} bytes where {query.length - 2} were asked for")
