"""Where a point stands in a Modbus device: the mapping row, checked and made into an address.

Addresses on the wire count from 0. `addressing: one` counts from 1; `modicon` names the
table by the first digit (Modicon 984 notation): 1 coil, 10001 discrete input, 30001 input
register, 40001 holding register, or with six digits 400001.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from pydantic import Field, field_validator

from libs.points import PointKind
from libs.validation import Model, nearest
from services.comsrv.channel import Point, family
from services.comsrv.fields import Integer, Number

Addressing = Literal["zero", "one", "modicon"]

# Wire type -> registers.
WIDTHS: Final = {
    "bool": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2,
    "int64": 4, "uint64": 4, "float64": 4,
}  # fmt: skip
# Byte orders by registers; the first is the default. Letters name the bytes of the value from its
# most significant, A, in the order in which they come over the wire. The four-letter orders mean the
# same for 64 bits: CDAB is the low word first, BADC swaps the bytes of each word, DCBA does both.
ORDERS: Final = {
    1: ("AB", "BA"),
    2: ("ABCD", "CDAB", "BADC", "DCBA"),
    4: ("ABCDEFGH", "GHEFCDAB", "BADCFEHG", "HGFEDCBA"),
}
LONG_ORDERS: Final = dict(zip(("ABCD", "CDAB", "BADC", "DCBA"), ORDERS[4], strict=True))
READ_CODES: Final = (1, 2, 3, 4)
WRITE_CODES: Final = (5, 6, 15, 16)
BIT_CODES: Final = (1, 2, 5, 15)
# Function code -> the code that reads the same table.
READS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 1, 15: 1, 6: 3, 16: 3}
# Code that reads a table -> first digit of its Modicon addresses.
_MODICON: Final = {1: 0, 2: 1, 3: 4, 4: 3}
MAX_ADDRESS: Final = 65535


class Mapping(Model):
    """A row of a mapping table."""

    slave_id: Integer = Field(ge=0, le=255)
    function_code: Integer
    register_address: Integer = Field(ge=0)
    data_type: str
    byte_order: str = ""
    bit_position: Integer | None = Field(None, ge=0, le=15)
    register_count: Integer | None = None
    sentinel: Number | None = None
    verify_address: Integer | None = Field(None, ge=0)

    @field_validator("function_code")
    @classmethod
    def _known_code(cls, code: int) -> int:
        if code not in READS:
            raise ValueError(f"{code} is none of 1, 2, 3, 4, 5, 6, 15, 16")
        return code

    @field_validator("data_type")
    @classmethod
    def _known_type(cls, data_type: str) -> str:
        lowered = data_type.lower()
        if lowered not in WIDTHS:
            raise ValueError(f"unknown wire type {data_type!r}{nearest(lowered, WIDTHS)}")
        return lowered

    @field_validator("byte_order")
    @classmethod
    def _upper(cls, order: str) -> str:
        return order.upper()


class Wire(NamedTuple):
    """A point as it stands on the wire. `bit` is None for anything but a bit of a register."""

    kind: PointKind
    point: Point
    unit: int
    code: int
    address: int
    type: str
    order: str
    bit: int | None
    width: int
    sentinel: float | None
    verify_address: int

    @property
    def read_code(self) -> int:
        """The function code that reads the point's table."""
        return READS[self.code]

    @property
    def is_bit(self) -> bool:
        """True for coils and discrete inputs, which have addresses of their own."""
        return self.code in BIT_CODES


def check(kind: PointKind, point: Point, mapping: Mapping, addressing: Addressing) -> list[str]:
    """Return all that is wrong with a mapping, each in a sentence."""
    found = [*_check_code(kind, mapping), *_check_type(kind, point, mapping)]
    if not found:
        found += _check_order(mapping)
    for name in ("register_address", "verify_address"):
        address = getattr(mapping, name)
        if address is not None:
            found += _check_address(name, address, mapping, addressing)
    return found


def resolve(kind: PointKind, point: Point, mapping: Mapping, addressing: Addressing) -> Wire:
    """Return the point on the wire; the mapping was checked before."""
    width = WIDTHS[mapping.data_type]
    order = mapping.byte_order or ORDERS[width][0]
    is_bit = mapping.function_code in BIT_CODES
    address = wire_address(mapping.register_address, mapping.function_code, addressing)
    verify = mapping.verify_address
    return Wire(
        kind=kind,
        point=point,
        unit=mapping.slave_id,
        code=mapping.function_code,
        address=address,
        type=mapping.data_type,
        order=LONG_ORDERS.get(order, order) if width == 4 else order,
        bit=mapping.bit_position or 0 if mapping.data_type == "bool" and not is_bit else None,
        width=width,
        sentinel=mapping.sentinel,
        verify_address=address if verify is None else wire_address(verify, mapping.function_code, addressing),
    )


def wire_address(address: int, code: int, addressing: Addressing) -> int:
    """Return the address as sent, or -1 where the notation does not allow it."""
    if addressing == "zero":
        return address
    if addressing == "one":
        return address - 1
    digit = _MODICON[READS[code]]
    if digit == 0:
        return address - 1
    # Five digits reach the first 9,999 addresses, six digits all of them.
    for base, last in ((digit * 10_000, 9_999), (digit * 100_000, MAX_ADDRESS + 1)):
        if base < address <= base + last:
            return address - base - 1
    return -1


def _check_code(kind: PointKind, mapping: Mapping) -> list[str]:
    allowed = READ_CODES if kind.readable else WRITE_CODES
    code = mapping.function_code
    if code not in allowed:
        verb = "read" if kind.readable else "written"
        return [f"function_code: a {kind.table} point is {verb} with {', '.join(map(str, allowed))}, not {code}"]
    return []


def _check_type(kind: PointKind, point: Point, mapping: Mapping) -> list[str]:
    found = []
    code, wire_type = mapping.function_code, mapping.data_type
    if code in BIT_CODES and wire_type != "bool":
        found.append(f"data_type: function code {code} carries bits, not {wire_type}")
    if code == 6 and WIDTHS[wire_type] > 1:
        found.append(f"function_code: 6 writes one register, {wire_type} needs {WIDTHS[wire_type]}; use 16")
    if family(wire_type) != point.family and not (kind is PointKind.CONTROL and point.family == "number"):
        found.append(f"data_type: {wire_type} on the wire does not agree with {point.data_type} in the point table")
    if mapping.register_count not in {None, WIDTHS[wire_type]}:
        found.append(f"register_count: {wire_type} has {WIDTHS[wire_type]} registers, not {mapping.register_count}")
    if mapping.sentinel is not None and not kind.readable:
        found.append("sentinel: is for points that are read")
    if mapping.verify_address is not None and kind.readable:
        found.append("verify_address: is for points that are written")
    return found + _check_bit(kind, mapping)


def _check_bit(kind: PointKind, mapping: Mapping) -> list[str]:
    found: list[str] = []
    code, wire_type = mapping.function_code, mapping.data_type
    if mapping.bit_position is not None:
        if wire_type != "bool":
            found.append(f"bit_position: {wire_type} is no bool")
        elif code in BIT_CODES and mapping.bit_position:
            found.append("bit_position: a coil or discrete input has no bits")
        elif not kind.readable and code not in BIT_CODES and mapping.bit_position:
            found.append("bit_position: writing one bit of a register would overwrite the others")
    return found


def _check_order(mapping: Mapping) -> list[str]:
    if not mapping.byte_order:
        return []
    if mapping.function_code in BIT_CODES:
        return ["byte_order: a coil or discrete input has none"]
    width = WIDTHS[mapping.data_type]
    orders = (*ORDERS[width], *LONG_ORDERS) if width == 4 else ORDERS[width]
    if mapping.byte_order not in orders:
        return [f"byte_order: {mapping.data_type} takes {', '.join(orders)}, not {mapping.byte_order}"]
    return []


def _check_address(name: str, address: int, mapping: Mapping, addressing: Addressing) -> list[str]:
    wire = wire_address(address, mapping.function_code, addressing)
    if wire < 0:
        if addressing == "one":
            return [f"{name}: {address} with addressing one; the first address is 1"]
        digit = _MODICON[READS[mapping.function_code]]
        return [f"{name}: {address} is not in table {digit}xxxx, which function code {mapping.function_code} uses"]
    last = wire + (1 if mapping.function_code in BIT_CODES else WIDTHS[mapping.data_type]) - 1
    if last > MAX_ADDRESS:
        if last == wire:
            return [f"{name}: {address} is beyond the last address 65535"]
        return [f"{name}: {mapping.data_type} at {address} ends beyond the last address 65535"]
    return []
