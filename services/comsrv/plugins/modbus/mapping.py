"""Where a point stands in a Modbus device: the mapping row, made into an address.

Addresses on the wire count from 0. `addressing: one` counts from 1; `modicon` names the
table by the first digit (Modicon 984 notation): 1 coil, 10001 discrete input, 30001 input
register, 40001 holding register, or with six digits 400001.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator

from libs.points import PointKind
from libs.validation import Model, nearest
from services.comsrv.channel import Point
from services.comsrv.fields import Integer, Truth, words
from services.comsrv.plugins.modbus.sentinels import patterns
from services.comsrv.plugins.modbus.wiretypes import (
    DOUBLE_POINT,
    STRING,
    TYPES,
    WIDTHS,
    WIRE_TYPES,
    full_order,
    related_order,
)

Addressing = Literal["zero", "one", "modicon"]

READ_CODES: Final = (1, 2, 3, 4)
WRITE_CODES: Final = (5, 6, 15, 16, 22, 23)
BIT_CODES: Final = (1, 2, 5, 15)
MASK_WRITE: Final = 22
WRITE_AND_READ: Final = 23
# Function code -> the code that reads the same table.
READS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 1, 15: 1, 6: 3, 16: 3, 22: 3, 23: 3}
# Code that reads a table -> first digit of its Modicon addresses.
MODICON: Final = {1: 0, 2: 1, 3: 4, 4: 3}
MAX_ADDRESS: Final = 65535
# What one request reads at most (Modbus V1.1b3, 6.3).
MAX_READ: Final = 125
# Types a register may have that holds the scale of another.
SCALE_TYPES: Final = ("int16", "uint16", "int32", "uint32", "float32")


class Mapping(Model):
    """A row of a mapping table."""

    slave_id: Integer = Field(ge=0, le=255)
    function_code: Integer
    register_address: Integer = Field(ge=0)
    data_type: str
    byte_order: str = ""
    bit_position: Integer | None = Field(None, ge=0, le=63)
    bit_count: Integer | None = Field(None, ge=1, le=53)
    register_count: Integer | None = Field(None, ge=1)
    encoding: Literal["ascii", "utf-8"] = "ascii"
    sentinel: Annotated[tuple[str, ...], BeforeValidator(words)] = ()
    scale_register: Integer | None = Field(None, ge=0)
    scale_data_type: str = "int16"
    scale_mode: Literal["power_of_ten", "factor"] = "power_of_ten"
    read_modify_write: Truth = False
    verify_address: Integer | None = Field(None, ge=0)
    poll_group: str = ""

    @field_validator("function_code")
    @classmethod
    def _known_code(cls, code: int) -> int:
        if code not in READS:
            raise ValueError(f"{code} is none of {', '.join(map(str, sorted(READS)))}")
        return code

    @field_validator("data_type")
    @classmethod
    def _known_type(cls, data_type: str) -> str:
        lowered = data_type.lower()
        if lowered not in WIRE_TYPES:
            raise ValueError(f"unknown wire type {data_type!r}{nearest(lowered, WIRE_TYPES)}")
        # Equal texts of 100,000 rows are one text.
        return sys.intern(lowered)

    @field_validator("scale_data_type")
    @classmethod
    def _known_scale_type(cls, data_type: str) -> str:
        lowered = data_type.lower()
        if lowered not in SCALE_TYPES:
            raise ValueError(f"{data_type!r} is none of {', '.join(SCALE_TYPES)}")
        return lowered

    @field_validator("byte_order")
    @classmethod
    def _upper(cls, order: str) -> str:
        return sys.intern(order.upper())

    @field_validator("encoding", "scale_mode", mode="before")
    @classmethod
    def _lower(cls, text: Any) -> Any:
        return text.lower() if isinstance(text, str) else text

    @property
    def is_bit(self) -> bool:
        """True for coils and discrete inputs."""
        return self.function_code in BIT_CODES

    @property
    def width(self) -> int:
        """Registers, or bits of the tables of bits."""
        if self.is_bit:
            return 2 if self.data_type == DOUBLE_POINT else 1
        return self.register_count or 1 if self.data_type == STRING else WIDTHS[self.data_type]


class ScaleRegister(NamedTuple):
    """The register that holds the scale of another: its power of ten, or the factor itself.

    `far` says that no request reads both: the scale has a request of its own then.
    """

    address: int
    type: str
    order: str
    power: bool
    far: bool = False

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + WIDTHS[self.type]


class Wire(NamedTuple):
    """A point as it stands on the wire.

    `bit` and `bits` are the start and the width of a field inside the value, None and 0 for a
    whole value. `width` counts registers, or bits of the tables of bits. `sentinels` are patterns of
    the value's bits, -1 among them for any NaN.
    """

    kind: PointKind
    point: Point
    unit: int
    code: int
    address: int
    type: str
    order: str
    bit: int | None
    width: int
    sentinels: tuple[int, ...]
    verify_address: int
    bits: int = 0
    scale: ScaleRegister | None = None
    encoding: str = "ascii"
    read_modify_write: bool = False
    group: str = ""

    @property
    def read_code(self) -> int:
        """The function code that reads the point's table."""
        return READS[self.code]

    @property
    def is_bit(self) -> bool:
        """True for coils and discrete inputs, which have addresses of their own."""
        return self.code in BIT_CODES

    @property
    def is_text(self) -> bool:
        """True for a string."""
        return self.type == STRING

    @property
    def start(self) -> int:
        """The first address that must be read with the point: its own, or that of its scale."""
        return self.address if self.scale is None or self.scale.far else min(self.address, self.scale.address)

    @property
    def end(self) -> int:
        """The first address behind what must be read with the point."""
        end = self.address + self.width
        return end if self.scale is None or self.scale.far else max(end, self.scale.end)


def resolve(kind: PointKind, point: Point, mapping: Mapping, addressing: Addressing, longest: int = MAX_READ) -> Wire:
    """Return the point on the wire; the mapping was checked before. A request reads at most `longest` registers."""
    order = full_order(mapping.data_type, mapping.byte_order)
    address = wire_address(mapping.register_address, mapping.function_code, addressing)
    verify = mapping.verify_address
    bit, bits = _field(mapping, order)
    wire = Wire(
        kind=kind,
        point=point,
        unit=mapping.slave_id,
        code=mapping.function_code,
        address=address,
        type=mapping.data_type,
        order=order,
        bit=bit,
        width=mapping.width,
        sentinels=patterns(mapping.data_type, mapping.sentinel),
        verify_address=address if verify is None else wire_address(verify, mapping.function_code, addressing),
        bits=bits,
        scale=_scale(mapping, order, addressing),
        encoding=mapping.encoding,
        read_modify_write=mapping.read_modify_write,
        group=mapping.poll_group,
    )
    if wire.scale is not None and wire.end - wire.start > longest:
        return wire._replace(scale=wire.scale._replace(far=True))
    return wire


def _field(mapping: Mapping, order: str) -> tuple[int | None, int]:
    """Return start and width of the field that a point is, None and 0 for a whole value."""
    start = mapping.bit_position
    if mapping.is_bit or mapping.data_type == STRING:
        return None, 0
    if mapping.data_type == "bool":
        return start or 0, 1
    if mapping.data_type == DOUBLE_POINT:
        return start or 0, 2
    if TYPES[mapping.data_type].size == 1:
        return (8 if order == "A0" else 0), 8
    if mapping.bit_count is None:
        return None, 0
    return start or 0, mapping.bit_count


def _scale(mapping: Mapping, order: str, addressing: Addressing) -> ScaleRegister | None:
    if mapping.scale_register is None:
        return None
    return ScaleRegister(
        wire_address(mapping.scale_register, mapping.function_code, addressing),
        mapping.scale_data_type,
        related_order(order, mapping.scale_data_type),
        mapping.scale_mode == "power_of_ten",
    )


def wire_address(address: int, code: int, addressing: Addressing) -> int:
    """Return the address as sent, or -1 where the notation does not allow it."""
    if addressing == "zero":
        return address
    if addressing == "one":
        return address - 1
    digit = MODICON[READS[code]]
    if digit == 0:
        return address - 1
    # Five digits reach the first 9,999 addresses, six digits all of them.
    for base, last in ((digit * 10_000, 9_999), (digit * 100_000, MAX_ADDRESS + 1)):
        if base < address <= base + last:
            return address - base - 1
    return -1
