"""What a frame says, in words, for the frame log."""

from __future__ import annotations

import struct
from textwrap import shorten
from typing import Final

from services.comsrv.plugins.modbus.frames import EXCEPTION, MASK_WRITE, READS, WRITE_AND_READ, WRITES, crc

EXCEPTIONS: Final = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "server device failure",
    5: "acknowledge", 6: "server device busy", 8: "memory parity error", 10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}  # fmt: skip
_TABLES: Final = {1: "coils", 2: "inputs", 3: "holding registers", 4: "input registers", 23: "holding registers"}
_WRITTEN: Final = {5: "coil", 6: "holding register", 15: "coils", 16: "holding registers"}
# Words shown of an answer; the hex column has them all.
SHOWN_WORDS: Final = 8
# Characters shown of a request that was refused.
SHOWN_TEXT: Final = 80


def exception_text(code: int) -> str:
    """Return an exception code with its name."""
    return f"exception {code}, {EXCEPTIONS.get(code, 'unknown exception')}"


def refusal(code: int, pdu: bytes) -> str:
    """Return an exception code with its name and what was asked for; of much that was written its start."""
    return f"{exception_text(code)} ({shorten(of_pdu(True, pdu), SHOWN_TEXT, placeholder=' ...')})"


def of_tcp(sent: bool, data: bytes) -> str:
    """Explain a frame with an MBAP header."""
    if len(data) < 8:
        return f"{len(data)} bytes, no frame"
    transaction, protocol, length, unit = struct.unpack_from(">HHHB", data)
    if protocol or length + 6 != len(data):
        return f"{len(data)} bytes, no frame"
    return f"transaction {transaction}, unit {unit}: {of_pdu(sent, data[7:])}"


def of_rtu(sent: bool, data: bytes) -> str:
    """Explain a frame with a CRC."""
    if len(data) < 5:
        return f"{len(data)} bytes, no frame"
    if crc(data[:-2]) != data[-2:]:
        return f"{len(data)} bytes, wrong check bytes"
    return f"unit {data[0]}: {of_pdu(sent, data[1:-2])}"


def of_pdu(sent: bool, pdu: bytes) -> str:
    """Explain function code and data."""
    code = pdu[0]
    if code & EXCEPTION and len(pdu) == 2:
        return f"{exception_text(pdu[1])}, to function {code & ~EXCEPTION}"
    if (code in WRITES and len(pdu) >= 5) or (code == WRITE_AND_READ and sent and len(pdu) >= 10):
        return _write(sent, pdu)
    if code in READS and sent and len(pdu) == 5:
        address, count = struct.unpack(">HH", pdu[1:])
        return f"read {count} {_TABLES[code]} from {address}"
    if code in _TABLES and not sent and len(pdu) == 2 + pdu[1]:
        if code in {1, 2}:
            return f"{_TABLES[code]}: {pdu[2:].hex(' ')}"
        words = struct.unpack(f">{len(pdu) // 2 - 1}H", pdu[2 : 2 + len(pdu) // 2 * 2 - 2])
        more = f" and {len(words) - SHOWN_WORDS} more" if len(words) > SHOWN_WORDS else ""
        return f"{_TABLES[code]}: {', '.join(map(str, words[:SHOWN_WORDS]))}{more}"
    return f"function {code}, {len(pdu) - 1} bytes"


def _write(sent: bool, pdu: bytes) -> str:
    code = pdu[0]
    if code == WRITE_AND_READ:
        read_from, read_count, address, count = struct.unpack_from(">HHHH", pdu, 1)
        return (
            f"write {count} {_WRITTEN[16]} from {address} = {pdu[10:].hex(' ')}, and read {read_count} from {read_from}"
        )
    address, value = struct.unpack(">HH", pdu[1:5])
    verb = "write" if sent else "written:"
    if code == 5:
        return f"{verb} {_WRITTEN[5]} {address} {'on' if value == 0xFF00 else 'off'}"
    if code == MASK_WRITE and len(pdu) == 7:
        return f"{verb} holding register {address}, AND {pdu[3:5].hex()}, OR {pdu[5:7].hex()}"
    if code == 6:
        return f"{verb} {_WRITTEN[6]} {address} = {value}"
    if code not in _WRITTEN:
        return f"function {code}, {len(pdu) - 1} bytes"
    data = f" = {pdu[6:].hex(' ')}" if sent else ""
    return f"{verb} {value} {_WRITTEN[code]} from {address}{data}"
