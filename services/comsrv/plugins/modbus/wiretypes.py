"""The types a value may have on the wire, and the orders in which its bytes come.

Letters name the bytes of a value from its most significant, A, in the order in which they come
over the wire; 0 is a byte that is none of the value's. ABCD is the order of the Modbus
specification (V1.1b3, 4.2: big-endian), CDAB has the low word first, BADC swaps the bytes of each
word, DCBA does both. For 64 bits the same letters mean the same: words in their order or turned
round, bytes in their order or swapped; four more orders swap the halves of 32 bits instead.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class WireType(NamedTuple):
    """A type: how many bytes, how numpy and struct read them, how many BCD digits (0 for binary)."""

    size: int
    numpy: str
    packing: str
    digits: int = 0


TYPES: Final = {
    "bool": WireType(2, ">u2", ">H"),
    "int8": WireType(1, ">i1", ">b"),
    "uint8": WireType(1, ">u1", ">B"),
    "int16": WireType(2, ">i2", ">h"),
    "uint16": WireType(2, ">u2", ">H"),
    "int32": WireType(4, ">i4", ">i"),
    "uint32": WireType(4, ">u4", ">I"),
    "int64": WireType(8, ">i8", ">q"),
    "uint64": WireType(8, ">u8", ">Q"),
    "float16": WireType(2, ">f2", ">e"),
    "float32": WireType(4, ">f4", ">f"),
    "float64": WireType(8, ">f8", ">d"),
    "bcd16": WireType(2, ">u2", ">H", 4),
    "bcd32": WireType(4, ">u4", ">I", 8),
    "bcd64": WireType(8, ">u8", ">Q", 16),
    "double_point": WireType(2, ">u2", ">H"),
}
STRING: Final = "string"
WIRE_TYPES: Final = (*TYPES, STRING)
# Wire type -> registers; a string has as many as its mapping says.
WIDTHS: Final = {name: (kind.size + 1) // 2 for name, kind in TYPES.items()}
# The smallest and largest integer of a type.
RANGES: Final = {
    name: (0, 10**kind.digits - 1)
    if kind.digits
    else (0, (1 << 8 * kind.size) - 1)
    if "u" in kind.numpy
    else (-(1 << 8 * kind.size - 1), (1 << 8 * kind.size - 1) - 1)
    for name, kind in TYPES.items()
    if "f" not in kind.numpy and name not in {"bool", "double_point"}
}
# Integers whose bits can be taken apart into fields.
FIELD_TYPES: Final = ("int16", "uint16", "int32", "uint32", "int64", "uint64")
# Byte orders by the bytes of a type; the first is the default.
ORDERS: Final = {
    1: ("0A", "A0"),
    2: ("AB", "BA"),
    4: ("ABCD", "CDAB", "BADC", "DCBA"),
    8: (
        "ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA",
        "CDABGHEF", "EFGHABCD", "DCBAHGFE", "FEHGBADC",
    ),
}  # fmt: skip
LONG_ORDERS: Final = dict(zip(ORDERS[4], ORDERS[8][:4], strict=True))
# Two characters a register, the first in the high or the low byte; one in the low or the high byte.
STRING_ORDERS: Final = ("AB", "BA", "0A", "A0")
DOUBLE_POINT: Final = "double_point"


def orders_of(name: str) -> tuple[str, ...]:
    """Return the byte orders a type takes, as its mapping may write them; the first is the default."""
    if name == STRING:
        return STRING_ORDERS
    size = TYPES[name].size
    return (*ORDERS[size], *LONG_ORDERS) if size == 8 else ORDERS[size]


def full_order(name: str, order: str) -> str:
    """Return the order with a letter for every byte on the wire; an empty one is the default."""
    order = order or orders_of(name)[0]
    return LONG_ORDERS.get(order, order) if name != STRING and TYPES[name].size == 8 else order


def byte_places(order: str, size: int) -> list[int]:
    """Return where each byte of a value stands on the wire, from the most significant."""
    return [order.index(chr(ord("A") + place)) for place in range(size)]


def to_wire(order: str, packed: bytes) -> bytes:
    """Put the bytes of a value, most significant first, in the order of the wire."""
    return bytes(0 if letter == "0" else packed[ord(letter) - ord("A")] for letter in order)


def from_wire(order: str, data: bytes, size: int) -> bytes:
    """Return the bytes of a value from the most significant; the reverse of `to_wire`."""
    return bytes(data[place] for place in byte_places(order, size))


def related_order(order: str, name: str) -> str:
    """Return the order of another type on a device whose values come in `order`.

    A device keeps to its habits: words turned round or not, bytes of a word swapped or not.
    """
    size = TYPES[name].size
    letters = order.replace("0", "")
    swapped = letters[0] > letters[1] if len(letters) > 1 else False
    if size == 2:
        return "BA" if swapped else "AB"
    turned = len(letters) > 2 and letters.index("A") >= len(letters) // 2
    return ORDERS[size][2 * swapped + turned] if size in {4, 8} else ORDERS[size][0]
