"""Which address shows which point: `config/modbus_server.csv`, checked whole.

    unit,table,address,reference,data_type,byte_order,scale,offset,writable,description

`table`, `address` and `reference` are required. Addresses count from 0. A register shows
`(value - offset) / scale`, so scale and offset mean what they mean in a point table.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from libs.errors import ConfigurationError, Problem
from libs.points import Reference, parse_reference
from libs.validation import Model, Ref, nearest, problems_of
from services.comsrv.fields import Integer, Number, Truth
from services.comsrv.serving.settings import Mirrors
from services.comsrv.tables.reader import read_table

TableName = Literal["coil", "discrete", "input", "holding"]
# Data type -> (numpy type, registers). A bit table has bool only.
TYPES: Final = {
    "int16": (">i2", 1), "uint16": (">u2", 1), "int32": (">i4", 2), "uint32": (">u4", 2), "float32": (">f4", 2),
    "int64": (">i8", 4), "uint64": (">u8", 4), "float64": (">f8", 4),
}  # fmt: skip
ORDERS: Final = ("ABCD", "CDAB", "BADC", "DCBA")
ADDRESSES: Final = 65536
BITS: Final = frozenset(("coil", "discrete"))


class Served(Model):
    """One row: a point and where it is shown."""

    unit: Integer = Field(1, ge=0, le=247)
    table: TableName
    address: Integer = Field(ge=0, lt=ADDRESSES)
    reference: Ref
    data_type: str = ""
    byte_order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"
    scale: Number = 1.0
    offset: Number = 0.0
    writable: Truth = False
    description: str = Field("", max_length=1024)

    @field_validator("data_type")
    @classmethod
    def _known_type(cls, data_type: str) -> str:
        lowered = data_type.lower()
        if lowered not in {"", "bool", *TYPES}:
            raise ValueError(f"unknown type {data_type!r}{nearest(lowered, ('bool', *TYPES))}")
        return lowered

    @model_validator(mode="after")
    def _sense(self) -> Served:
        found = []
        if self.bits != (self.type == "bool"):
            found.append(f"data_type: a {self.table} can't hold {self.type}")
        if self.scale == 0:
            found.append("scale must not be 0")
        if self.bits and (self.scale, self.offset) != (1.0, 0.0):
            found.append("a bit has no scale or offset")
        if self.writable and self.table in {"discrete", "input"}:
            found.append(f"writable: a {self.table} is for reading only")
        if self.writable and (self.point.service != "comsrv" or str(self.point.kind) not in {"C", "A"}):
            found.append(f"writable: {self.reference} is no point that can be commanded")
        if self.address + self.width > ADDRESSES:
            found.append(f"address: {self.type} at {self.address} ends beyond 65535")
        if found:
            raise ValueError("; ".join(found))
        return self

    @property
    def bits(self) -> bool:
        """True in a table of bits."""
        return self.table in BITS

    @property
    def type(self) -> str:
        """The data type; float32 in registers and bool in bits where none is given."""
        return self.data_type or ("bool" if self.bits else "float32")

    @property
    def width(self) -> int:
        """Addresses it takes."""
        return 1 if self.type == "bool" else TYPES[self.type][1]

    @property
    def point(self) -> Reference:
        """The reference, parsed."""
        return parse_reference(self.reference)


def load_table(path: Path, mirrors: Mirrors) -> list[tuple[str, Served]]:
    """Read the table; return each row with its place (`file:line`).

    Raises:
        ConfigurationError: every problem with file and line.
    """
    problems: list[Problem] = []
    form = read_table(path, tuple(Served.model_fields), ("table", "address", "reference"), problems)
    rows: list[tuple[str, Served]] = []
    for line, cells in form.rows:
        where = f"{path}:{line}"
        try:
            rows.append((where, Served.model_validate(cells)))
        except ValidationError as error:
            problems += [Problem(where, str(problem)) for problem in _of(error)]
    problems += _overlaps(rows, mirrors)
    if problems:
        raise ConfigurationError(problems)
    return rows


def _of(error: ValidationError) -> list[str]:
    return [
        problem.message if problem.where == "(document)" else f"{problem.where}: {problem.message}"
        for problem in problems_of(error, Served)
    ]


def _overlaps(rows: Iterable[tuple[str, Served]], mirrors: Mirrors) -> list[Problem]:
    """Find rows whose addresses, or those of their quality or age, are taken by a row before."""
    taken: dict[tuple[int, str, int], str] = {}
    problems = (_overlap(where, served, mirrors, taken) for where, served in rows)
    return [problem for problem in problems if problem is not None]


def _overlap(where: str, served: Served, mirrors: Mirrors, taken: dict[tuple[int, str, int], str]) -> Problem | None:
    """Take a row's addresses; return the first that can't be had."""
    distances = {"": 0, "the quality of ": mirrors.quality, "the age of ": None if served.bits else mirrors.age}
    for what, distance in distances.items():
        if distance is None:
            continue
        for address in range(served.address + distance, served.address + distance + served.width):
            if address >= ADDRESSES:
                return Problem(where, f"{what}address {served.address} would stand at {address}, beyond 65535")
            place = (served.unit, served.table, address)
            if place in taken:
                there = f"at {address}, where {taken[place]} is"
                return Problem(where, f"{what}{served.table} {served.address} would stand {there}")
            taken[place] = f"{what}the row of {where}"
    return None


def suggest(points: Iterable[tuple[str, str, bool, str]]) -> list[dict[str, Any]]:
    """Return rows that show points one after the other, for `voltage modbus-server generate`.

    Args:
        points: (reference, type family, writable, description) of each point.
    """
    rows: list[dict[str, Any]] = []
    following = {"discrete": 0, "coil": 0, "input": 0, "holding": 0}
    for reference, family, writable, description in points:
        if family == "bool":
            table, data_type = ("coil" if writable else "discrete"), "bool"
        else:
            table, data_type = ("holding" if writable else "input"), "float32"
        rows.append({
            "unit": 1, "table": table, "address": following[table], "reference": reference, "data_type": data_type,
            "byte_order": "ABCD", "writable": "", "description": description,
        })  # fmt: skip
        following[table] += 1 if data_type == "bool" else 2
    return rows
