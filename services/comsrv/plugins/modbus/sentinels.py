"""Values that mean "there is none", as patterns of the bits on the wire.

A mapping names them as numbers of the type (-32768), as bits (0x8000), as `nan` for any NaN, or
as `sunspec` for what SunSpec says an unimplemented point of the type holds.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Final

from services.comsrv.plugins.modbus.wiretypes import RANGES, STRING, TYPES

ANY_NAN: Final = -1
# SunSpec Device Information Model Specification, "Unimplemented" values by type.
_SUNSPEC: Final = {
    "int16": 0x8000, "uint16": 0xFFFF, "int32": 0x8000_0000, "uint32": 0xFFFF_FFFF,
    "int64": 0x8000_0000_0000_0000, "uint64": 0xFFFF_FFFF_FFFF_FFFF,
    "float32": 0x7FC0_0000, "float64": 0x7FF8_0000_0000_0000,
}  # fmt: skip
_HEX: Final = re.compile(r"0[xX]([0-9a-fA-F]{1,16})")
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def patterns(name: str, words: tuple[str, ...]) -> tuple[int, ...]:
    """Return the patterns of a type's sentinels; what `problem` finds fault with is left out."""
    return tuple(found for word in words for found in _pattern(name, word) or ())


def problem(name: str, word: str) -> str | None:
    """Return what is wrong with a sentinel of a type, or None."""
    if name in {"bool", "double_point"}:
        return f"{name} has none"
    if _pattern(name, word) is None:
        return f"{word!r} is nothing {name} can hold; write a number, 0x and its bits, nan, or sunspec"
    return None


def _pattern(name: str, word: str) -> tuple[int, ...] | None:
    """Return the patterns a word stands for; None where it is none of the type."""
    word = word.lower()
    if name == STRING:
        return (0,) if word == "sunspec" else None
    kind = TYPES[name]
    is_float = "f" in kind.numpy
    if word == "sunspec":
        return (_SUNSPEC[name],) if name in _SUNSPEC else None
    if word == "nan":
        return (ANY_NAN,) if is_float else None
    if match := _HEX.fullmatch(word):
        bits = int(match[1], 16)
        return (bits,) if bits < 1 << 8 * kind.size else None
    if not _NUMBER.fullmatch(word):
        return None
    return _of_float(kind.packing, float(word)) if is_float else _of_integer(name, word)


def _of_float(packing: str, value: float) -> tuple[int, ...] | None:
    try:
        packed = struct.pack(packing, value)
    except OverflowError:
        return None
    bits = int.from_bytes(packed, "big")
    if not math.isfinite(value):
        return None
    # Zero has two patterns.
    return (0, 1 << 8 * len(packed) - 1) if value == 0 else (bits,)


def _of_integer(name: str, word: str) -> tuple[int, ...] | None:
    try:
        value = int(word)
    except ValueError:
        value = int(float(word)) if float(word).is_integer() else -(1 << 80)
    low, high = RANGES[name]
    if not low <= value <= high:
        return None
    kind = TYPES[name]
    if kind.digits:
        return (int(str(value), 16),)
    return (value & ((1 << 8 * kind.size) - 1),)
