"""The section [[inputs.modbus]] of a Telegraf configuration, in its three styles: register, request, metric.

Sources: the plugin's README and sample configurations, and of its source `configuration_register.go`,
`configuration_request.go`, `configuration_metric.go` and `type_conversions*.go`. Telegraf only reads.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from libs.errors import ConfigurationError, Problem
from services.commands.importers.records import Choices, Import, RefusedError, Tag, number, read_text, wire_address
from services.commands.importers.telegraf_settings import connection
from services.commands.importers.toml_lines import Section, sections

PLUGIN: Final = "inputs.modbus"
REGISTERS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
# The lists of the register style.
LISTS: Final = {
    "coils": "coil",
    "discrete_inputs": "discrete",
    "holding_registers": "holding",
    "input_registers": "input",
}
STYLES: Final = {"register": tuple(LISTS), "request": ("request",), "metric": ("metric",)}
# Type -> ours, and for half a register which half.
TYPES: Final = {
    "INT8L": "int8", "INT8H": "int8", "UINT8L": "uint8", "UINT8H": "uint8", "INT16": "int16", "UINT16": "uint16",
    "INT32": "int32", "UINT32": "uint32", "INT64": "int64", "UINT64": "uint64", "FLOAT16": "float16",
    "FLOAT32": "float32", "FLOAT64": "float64", "STRING": "string", "BIT": "bool",
}  # fmt: skip
# In the register style FLOAT32 is a fixed-point number without sign, and real floats say -IEEE.
REGISTER_TYPES: Final = {
    **{name: (name,) * 3 for name in TYPES if name not in {"FLOAT16", "FLOAT32", "FLOAT64", "STRING", "BIT"}},
    "FLOAT32-IEEE": ("FLOAT32",) * 3, "FLOAT64-IEEE": ("FLOAT64",) * 3,
    "FIXED": ("INT16", "INT32", "INT64"), "UFIXED": ("UINT16", "UINT32", "UINT64"),
    "FLOAT32": ("UINT16", "UINT32", "UINT64"),
}  # fmt: skip
WORDS: Final = {1: 0, 2: 1, 4: 2}
WIDTHS: Final = {"int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4}
# A name of an order -> ours, of two and of four bytes. Eight bytes have the letters of four.
ORDERS: Final = {
    "ABCD": ("AB", "ABCD"), "BADC": ("BA", "BADC"), "CDAB": ("AB", "CDAB"), "DCBA": ("BA", "DCBA"),
    "AB": ("AB", "ABCD"), "BA": ("BA", "DCBA"), "ABCDEFGH": ("AB", "ABCD"), "BADCFEHG": ("BA", "BADC"),
    "GHEFCDAB": ("AB", "CDAB"), "HGFEDCBA": ("BA", "DCBA"), "MSW-BE": ("AB", "ABCD"), "MSW-LE": ("BA", "BADC"),
    "LSW-BE": ("AB", "CDAB"), "LSW-LE": ("BA", "DCBA"),
}  # fmt: skip
FIELD_KEYS: Final = {
    "register": ("name", "address", "byte_order", "data_type", "scale", "measurement"),
    "request": ("name", "address", "type", "scale", "output", "measurement", "omit"),
    "metric": ("name", "address", "register", "length", "type", "scale", "output", "bit"),
}
BLOCK_KEYS: Final = ("slave_id", "byte_order", "register", "measurement", "fields", "tags")
_MAX_UNIT: Final = 255
_DEFAULT: Final = "modbus"


class Field(NamedTuple):
    """A field as the file says it, with its line and what its block says of it."""

    line: int
    values: Mapping[str, Any]
    unit: Any
    register: str
    order: str
    measurement: str


def read(path: Path, choices: Choices) -> Import:
    """Read one [[inputs.modbus]].

    Raises:
        ConfigurationError: the file is no TOML, or has no such section, or several and none is chosen.
    """
    given = [name for name in ("unit", "byte_order", "first_address") if getattr(choices, name) is not None]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigurationError(
            [Problem(str(path), f"Telegraf's files say units, orders and addresses; leave {options} out")]
        )
    text = read_text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"line (\d+)", str(error))
        raise ConfigurationError([Problem(f"{path}:{where[1] if where else 1}", f"is no TOML: {error}")]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError([Problem(f"{path}:1", f"is no TOML of a plugin: {error}")]) from None
    plugin, places = _chosen(path, document, sections(text), choices.device)
    found = Import(path, name=str(plugin.get("name") or path.stem))
    style = str(plugin.get("configuration_type") or "register")
    if style not in STYLES:
        reason = f"configuration_type: {style!r} is none of {', '.join(STYLES)}"
        raise ConfigurationError([Problem(f"{path}:{places[0].of('configuration_type')}", reason)])
    problems = _misshapen(plugin, places[0], style, path)
    if problems:
        raise ConfigurationError(problems)
    own = next((place for place in places if place.name == f"{PLUGIN}.workarounds"), places[0])
    connection(plugin, places[0], own, document, found)
    for other, keys in STYLES.items():
        for key in keys:
            if other != style and key in plugin:
                found.lose(places[0].of(key), "", key, f"is of the style {other}; this section has {style}")
    fields = _register_fields(plugin, places[0]) if style == "register" else _block_fields(plugin, places, style, found)
    for one in fields:
        _take(one, style, str((plugin.get("workarounds") or {}).get("string_register_location", "")), found)
    return found


def _chosen(
    path: Path, document: dict[str, Any], places: list[Section], device: str | None
) -> tuple[dict[str, Any], list[Section]]:
    """Return the one plugin that is meant, with its sections."""
    inputs = document.get("inputs")
    plugins = inputs.get("modbus") if isinstance(inputs, dict) else None
    starts = [index for index, section in enumerate(places) if section.name == PLUGIN]
    if not isinstance(plugins, list) or not plugins or len(starts) != len(plugins):
        raise ConfigurationError([Problem(f"{path}:1", f"has no section [[{PLUGIN}]]")])
    named = [(plugin.get("name"), index) for index, plugin in enumerate(plugins)]
    chosen = [index for name, index in named if device in (None, name)]
    if len(chosen) != 1:
        text = (
            "a channel is one endpoint; say which with --device"
            if device is None
            else f"none, or several, are {device!r}"
        )
        raise ConfigurationError(
            [Problem(f"{path}:{places[starts[index]].line}", f"{text}: name = {name!r}") for name, index in named]
        )
    start = starts[chosen[0]]
    end = start + 1
    while end < len(places) and places[end].name.startswith(f"{PLUGIN}."):
        end += 1
    return plugins[chosen[0]], places[start:end]


def _misshapen(plugin: dict[str, Any], place: Section, style: str, path: Path) -> list[Problem]:
    """Return what has another form than the plugin's: lists of tables, tables and the texts beside them."""
    found = []
    lists = [(key, plugin.get(key, [])) for key in STYLES[style]]
    if style != "register":
        blocks = [block for block in _tables(plugin.get(style)) or [] if isinstance(block, dict)]
        lists += [(f"{style}.fields", block.get("fields", [])) for block in blocks]
        found += [f"{style}.tags: is no table" for block in blocks if _tables(_listed(block.get("tags", {}))) is None]
    found += [f"{key}: is no list of tables" for key, value in lists if _tables(value) is None]
    found += [
        f"{key}: {plugin[key]!r} is no text"
        for key in ("name", "controller", "transmission_mode", "parity")
        if not isinstance(plugin.get(key, ""), str)
    ]
    if not isinstance(plugin.get("workarounds", {}), dict):
        found.append("workarounds: is no table")
    return [Problem(f"{path}:{place.of(text.split(':')[0].split('.')[0])}", text) for text in found]


def _tables(value: Any) -> list[dict[str, Any]] | None:
    """Return a list of tables, None where it is none."""
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else None


def _listed(tags: Any) -> Any:
    """Return the tables of tags: the plugin's first documentation wrote [[...tags]], a list of one."""
    return tags if isinstance(tags, list) else [tags]


def _register_fields(plugin: dict[str, Any], place: Section) -> Iterator[Field]:
    for key, register in LISTS.items():
        for index, values in enumerate(plugin.get(key) or []):
            order = str(values.get("byte_order", ""))
            measurement = str(values.get("measurement", ""))
            yield Field(place.of(key, index), values, plugin.get("slave_id", 0), register, order, measurement)


def _block_fields(plugin: dict[str, Any], places: list[Section], style: str, found: Import) -> Iterator[Field]:
    """Yield the fields of the requests or metrics."""
    headers = [place for place in places if place.name == f"{PLUGIN}.{style}"]
    own = [place for place in places if place.name == f"{PLUGIN}.{style}.fields"]
    for index, block in enumerate(plugin.get(style) or []):
        place = headers[index] if index < len(headers) else places[0]
        for key, value in block.items():
            if key == "tags":
                names = ", ".join(f"{name}={text}" for one in _listed(value) for name, text in one.items())
                found.lose(place.line, "", f"tags {names}", "points have no tags")
            elif key not in BLOCK_KEYS:
                found.lose(
                    place.of(key), "", f"{key} = {value}", "how requests are joined is planned by comsrv (polling)"
                )
        for row, values in enumerate(block.get("fields") or []):
            line = place.of("fields", row) if "fields" in place.keys else own.pop(0).line if own else place.line
            register = (
                str(values.get("register") or "holding")
                if style == "metric"
                else str(block.get("register") or "holding")
            )
            measurement = str(values.get("measurement") or block.get("measurement") or "")
            order = str(block.get("byte_order") or "ABCD")
            yield Field(line, values, block.get("slave_id", 0), register, order, measurement)


def _take(one: Field, style: str, location: str, found: Import) -> None:
    name = str(one.values.get("name") or "")
    try:
        tag = _tag(one, style, location)
    except RefusedError as refused:
        found.lose(one.line, name or f"(address {one.values.get('address')})", "tag", str(refused))
        return
    found.tags.append(tag)
    for key, value in one.values.items():
        if key not in FIELD_KEYS[style]:
            found.lose(one.line, name, f"{key} = {value}", f"is no setting of a field in the style {style}")
    output = str(one.values.get("output") or "")
    if "INT" in output and not tag.is_bool:
        found.lose(one.line, name, f"output {output}", "decimals are not cut off")


def _tag(one: Field, style: str, location: str) -> Tag:
    values = one.values
    name = str(values.get("name") or "")
    if values.get("omit") is True:
        raise RefusedError("omit = true: Telegraf reads it and drops it")
    if not name:
        raise RefusedError("has no name")
    if not isinstance(one.unit, int) or not 0 <= one.unit <= _MAX_UNIT:
        raise RefusedError(f"slave_id: {one.unit!r} is not from 0 to {_MAX_UNIT}")
    if one.register not in REGISTERS:
        raise RefusedError(f"register: {one.register!r} is none of {', '.join(REGISTERS)}")
    table = REGISTERS[one.register]
    group = "" if one.measurement in {"", _DEFAULT} else one.measurement
    address, words = _address(values.get("address"), style)
    if one.register in {"coil", "discrete"}:
        return Tag(one.line, name, one.unit, table, address, "bool", group=group)
    type_name = _type(values, style, words)
    wire_type = TYPES[type_name]
    registers = values.get("length") if wire_type == "string" else None
    if wire_type == "string" and not isinstance(registers, int):
        raise RefusedError("length: a STRING needs the number of its registers")
    return Tag(
        one.line, name, one.unit, table, address, wire_type,
        _order(one, style, words, type_name, location), bit=values.get("bit", 0) if wire_type == "bool" else None,
        registers=registers, scale=_scale(values, style, wire_type), group=group,
    )  # fmt: skip


def _order(one: Field, style: str, words: int, type_name: str, location: str) -> str:
    """Return the byte order of a value of registers, in our letters."""
    wire_type = TYPES[type_name]
    if one.order not in ORDERS:
        raise RefusedError(f"byte_order: {one.order!r} is none of {', '.join(ORDERS)}")
    if style == "register" and len(one.order) != 2 * words:
        raise RefusedError(f"byte_order: {one.order} does not go with {words} addresses")
    if style == "register" and words != WIDTHS.get(wire_type, 1):
        width = WIDTHS.get(wire_type, 1)
        raise RefusedError(f"address: a {one.values.get('data_type')} has {width}, not {words}")
    of_word, of_words = ORDERS[one.order]
    if wire_type in WIDTHS:
        return of_words
    half = {"L": "lower", "H": "upper"}[type_name[-1]] if wire_type in {"int8", "uint8"} else ""
    if half and one.order in {"BADC", "CDAB"}:
        raise RefusedError(f"byte_order: {one.order} is no order of a {type_name}")
    half = half or (location if wire_type == "string" else "")
    if half in {"lower", "upper"}:
        return "0A" if (half == "lower") == (of_word == "AB") else "A0"
    return of_word


def _address(value: Any, style: str) -> tuple[int, int]:
    """Return the first address and how many there are; the register style lists each."""
    numbers = value if style == "register" else [value]
    if not isinstance(numbers, list) or not numbers or not all(type(one) is int and one >= 0 for one in numbers):
        raise RefusedError(f"address: {value!r} is none of this style ({style})")
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise RefusedError(f"address: {value} are not one behind the other")
    if style == "register" and len(numbers) not in WORDS:
        raise RefusedError(f"address: {len(numbers)} registers; there are values of 1, 2 and 4")
    return wire_address(str(numbers[0]), 0), len(numbers)


def _type(values: Mapping[str, Any], style: str, words: int) -> str:
    key = "data_type" if style == "register" else "type"
    declared = str(values.get(key) or "")
    known = REGISTER_TYPES if style == "register" else TYPES
    if style == "request" and declared in {"STRING", "BIT"}:
        raise RefusedError(f"type: {declared} is of the style metric")
    if declared not in known:
        raise RefusedError(f"{key}: {declared or 'none'} is none of {', '.join(known)}")
    return REGISTER_TYPES[declared][WORDS[words]] if style == "register" else declared


def _scale(values: Mapping[str, Any], style: str, wire_type: str) -> float:
    value = values.get("scale", 0.0)
    if isinstance(value, str):  # As the plugin's first documentation wrote it.
        value = number(value, "scale")
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < float("inf"):
        raise RefusedError(f"scale: {value!r} is no number")
    if style == "register" and not value:
        raise RefusedError("scale: is missing or 0, which Telegraf refuses")
    return float(value) if value and wire_type not in {"bool", "string"} else 1.0
