"""The search for an answer among frames with an MBAP header.

Source: MODBUS Messaging on TCP/IP V1.0b.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from services.comsrv.plugins.modbus.frames import EXCEPTION, Fault, Query, Receiver, answers, fault_of
from services.comsrv.traffic import Traffic

_MBAP: Final = struct.Struct(">HHHB")
_HEADER: Final = 7
# So many transaction ids that timed out are remembered, to tell a late answer from a foreign one.
REMEMBERED: Final = 64
# An id this close before the present one was used lately.
RECENT: Final = 1000


class TcpReceiver(Receiver):
    """MBAP header and PDU: the transaction id says which request an answer belongs to."""

    def __init__(self, traffic: Traffic) -> None:
        """Start with transaction 0."""
        super().__init__(traffic)
        self._transaction = 0
        self._start = b""
        self._any_unit = False
        self._expired: deque[int] = deque(maxlen=REMEMBERED)

    def ask(self, unit: int, query: Query, *, any_unit: bool) -> bytes:
        """Return the frame to send, and wait for its answer from now on."""
        transaction = self._transaction = (self._transaction + 1) & 0xFFFF
        self._unit, self._query, self._waiting, self._any_unit = unit, query, True, any_unit
        self._start = _MBAP.pack(transaction, 0, query.length + 1, unit) + query.head
        self._size = _HEADER + query.length
        return _MBAP.pack(transaction, 0, len(query.pdu) + 1, unit) + query.pdu

    def in_step(self, unit: int) -> None:
        """Do nothing: transaction ids keep the order."""

    def expire(self) -> str:
        """Give the request up, and know its answer when it comes late."""
        if self._waiting:
            self._expired.append(self._transaction)
        return super().expire()

    def feed(self, data: bytes) -> bytes | Fault | None:
        """Take bytes in; return the answer's PDU when it is whole, or why there will be none."""
        if self._waiting and not self._buffer and len(data) == self._size and data.startswith(self._start):
            self._waiting = False
            self._take(data)
            return data[_HEADER:]
        self._buffer += data
        return self._search()

    def _search(self) -> bytes | Fault | None:
        """Look at each frame in the buffer; behind bytes that are no frame, for the answer's beginning."""
        while len(self._buffer) > _HEADER:
            transaction, protocol, length, unit = _MBAP.unpack_from(self._buffer)
            place = self._buffer.find(self._start) if self._waiting else -1
            if protocol or not 2 <= length <= 254 or 0 < place < length + 6:
                # Out of step: what stands before the answer, or all there is.
                cut = place if place > 0 else len(self._buffer)
                self._drop(self._buffer[:cut], "malformed")
                self._buffer = self._buffer[cut:]
                continue
            if len(self._buffer) < length + 6:
                return None
            frame, self._buffer = self._buffer[: length + 6], self._buffer[length + 6 :]
            found = self._judge(frame, transaction, unit)
            if found is not None:
                return found
        return None

    def _judge(self, frame: bytes, transaction: int, unit: int) -> bytes | Fault | None:
        """Return the answer, or count what a frame is instead."""
        if not self._waiting or transaction != self._transaction:
            self._drop(frame, self._kind_of(transaction))
            return None
        if unit != self._unit and not self._any_unit:
            self._drop(frame, "wrong_unit")
            return None
        pdu = frame[_HEADER:]
        if answers(pdu, self._query):
            self._waiting = False
            if not _begins_a_frame(self._buffer):
                # Half an answer with the next frame in its place: its last bytes are not its own.
                self._drop(frame + self._buffer, "malformed")
                self._buffer = b""
                return Fault("malformed", "the answer runs into another frame")
            self._take(frame)
            return pdu
        if pdu[0] & ~EXCEPTION != self._query.code:
            self._drop(frame, "wrong_function")
            return None
        self._waiting = False
        fault = fault_of(pdu, self._query)
        self._drop(frame, fault.kind)
        return fault

    def _kind_of(self, transaction: int) -> str:
        if transaction in self._expired:
            return "late"
        if (self._transaction - transaction) & 0xFFFF < RECENT:
            return "duplicate"
        return "wrong_transaction"


def _begins_a_frame(data: bytes) -> bool:
    """Say whether bytes behind a frame can be the beginning of another: protocol 0, a length there is."""
    return not any(data[2:4]) and (len(data) < 6 or 2 <= int.from_bytes(data[4:6], "big") <= 254)
