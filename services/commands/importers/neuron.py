"""Tags of EMQX Neuron: its sheet of tags saved as CSV, or the JSON of its API and its exports.

Sources: the pages "Modbus TCP", "Groups and Tags", "Import/Export" and "HTTP API" of its documentation,
and of its source `plugins/modbus/modbus_point.c`, `modbus_stack.h` and `src/base/tag.c`. Where
these do not agree the tag is left out and the report says so.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
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

REQUIRED: Final = ("name", "address", "attribute", "type")
COLUMNS: Final = ("group", "interval", *REQUIRED, "description", "decimal", "precision", "bias", "value", "unit")
# The numbers of the API and the words of the sheet.
CODES: Final = {
    1: "INT8", 2: "UINT8", 3: "INT16", 4: "UINT16", 5: "INT32", 6: "UINT32", 7: "INT64", 8: "UINT64", 9: "FLOAT",
    10: "DOUBLE", 11: "BIT", 12: "BOOL", 13: "STRING", 14: "BYTES",
}  # fmt: skip
TYPES: Final = {
    "INT16": "int16", "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32", "INT64": "int64",
    "UINT64": "uint64", "FLOAT": "float32", "DOUBLE": "float64", "BIT": "bool", "STRING": "string",
}  # fmt: skip
ATTRIBUTES: Final = {"READ": 1, "WRITE": 2, "SUBSCRIBE": 4, "STATIC": 8}
_READ, _WRITE, _SUBSCRIBE, _STATIC = ATTRIBUTES.values()
ORDERS: Final = {
    2: {"L": "AB", "B": "BA"},
    4: {"LL": "ABCD", "LB": "BADC", "BL": "CDAB", "BB": "DCBA"},
}
NODE_ORDERS: Final = {1: "ABCD", 2: "BADC", 3: "DCBA", 4: "CDAB"}
# Parameter of a node, ours, and the values that the two have in common.
NODE_PARAMETERS: Final = (
    ("port", "port", 1, 65535), ("timeout", "timeout_ms", 10, 60_000), ("interval", "pause_ms", 0, 10_000),
    ("max_retries", "retries", 0, 10), ("address_base", "address_base", 0, 1),
)  # fmt: skip
WIDE: Final = {"INT32": 4, "UINT32": 4, "FLOAT": 4, "INT16": 2, "UINT16": 2}
_ADDRESS: Final = re.compile(r"(\d{1,3})!([0134])(\d{1,5})(?:\.(\d{1,3})([HLDE]?))?(?:#([BL]{1,2}))?")
_WORD: Final = re.compile(r"[A-Za-z]+")
LAST_BIT: Final = 15
LAST_UNIT: Final = 255
MAX_STRING: Final = 127


class Row(NamedTuple):
    """A tag as the file says it, with the line it starts on and its group."""

    line: int
    values: dict[str, Any]
    group: str
    interval: Any


class Place(NamedTuple):
    """What an address says."""

    unit: int
    table: int
    address: int
    part: int | None
    packing: str
    order: str


def read(path: Path, choices: Choices) -> Import:
    """Read tags of one node.

    Raises:
        ConfigurationError: the file is neither CSV nor JSON of tags; every problem of its form.
    """
    found = Import(path, name=path.stem)
    if choices.unit is not None:
        raise ConfigurationError([Problem(str(path), "each address names its unit, as 1!400001; leave --unit out")])
    text = read_text(path)
    if text.lstrip()[:1] in {"{", "["}:
        rows = list(_json_rows(found, text, choices))
    else:
        if choices.device is not None:
            raise ConfigurationError([Problem(str(path), "a sheet of tags names no node; leave --device out")])
        rows = _csv_rows(path, text)
    base = found.parameters.pop("address_base", None)
    first = choices.first_address if choices.first_address is not None else 1 if base is None else base
    node_order = found.parameters.pop("order", None)
    order = choices.byte_order or node_order
    for row in rows:
        try:
            found.tags.append(_tag(row, first, order or "ABCD", found))
        except RefusedError as refused:
            found.lose(row.line, str(row.values.get("name", "")), "tag", str(refused))
    if base is None and choices.first_address is None:
        found.assumed.append("addresses count from 1, the node's default; --first-address")
    if order is None:
        found.assumed.append("ABCD where an address names no order, the node's default; --byte-order")
    return found


def _csv_rows(path: Path, text: str) -> list[Row]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",")
    header: list[str] = []
    rows, problems, start = [], [], 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if not header:
                header = [cell.lower() for cell in stripped]
                where = f"{path}:{line}"
                problems += [
                    Problem(where, f"unknown column {name!r}{nearest(name, COLUMNS)}")
                    for name in header
                    if name and name not in COLUMNS
                ]
                problems += [Problem(where, f"column {name!r} is missing") for name in REQUIRED if name not in header]
            elif any(stripped[len(header) :]):
                problems.append(Problem(f"{path}:{line}", f"{len(cells)} cells under {len(header)} columns"))
            else:
                values = dict(zip(header, stripped, strict=False))
                rows.append(Row(line, values, values.get("group", ""), values.get("interval", "")))
    except csv.Error as error:
        problems.append(Problem(f"{path}:{reader.line_num}", f"is no CSV: {error}"))
    if not header:
        problems.append(Problem(f"{path}:1", f"is empty; the first line names the columns: {','.join(COLUMNS)}"))
    if problems:
        raise ConfigurationError(problems)
    return rows


def _json_rows(found: Import, text: str, choices: Choices) -> Iterator[Row]:
    """Yield the tags of {"nodes": [...]}, {"groups": [...]} or {"tags": [...]}, or of the whole configuration."""
    path = found.path
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError([Problem(f"{path}:{error.lineno}", f"is no JSON: {error.msg}")]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([Problem(f"{path}:1", f"is no JSON of tags: {error}")]) from None
    if isinstance(document, dict) and isinstance(document.get("nodes"), list):
        document = _node(found, _nodes(document), choices)
    elif choices.device is not None:
        raise ConfigurationError([Problem(str(path), "names no nodes; leave --device out")])
    groups = document.get("groups") if isinstance(document, dict) else None
    if groups is None and isinstance(document, dict) and isinstance(document.get("tags"), list):
        groups = [document]
    if not isinstance(groups, list):
        raise ConfigurationError([Problem(f"{path}:1", "has no nodes, groups or tags of Neuron")])
    lines = _Lines(text)
    for group in groups:
        tags = group.get("tags", []) if isinstance(group, dict) else None
        if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in tags):
            raise ConfigurationError([Problem(f"{path}:1", "a group's tags are no list of objects")])
        name = group.get("name", group.get("group", ""))
        for tag in tags:
            yield Row(lines.of(tag), tag, str(name), group.get("interval", ""))


def _nodes(document: dict[str, Any]) -> list[Any]:
    """Return the nodes with their groups and parameters.

    `GET /api/v2/global/config` names nodes, groups, tags and settings in lists of their own.
    """

    def of(name: str) -> list[dict[str, Any]]:
        listed = document.get(name)
        return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []

    if not (of("groups") or of("tags") or of("settings")):
        return list(document["nodes"])
    intervals = {(one.get("driver"), one.get("group")): one.get("interval", "") for one in of("groups")}
    params = {str(one.get("node")): one.get("params") for one in of("settings")}
    nodes = []
    for node in of("nodes"):
        name = str(node.get("name"))
        groups = [
            {
                "group": one.get("group"),
                "interval": intervals.get((name, one.get("group")), ""),
                "tags": one.get("tags"),
            }
            for one in of("tags")
            if one.get("driver") == name
        ]
        nodes.append({"params": params.get(name), "groups": groups} | node)
    return nodes


def _node(found: Import, nodes: list[Any], choices: Choices) -> dict[str, Any]:
    """Choose the node, and take what its parameters say."""
    drivers = [node for node in nodes if isinstance(node, dict) and "modbus" in str(node.get("plugin", "")).lower()]
    chosen = [node for node in drivers if choices.device in (None, node.get("name"))]
    names = ", ".join(str(node.get("name")) for node in drivers) or "none"
    if len(chosen) != 1:
        text = f"a channel is one node; say which with --device: {names}" if drivers else "has no Modbus node"
        raise ConfigurationError([Problem(f"{found.path}:1", text)])
    node = chosen[0]
    found.name = str(node.get("name") or found.name)
    params = dict(node["params"]) if isinstance(node.get("params"), dict) else {}
    plugin = str(node["plugin"]).lower()
    # A server, or over UDP.
    other = params.get("connection_mode") == 1 or params.get("transport_mode") == 1
    if other or "rtu" in plugin or "ascii" in plugin:
        found.lose(1, "", f"node {found.name}", "is no Modbus TCP client; say where the device is: --host, --port")
        params = {name: params[name] for name in ("endianess", "address_base") if name in params}
    if isinstance(params.get("host"), str):
        found.parameters["host"] = params.pop("host")
    for name, ours, low, high in NODE_PARAMETERS:
        if isinstance(params.get(name), int) and low <= params[name] <= high:
            found.parameters[ours] = params.pop(name)
    if isinstance(params.get("endianess"), int) and params["endianess"] in NODE_ORDERS:
        found.parameters["order"] = NODE_ORDERS[params.pop("endianess")]
    for name in ("connection_mode", "transport_mode"):
        params.pop(name, None)
    for name, value in params.items():
        found.lose(1, "", f"parameter {name}: {value}", "the channel has no such parameter")
    return node


class _Lines:
    """Finds the line of a tag in a JSON text: tags come in order, each with its name."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._from = 0

    def of(self, tag: dict[str, Any]) -> int:
        name = str(tag.get("name", ""))
        for written in (json.dumps(name), json.dumps(name, ensure_ascii=False)):
            match = re.compile(rf'"name"\s*:\s*{re.escape(written)}').search(self._text, self._from)
            if match:
                self._from = match.end()
                return self._text.count("\n", 0, match.start()) + 1
        return self._text.count("\n", 0, self._from) + 1


def _tag(row: Row, first: int, order: str, found: Import) -> Tag:
    values = row.values
    name = str(values.get("name") or "")
    if not name:
        raise RefusedError("has no name")
    attribute = _attribute(values.get("attribute", ""))
    if attribute & _STATIC:
        raise RefusedError("is static: a value of Neuron, not of the device")
    type_name = _type_name(values.get("type", ""))
    place = parse_address(str(values.get("address", "")), type_name, first)
    wire_type = TYPES[type_name]
    readable, writable = bool(attribute & (_READ | _SUBSCRIBE)), bool(attribute & _WRITE)
    if attribute & _SUBSCRIBE:
        found.lose(row.line, name, "attribute Subscribe", "changes are told anyway; it is polled like the others")
    if writable and place.table not in {COILS, HOLDING}:
        raise RefusedError("is written, and stands in a table that can't be")
    if not readable and not writable:
        raise RefusedError(f"attribute: {values.get('attribute', '')!r} neither reads nor writes")
    scale, offset = _scaling(values, wire_type)
    if str(values.get("precision") or "0") not in {"0", "0.0"}:
        found.lose(row.line, name, f"precision {values['precision']}", "values are not rounded")
    text = wire_type == "string"
    by_default = order if WIDE.get(type_name) == 4 else ""
    return Tag(
        row.line, name, place.unit, place.table, place.address, wire_type, place.order or by_default,
        bit=None if text else place.part, registers=((place.part or 0) + 1) // 2 if text else None,
        scale=scale, offset=offset, readable=readable, writable=writable, unit=str(values.get("unit") or ""),
        description=str(values.get("description") or ""), group=row.group, interval_ms=_interval(row, name, found),
    )  # fmt: skip


def parse_address(text: str, type_name: str, first: int) -> Place:
    """Read `unit!address`, with a bit, the length of a text, or a byte order.

    Raises:
        RefusedError: it is none, or its documentation leaves open what it means.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise RefusedError(f"address {text!r} is none such as 1!400001, 1!400001.3, 1!400001#BL or 1!400001.20H")
    unit, table, part = int(match[1]), TABLES[match[2]], match[4]
    if unit > LAST_UNIT:
        raise RefusedError(f"address {text!r}: units go to {LAST_UNIT}")
    address = wire_address(match[3], first)
    length = None if part is None else int(part)
    packing, symbol = match[5] or "", match[6] or ""
    is_bit = table in {COILS, INPUTS}
    if is_bit and (type_name != "BIT" or part is not None or symbol):
        raise RefusedError(f"address {text!r}: a coil or an input is a BIT, without anything behind its address")
    if type_name == "STRING":
        return Place(unit, table, address, length, packing, _text_order(text, length, packing, symbol))
    if packing or (part is not None and type_name != "BIT"):
        raise RefusedError(f"address {text!r}: a {type_name} has no length and no bit")
    if type_name == "BIT" and not is_bit and (length is None or length > LAST_BIT or symbol):
        raise RefusedError(f"address {text!r}: a BIT of a register names its bit, 0 to {LAST_BIT}, as 1!400001.3")
    return Place(unit, table, address, length, "", _order(text, type_name, symbol))


def _text_order(text: str, length: int | None, packing: str, symbol: str) -> str:
    if length is None or not 0 < length <= MAX_STRING or symbol:
        raise RefusedError(f"address {text!r}: a STRING has its length, 1 to {MAX_STRING} bytes, as 1!400001.20H")
    if packing in {"D", "E"}:
        raise RefusedError(
            f"address {text!r}: {packing}: two pages of Neuron's documentation say opposite things of it"
        )
    if not packing:
        raise RefusedError(
            f"address {text!r}: without H or L Neuron's documentation means L and its source H; write the letter"
        )
    return {"H": "AB", "L": "BA"}[packing]


def _order(text: str, type_name: str, symbol: str) -> str:
    if not symbol:
        return ""
    orders = ORDERS.get(WIDE.get(type_name, 0), {})
    if not orders:
        raise RefusedError(f"address {text!r}: what #{symbol} means for a {type_name} is not documented")
    if symbol not in orders:
        raise RefusedError(f"address {text!r}: a {type_name} has the orders {', '.join('#' + one for one in orders)}")
    return orders[symbol]


def _attribute(value: Any) -> int:
    """Return the bits of an attribute: the number of the API, or the words of the sheet."""
    text = str(value).strip()
    if text.isdecimal() and len(text) < 3 and 0 < int(text) < 16:
        return int(text)
    words = [word.upper() for word in _WORD.findall(text)]
    unknown = [word for word in words if word not in ATTRIBUTES]
    if unknown or not words:
        raise RefusedError(f"attribute: {text!r} is none of {', '.join(word.title() for word in ATTRIBUTES)}")
    return sum({ATTRIBUTES[word] for word in words})


def _type_name(value: Any) -> str:
    text = str(value).strip().upper()
    name = CODES.get(int(text), text) if text.isdecimal() and len(text) < 3 else text
    if name not in TYPES:
        raise RefusedError(f"type: {text or 'none'} ({name}) is none of {', '.join(TYPES)}")
    return name


def _scaling(values: dict[str, Any], wire_type: str) -> tuple[float, float]:
    """Return scale and offset. A decimal multiplies; where it is 0 there is none."""
    scale = number(str(values.get("decimal") or 0), "decimal") or 1.0
    offset = number(str(values.get("bias") or 0), "bias")
    if (scale, offset) != (1.0, 0.0) and wire_type in {"bool", "string"}:
        raise RefusedError("decimal, bias: a BIT or a STRING has none")
    if scale != 1.0 and offset:
        raise RefusedError("decimal and bias: which of them comes first is not documented")
    return scale, offset


def _interval(row: Row, name: str, found: Import) -> int | None:
    if row.interval in ("", None, 0, "0"):
        return None
    try:
        return round(number(str(row.interval), "interval"))
    except RefusedError as refused:
        found.lose(row.line, name, "interval", str(refused))
        return None
