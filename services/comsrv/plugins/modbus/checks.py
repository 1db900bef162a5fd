"""What may be wrong with a mapping row, each thing in a sentence that begins with its column."""

from __future__ import annotations

from typing import Final

from libs.points import PointKind
from services.comsrv.channel import Point, Polling, family
from services.comsrv.plugins.modbus import sentinels
from services.comsrv.plugins.modbus.mapping import (
    BIT_CODES,
    MASK_WRITE,
    MAX_ADDRESS,
    MAX_READ,
    MODICON,
    READ_CODES,
    READS,
    WRITE_AND_READ,
    WRITE_CODES,
    Addressing,
    Mapping,
    resolve,
    wire_address,
)
from services.comsrv.plugins.modbus.wiretypes import (
    DOUBLE_POINT,
    FIELD_TYPES,
    STRING,
    STRING_ORDERS,
    TYPES,
    WIDTHS,
    orders_of,
)

# What one request writes at most (Modbus V1.1b3, 6.12).
MAX_WRITTEN: Final = 123
MAX_WRITTEN_AND_READ: Final = 121
SINGLE_WRITES: Final = (6, MASK_WRITE)


def check(kind: PointKind, point: Point, mapping: Mapping, addressing: Addressing) -> list[str]:
    """Return all that is wrong with a mapping, each in a sentence."""
    found = [*_check_code(kind, mapping), *_check_type(kind, point, mapping)]
    if not found:
        found = [*_check_order(mapping), *_check_bits(kind, mapping), *_check_reading(kind, mapping)]
    for name in ("register_address", "verify_address", "scale_register"):
        address = getattr(mapping, name)
        if address is not None:
            found += _check_address(name, address, mapping, addressing)
    return found


def check_length(
    kind: PointKind, point: Point, mapping: Mapping, addressing: Addressing, polling: Polling
) -> list[str]:
    """Return what is wrong with a checked mapping whose value is longer than a request of its unit may be."""
    if not kind.readable or mapping.is_bit:
        return []
    most = polling.of(mapping.slave_id).max_registers
    wire = resolve(kind, point, mapping, addressing, most)
    if wire.end - wire.start <= most:
        return []
    column = "register_count" if wire.is_text else "data_type"
    limit = f"max_registers of unit {wire.unit} is {most}"
    return [f"{column}: {wire.end - wire.start} registers are read at once, and {limit}"]


def _check_code(kind: PointKind, mapping: Mapping) -> list[str]:
    allowed = READ_CODES if kind.readable else WRITE_CODES
    code = mapping.function_code
    if code not in allowed:
        verb = "read" if kind.readable else "written"
        return [f"function_code: {kind.table} points are {verb} with {', '.join(map(str, allowed))}, not {code}"]
    return []


def _check_type(kind: PointKind, point: Point, mapping: Mapping) -> list[str]:
    found = []
    code, wire_type = mapping.function_code, mapping.data_type
    if mapping.is_bit and wire_type not in {"bool", DOUBLE_POINT}:
        found.append(f"data_type: function code {code} carries bits, not {wire_type}")
    if code == 5 and wire_type == DOUBLE_POINT:
        found.append("function_code: 5 writes one bit, a double point has two; use 15")
    found += _check_count(kind, mapping)
    if not found and code in SINGLE_WRITES and mapping.width > 1:
        found.append(f"function_code: {code} writes one register, {wire_type} needs {mapping.width}; use 16")
    # A field of one bit may be a signal, and a state of two bits a number.
    of_wire = family(wire_type)
    agree = {of_wire, "number"} if of_wire == "double" or kind is PointKind.CONTROL else {of_wire}
    if mapping.bit_count == 1:
        agree.add("bool")
    if point.family not in agree:
        found.append(f"data_type: {wire_type} on the wire does not agree with {point.data_type} in the point table")
    if mapping.verify_address is not None and kind.readable:
        found.append("verify_address: is for points that are written")
    return found


def _check_count(kind: PointKind, mapping: Mapping) -> list[str]:
    wire_type, count = mapping.data_type, mapping.register_count
    if wire_type != STRING:
        if count not in {None, WIDTHS[wire_type]}:
            return [f"register_count: {wire_type} has {WIDTHS[wire_type]} registers, not {count}"]
        return []
    if count is None:
        return ["register_count: a string needs the number of its registers"]
    most = MAX_WRITTEN_AND_READ if mapping.function_code == WRITE_AND_READ else MAX_WRITTEN
    most = MAX_READ if kind.readable else most
    return [f"register_count: at most {most}, not {count}"] if count > most else []


def _check_order(mapping: Mapping) -> list[str]:
    if not mapping.byte_order:
        return []
    if mapping.is_bit:
        return ["byte_order: a coil or discrete input has none"]
    orders = orders_of(mapping.data_type)
    if mapping.byte_order not in orders:
        return [f"byte_order: {mapping.data_type} takes {', '.join(orders)}, not {mapping.byte_order}"]
    return []


def _check_bits(kind: PointKind, mapping: Mapping) -> list[str]:
    """Check the field inside a value, and that a write of it leaves its neighbours alone."""
    found = []
    wire_type, start, count = mapping.data_type, mapping.bit_position, mapping.bit_count
    wide = 16 if wire_type in {"bool", DOUBLE_POINT} else 8 * TYPES[wire_type].size if wire_type in FIELD_TYPES else 0
    whole = 2 if wire_type == DOUBLE_POINT else 1
    if mapping.is_bit:
        if start or count:
            found.append("bit_position: a coil or discrete input has no bits")
    elif (start is not None or count is not None) and not wide:
        found.append(f"bit_position: {wire_type} has no bits; {', '.join(('bool', *FIELD_TYPES))} have")
    elif count is None and start is not None and wire_type in FIELD_TYPES:
        found.append(f"bit_count: how many bits of the {wire_type} from bit {start} on")
    elif wire_type in {"bool", DOUBLE_POINT} and count not in {None, whole}:
        found.append(f"bit_count: {wire_type} has {whole}; a wider field is of an integer such as uint16")
    elif (start or 0) + (count or whole) > wide > 0:
        found.append(f"bit_position: {wire_type} has bits 0 to {wide - 1}")
    return found + ([] if kind.readable else _check_partial_write(mapping))


def _check_partial_write(mapping: Mapping) -> list[str]:
    partial = bool(mapping.bit_position or mapping.bit_count) or mapping.data_type in {"int8", "uint8"}
    declared = mapping.read_modify_write or mapping.function_code == MASK_WRITE
    if mapping.read_modify_write and mapping.function_code not in {6, 16}:
        return ["read_modify_write: is for function codes 6 and 16"]
    if mapping.function_code == MASK_WRITE and mapping.data_type == STRING:
        return ["function_code: 22 writes bits of one register, no string"]
    if partial and not declared and not mapping.is_bit:
        remedy = "use function code 22 (mask write) or read_modify_write"
        return [f"bit_position: writing a part of a register would overwrite the rest; {remedy}"]
    return []


def _check_reading(kind: PointKind, mapping: Mapping) -> list[str]:
    """Check what the value is told by: sentinels, encoding, the register of its scale."""
    found = []
    if mapping.sentinel and not kind.readable:
        found.append("sentinel: is for points that are read")
    elif mapping.sentinel:
        problems = (sentinels.problem(mapping.data_type, word) for word in mapping.sentinel)
        found += [f"sentinel: {text}" for text in problems if text]
    if "encoding" in mapping.model_fields_set and mapping.data_type != STRING:
        found.append(f"encoding: is for strings ({', '.join(STRING_ORDERS)}), not {mapping.data_type}")
    if mapping.scale_register is not None and mapping.data_type in {"bool", DOUBLE_POINT, STRING}:
        found.append(f"scale_register: {mapping.data_type} has no scale")
    if mapping.scale_register is None and mapping.model_fields_set & {"scale_data_type", "scale_mode"}:
        found.append("scale_register: is missing, and scale_data_type or scale_mode says what it holds")
    return found


def _check_address(name: str, address: int, mapping: Mapping, addressing: Addressing) -> list[str]:
    wire = wire_address(address, mapping.function_code, addressing)
    if wire < 0:
        if addressing == "one":
            return [f"{name}: {address} with addressing one; the first address is 1"]
        digit = MODICON[READS[mapping.function_code]]
        return [f"{name}: {address} is not in table {digit}xxxx, which function code {mapping.function_code} uses"]
    wire_type = mapping.scale_data_type if name == "scale_register" else mapping.data_type
    width = WIDTHS[wire_type] if name == "scale_register" else mapping.width
    if wire + width - 1 > MAX_ADDRESS:
        if width == 1 or mapping.function_code in BIT_CODES:
            return [f"{name}: {address} is beyond the last address 65535"]
        return [f"{name}: {wire_type} at {address} ends beyond the last address 65535"]
    return []
