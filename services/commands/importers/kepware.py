"""The tag CSV that KEPServerEX exports for a device or a tag group of its Modbus drivers.

Sources: "CSV Import/Export" and "Modbus Addressing" of the vendor's help. The file holds tags only:
the unit, the byte order, whether addresses count from 1 and how bits are numbered are
settings of the device, which it does not name.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.errors import ConfigurationError, Problem
from libs.validation import nearest
from services.commands.importers.records import (
    COILS,
    HOLDING,
    INPUTS,
    TABLES,
    Choices,
    Import,
    RefusedError,
    Tag,
    number,
    read_text,
    wire_address,
)

COLUMNS: Final = (
    "tag name", "address", "data type", "respect data type", "client access", "scan rate", "scaling", "raw low",
    "raw high", "scaled low", "scaled high", "scaled data type", "clamp low", "clamp high", "eng units",
    "description", "negate value",
)  # fmt: skip
REQUIRED: Final = ("tag name", "address")
TYPES: Final = {
    "boolean": "bool", "short": "int16", "word": "uint16", "long": "int32", "dword": "uint32", "llong": "int64",
    "qword": "uint64", "float": "float32", "double": "float64", "bcd": "bcd16", "lbcd": "bcd32", "string": "string",
}  # fmt: skip
# W before the address: the driver never reads it. The item has up to five digits, padded or not.
_ADDRESS: Final = re.compile(r"(W?)([0134])(\d{1,5})(?:\.(\d{1,3})([HL]?))?", re.IGNORECASE)
# A device whose zero-based bit addressing is off has bits 1 to 16.
_BIT_16: Final = re.compile(r"W?[34]\d{1,5}\.16", re.IGNORECASE)
# Eng Units as the server writes it; the other two by the vendor's help and by programs that write such files.
_UNITS: Final = re.compile(r"eng(\.|ineering) units")
_ARRAY: Final = re.compile(r"\[\s*\d+\s*\]")
_ACCESS: Final = {
    "ro": (True, False), "r": (True, False), "r/w": (True, True), "rw": (True, True), "wo": (False, True),
    "w": (False, True), "": (True, True),
}  # fmt: skip
MAX_STRING: Final = 240
LAST_BIT: Final = 15
DEFAULT_ORDER: Final = "CDAB"
DEFAULT_UNIT: Final = 1


class Address(NamedTuple):
    """An address: table, item, bit and length of a text, and whether it is only written."""

    table: int
    address: int
    bit: int | None
    text: tuple[int, str] | None
    write_only: bool


def read(path: Path, choices: Choices) -> Import:
    """Read a tag CSV.

    Raises:
        ConfigurationError: it is no such file; every problem of its form.
    """
    found = Import(path, name=path.stem)
    if choices.device is not None:
        raise ConfigurationError([Problem(str(path), "a tag CSV is of one device; --device is for other formats")])
    text = read_text(path, ("utf-8-sig", "cp1252"))
    if text.encode() not in path.read_bytes():
        found.assumed.append("letters beyond ASCII are Windows-1252; where names look wrong, save the file as UTF-8")
    rows = _rows(path, text)
    first = 1 if choices.first_address is None else choices.first_address
    sixteenth = next((line for line, row in rows if _BIT_16.fullmatch(row["address"])), None)
    for line, row in rows:
        try:
            place = parse_address(row["address"], first, 0 if sixteenth is None else 1)
            found.tags.append(_tag(line, row, place, choices, found))
        except RefusedError as refused:
            found.lose(line, row["tag name"], "tag", str(refused))
    _assume(found, choices, sixteenth)
    respected = [line for line, row in rows if row.get("respect data type") == "0"]
    if respected:
        reason = f"what an OPC client asks for does not matter here (tags: {len(respected)})"
        found.lose(respected[0], "", "Respect Data Type 0", reason)
    return found


def _rows(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with the line each starts on; lines before the header that begin with ; are remarks."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith((";", "#"))), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",")
    header: list[str] = []
    rows, problems, start = [], [], 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            stripped = [cell.strip() for cell in cells]
            if not any(stripped) or (not header and stripped[0].startswith((";", "#"))):
                continue
            if not header:
                header = [_UNITS.sub("eng units", cell.lower()) for cell in stripped]
                problems += _header(header, f"{path}:{line}")
            elif any(stripped[len(header) :]):
                problems.append(Problem(f"{path}:{line}", f"{len(cells)} cells under {len(header)} columns"))
            else:
                rows.append((line, dict.fromkeys(REQUIRED, "") | dict(zip(header, stripped, strict=False))))
    except csv.Error as error:
        problems.append(Problem(f"{path}:{reader.line_num}", f"is no CSV: {error}"))
    if not header:
        problems.append(Problem(f"{path}:1", "is empty; the first line of an export is Tag Name,Address,Data Type,..."))
    if problems:
        raise ConfigurationError(problems)
    return rows


def _header(header: list[str], where: str) -> list[Problem]:
    unknown = [name for name in header if name and name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in header]
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    return [
        *(Problem(where, f"unknown column {name!r}{nearest(name, COLUMNS)}") for name in unknown),
        *(Problem(where, f"column {name!r} is missing") for name in missing),
        *(Problem(where, f"column {name!r} stands twice") for name in twice),
    ]


def _tag(line: int, row: dict[str, str], place: Address, choices: Choices, found: Import) -> Tag:
    name = row["tag name"]
    if not name:
        raise RefusedError("has no name")
    if name.startswith("_"):
        raise RefusedError("a name that begins with _ is a system tag of the server")
    wire_type = _type(row.get("data type", ""), place)
    access = row.get("client access", "")
    if access.lower() not in _ACCESS:
        raise RefusedError(f"Client Access: {access!r} is none of RO, R/W, WO")
    readable, writable = _ACCESS[access.lower()]
    readable = readable and not place.write_only
    if writable and place.table not in {COILS, HOLDING}:
        if not readable:
            raise RefusedError("is only written, and stands in a table that can't be")
        if access:
            found.lose(line, name, f"Client Access {access}", "this table can't be written; it is read")
        writable = False
    values = _scaling(line, row, wire_type, found)
    long = wire_type in {"int32", "uint32", "int64", "uint64", "float32", "float64", "bcd32"}
    order = (choices.byte_order or DEFAULT_ORDER) if long else ""
    if place.text is not None:
        order = {"H": "AB", "L": "BA"}[place.text[1]]
    return Tag(
        line, name, DEFAULT_UNIT if choices.unit is None else choices.unit, place.table, place.address, wire_type,
        order, bit=place.bit, registers=(place.text[0] + 1) // 2 if place.text else None, readable=readable,
        writable=writable, unit=row.get("eng units", ""), description=row.get("description", ""),
        interval_ms=_interval(line, name, row.get("scan rate", ""), found), **values,
    )  # fmt: skip


def parse_address(text: str, first: int, first_bit: int = 0) -> Address:
    """Read an address of the Modbus drivers.

    Raises:
        RefusedError: it is none, or one that has no point of ours.
    """
    if _ARRAY.search(text):
        raise RefusedError(f"address {text!r} is an array; give each element a tag")
    if "#" in text:
        raise RefusedError(f"address {text!r} packs coils into a number; give each coil a tag")
    if text[:1] in {"h", "H"} or text[:2].lower() == "wh":
        raise RefusedError(f"address {text!r} is hexadecimal; write it in decimal")
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise RefusedError(f"address {text!r} is no Modbus address such as 400001, 400001.3 or 400001.20H")
    table = TABLES[match[2]]
    address = wire_address(match[3], first)
    write_only, part, packing = bool(match[1]), match[4], match[5].upper() if match[5] else ""
    if part is None:
        return Address(table, address, None, None, write_only)
    if table in {COILS, INPUTS}:
        raise RefusedError(f"address {text!r}: a coil or an input has no parts")
    if packing:
        length = int(part)
        if not 1 < length <= MAX_STRING:
            raise RefusedError(f"address {text!r}: a text has 2 to {MAX_STRING} bytes")
        return Address(table, address, None, (length, packing), write_only)
    bit = int(part) - first_bit
    if not 0 <= bit <= LAST_BIT:
        raise RefusedError(f"address {text!r}: bits count from {first_bit} to {first_bit + LAST_BIT} here")
    return Address(table, address, bit, None, write_only)


def _type(declared: str, place: Address) -> str:
    """Return the type on the wire; Default is what the driver takes for the address."""
    natural = "bool" if place.table in {COILS, INPUTS} or place.bit is not None else "string" if place.text else "word"
    key = declared.lower()
    if key in {"", "default"}:
        return TYPES.get(natural, natural)
    if key not in TYPES:
        raise RefusedError(f"Data Type: {declared!r} is none that the Modbus drivers have{nearest(key, TYPES)}")
    wire_type = TYPES[key]
    if (wire_type == "bool") != (natural == "bool"):
        raise RefusedError(f"Data Type: {declared} does not go with this address")
    if (wire_type == "string") != (natural == "string"):
        raise RefusedError(
            f"Data Type: a {declared} here; a text has a length and H or L in its address, as 400001.20H"
        )
    return wire_type


def _scaling(line: int, row: dict[str, str], wire_type: str, found: Import) -> dict[str, Any]:
    """Return scale, offset and limits. Clamps limit the scaled value, so they are min and max."""
    name, mode = row["tag name"], row.get("scaling", "").lower()
    negated = row.get("negate value", "").lower() in {"1", "true", "yes"}
    if mode in {"", "none"}:
        if negated:
            raise RefusedError("Negate Value without Scaling; what it does then is not documented")
        return {}
    if mode != "linear":
        raise RefusedError(f"Scaling: {row['scaling']}; only linear scaling is a scale and an offset")
    if wire_type in {"bool", "string"}:
        raise RefusedError(f"Scaling: a {wire_type} has none")
    columns = ("raw low", "raw high", "scaled low", "scaled high")
    raw_low, raw_high, low, high = (number(row.get(column, ""), column.title()) for column in columns)
    if raw_low == raw_high or low == high:
        raise RefusedError("Scaling: low and high are the same")
    scale = (high - low) / (raw_high - raw_low)
    offset = low - raw_low * scale
    values: dict[str, Any] = {"scale": -scale, "offset": -offset} if negated else {"scale": scale, "offset": offset}
    clamps = [row.get(column, "").lower() in {"1", "true", "yes"} for column in ("clamp low", "clamp high")]
    if any(clamps) and (negated or low > high):
        found.lose(line, name, "Clamp", "with a negated or falling scale it is not documented which end is meant")
    elif any(clamps):
        values |= {"minimum": low if clamps[0] else None, "maximum": high if clamps[1] else None}
    if row.get("scaled data type", "").lower() not in {"", "float", "double", "default"}:
        found.lose(line, name, f"Scaled Data Type {row['scaled data type']}", "scaled values are not rounded")
    return values


def _interval(line: int, name: str, text: str, found: Import) -> int | None:
    if text in {"", "0"}:
        return None
    try:
        return round(number(text, "Scan Rate"))
    except RefusedError as refused:
        found.lose(line, name, "Scan Rate", str(refused))
        return None


def _assume(found: Import, choices: Choices, sixteenth: int | None) -> None:
    """Say what the file leaves open."""
    if choices.unit is None:
        found.assumed.append(f"unit {DEFAULT_UNIT}: the file does not name the device's; --unit")
    if choices.byte_order is None and any(tag.order == DEFAULT_ORDER for tag in found.tags):
        found.assumed.append(f"{DEFAULT_ORDER} (first word low, the driver's default) for 32 and 64 bits; --byte-order")
    if choices.first_address is None:
        text = "addresses count from 1 (400001 is the first register), the driver's default; --first-address"
        found.assumed.append(text)
    if sixteenth is not None:
        found.assumed.append(f"bits count from 1, because line {sixteenth} has a bit 16")
    elif any(tag.bit is not None for tag in found.tags):
        found.assumed.append("bits count from 0, the least significant, the driver's default")
