"""`voltage modbus`: look into a device: what its registers hold, what they may mean, what there is."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final

import click
from rich.table import Table

from libs.errors import InvalidError, VoltageError
from libs.points import PointKind
from libs.services import PORT_BASE
from libs.site import load_site
from services.commands.api import console
from services.commands.modbus_access import Access, access
from services.comsrv.channel import Point
from services.comsrv.contract import DeviceError, RefusedError
from services.comsrv.plugins.modbus import scanning
from services.comsrv.plugins.modbus.encoding import encode
from services.comsrv.plugins.modbus.guessing import Guess, guesses, layout
from services.comsrv.plugins.modbus.mapping import Mapping, resolve
from services.comsrv.plugins.modbus.texts import encode_text
from services.comsrv.plugins.modbus.wiretypes import ORDERS, STRING, TYPES, WIRE_TYPES, orders_of

TABLES: Final = {"coils": 1, "inputs": 2, "holding": 3, "input": 4}
MAX_READ: Final = 125
# Of so few registers everything is shown without being asked for.
FEW: Final = 4
ALTERNATIVES: Final = 2
WORTH_NAMING: Final = 0.2
# What a float holds, as people write it.
DIGITS: Final = {"float16": 5, "float32": 7, "float64": 15}

Command = Callable[..., Coroutine[Any, Any, None]]


def device(command: Command) -> Callable[..., None]:
    """Add the options that name a device, and give the command its access and unit."""

    @wraps(command)
    def run(
        channel: int | None,
        host: str | None,
        port: str,
        serial: str | None,
        baud_rate: int,
        parity: str,
        rtu_over_tcp: bool,
        timeout_ms: int,
        **options: Any,
    ) -> None:
        parameters: dict[str, Any] = {"timeout_ms": timeout_ms}
        protocol = "modbus_rtu_over_tcp" if rtu_over_tcp else "modbus_tcp"
        if serial is not None:
            protocol = "modbus_rtu"
            parameters |= {"port": serial, "baud_rate": baud_rate, "parity": parity}
        elif host is not None:
            parameters |= {"host": host, "port": int(port) if port.isdecimal() else port}
        asyncio.run(_run(command, channel, protocol, parameters, options))

    for option in (
        click.option("--unit", type=click.IntRange(0, 255), default=1, show_default=True, help="Unit (slave) id."),
        click.option("--timeout-ms", type=click.IntRange(10, 60_000), default=1000, show_default=True),
        click.option("--rtu-over-tcp", is_flag=True, help="RTU frames over TCP."),
        click.option("--parity", type=click.Choice(["none", "even", "odd"]), default="none", show_default=True),
        click.option("--baud-rate", type=int, default=9600, show_default=True),
        click.option("--serial", help="A serial port, /dev/ttyUSB0."),
        click.option("--port", default="502", show_default=True, help="A number, or base+20."),
        click.option("--host", help="A device in the network."),
        click.option("--channel", type=int, help="A channel's device, through its own link while it runs."),
    ):
        run = option(run)
    return run


async def _run(
    command: Command, channel: int | None, protocol: str, parameters: dict[str, Any], options: dict[str, Any]
) -> None:
    try:
        port_base = load_site().settings.port_base
    except VoltageError:
        port_base = PORT_BASE
    async with access(channel, protocol, parameters, port_base=port_base) as reached:
        await command(reached, **options)


@click.group()
def modbus() -> None:
    """Read, write or scan a Modbus device; addresses count from 0."""


@modbus.command()
@click.argument("address", type=click.IntRange(0, 65535))
@click.argument("count", type=click.IntRange(1, 1000), default=1)
@click.option("--table", type=click.Choice(list(TABLES)), default="holding", show_default=True)
@click.option("--reads", type=click.IntRange(1, 100), default=1, show_default=True, help="How often to read.")
@click.option("--every", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="Seconds between reads.")
@click.option("--all", "everything", is_flag=True, help="Every type in every order, not only the plausible ones.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
@device
async def read(
    reached: Access,
    unit: int,
    address: int,
    count: int,
    table: str,
    reads: int,
    every: float,
    everything: bool,
    as_json: bool,
) -> None:
    """Show what registers hold, and what that may mean: the plausible types and orders first.

    With several --reads the guesses know more: what moves smoothly, what only rises.
    """
    code = TABLES[table]
    for first, last in await _stretches(reached, unit, code, address, count):
        found = []
        for number in range(reads):
            await asyncio.sleep(every if number else 0)
            found.append(await _read(reached, unit, code, first, last - first + 1))
        if code in {1, 2}:
            _show_bits(first, found[-1], as_json=as_json)
        else:
            _show_registers(first, found, everything=everything or count <= FEW, as_json=as_json)


async def _stretches(reached: Access, unit: int, code: int, address: int, count: int) -> list[scanning.Range]:
    """Return what can be read of a range: all of it, or the parts that a device with holes answers."""
    last = address + count - 1
    try:
        await _read(reached, unit, code, address, count)
    except RefusedError as error:
        found = await scanning.ranges(reached.read, unit, code, address, last, 1)
        if not found:
            raise InvalidError(f"{error}; voltage modbus scan finds what can be read") from None
        shown = ", ".join(f"{one.first}-{one.last}" for one in found)
        click.echo(f"the device refuses some of {address}-{last}; what can be read: {shown}", err=True)
        return found
    return [scanning.Range(address, last)]


def _show_registers(address: int, found: list[list[int]], *, everything: bool, as_json: bool) -> None:
    ranked = guesses(address, found)
    if as_json:
        for guess in layout(ranked):
            click.echo(json.dumps(vars(guess), ensure_ascii=False))
        return
    _print(_layout_table(ranked, found[-1], address))
    if everything:
        _print(_matrix(ranked, found[-1], address))


async def _read(reached: Access, unit: int, code: int, address: int, count: int) -> list[int]:
    """Read more than one request takes in several."""
    most = 2000 if code in {1, 2} else MAX_READ
    values: list[int] = []
    while len(values) < count:
        part = min(most, count - len(values))
        values += await reached.read(unit, code, address + len(values), part)
    return values


def _show_bits(address: int, bits: list[int], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"address": address, "values": bits}))
        return
    for start in range(0, len(bits), 16):
        part = bits[start : start + 16]
        click.echo(f"{address + start:5}  {' '.join(map(str, part))}")


def _layout_table(ranked: list[list[Guess]], registers: list[int], address: int) -> Table:
    """Return the most plausible layout, a row a value, with what else it may be."""
    table = Table("address", "registers", "type", "order", "value", "plausible", "why", "or")
    for guess in layout(ranked):
        place = guess.address - address
        part = registers[place : place + guess.width]
        raw = " ".join(f"{register:04X}" for register in part[:FEW]) + (" ..." if len(part) > FEW else "")
        others = [
            f"{one.type} {one.order} {_shown(one, one.values[-1])}"
            for one in ranked[place]
            if one is not guess and one.score >= WORTH_NAMING and one.values[-1] != guess.values[-1]
        ]
        table.add_row(
            str(guess.address), raw, guess.type, guess.order, _values(guess), f"{guess.score:.0%}", guess.why,
            "; ".join(others[:ALTERNATIVES]),
        )  # fmt: skip
    return table


def _matrix(ranked: list[list[Guess]], registers: list[int], address: int) -> Table:
    """Return every type in every order side by side."""
    longest = max(map(len, ORDERS.values()))
    table = Table("address", "register", "type", *["" for _ in range(longest)])
    for place, here in enumerate(ranked):
        shown = {(guess.type, guess.order): guess for guess in here}
        first = True
        for name in (*TYPES, STRING):
            orders = [order for kind, order in shown if kind == name]
            if not orders:
                continue
            if name != STRING:
                orders = [order for order in ORDERS[TYPES[name].size] if (name, order) in shown]
            cells = [f"{order} {_shown(shown[name, order], shown[name, order].values[-1])}" for order in orders]
            where = (str(address + place), f"{registers[place]:04X}") if first else ("", "")
            table.add_row(*where, name, *cells)
            first = False
        table.add_section()
    return table


def _values(guess: Guess) -> str:
    """Return the last value, and where several reads differ the range."""
    last = _shown(guess, guess.values[-1])
    numbers = [value for value in guess.values if not isinstance(value, str)]
    if len(set(numbers)) < FEW - 2:
        return last
    return f"{last} ({_shown(guess, min(numbers))} to {_shown(guess, max(numbers))})"


def _shown(guess: Guess, value: float | str) -> str:
    """Render a value with the digits that its type holds."""
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "none"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.{DIGITS[guess.type]}g}"


def _print(table: Table) -> None:
    console().print(table)


@modbus.command(context_settings={"ignore_unknown_options": True})  # so that -1.5 is a value
@click.argument("address", type=click.IntRange(0, 65535))
@click.argument("values", nargs=-1, required=True)
@click.option("--type", "data_type", type=click.Choice(WIRE_TYPES), default="uint16", show_default=True)
@click.option("--order", default="", help="Byte order, as in a mapping table: ABCD, CDAB, ...")
@click.option("--coils", is_flag=True, help="Write coils instead of holding registers.")
@click.option("--single", is_flag=True, help="Function code 6 or 5 instead of 16 or 15.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@device
async def write(
    reached: Access,
    unit: int,
    address: int,
    values: tuple[str, ...],
    data_type: str,
    order: str,
    coils: bool,
    single: bool,
    yes: bool,
) -> None:
    """Write values one after the other, and read them back.

    A channel's own points take commands, which are checked and kept; what they write is refused here.
    """
    numbers = [_bit(text) for text in values] if coils else _registers(values, data_type, order)
    code = {(True, True): 5, (True, False): 15, (False, True): 6, (False, False): 16}[coils, single]
    what = " ".join(map(str, numbers)) if coils else " ".join(f"{number:04X}" for number in numbers)
    if not yes:
        click.confirm(f"write {what} to unit {unit}, address {address}, with function code {code}?", abort=True)
    await reached.write(unit, code, address, numbers)
    held = await reached.read(unit, 1 if coils else 3, address, len(numbers))
    if held != numbers:
        shown = " ".join(map(str, held)) if coils else " ".join(f"{number:04X}" for number in held)
        raise InvalidError(f"the device acknowledged {what} and holds {shown}")
    click.echo(f"written and read back: {what}")


def _bit(text: str) -> int:
    if text not in {"0", "1"}:
        raise InvalidError(f"{text!r} is neither 0 nor 1")
    return int(text)


def _registers(values: tuple[str, ...], data_type: str, order: str) -> list[int]:
    """Return the registers of values of a type."""
    if order and order.upper() not in orders_of(data_type):
        raise InvalidError(f"{data_type} takes {', '.join(orders_of(data_type))}, not {order}")
    data = b"".join(_encoded(text, data_type, order) for text in values)
    return [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]


def _encoded(text: str, data_type: str, order: str) -> bytes:
    row: dict[str, Any] = {"slave_id": 1, "function_code": 16, "register_address": 0, "data_type": data_type}
    if data_type == STRING:
        row |= {"register_count": (len(text.encode()) + 1) // 2 or 1, "encoding": "utf-8"}
    point = Point(id=1, name="written", data_type="string" if data_type == STRING else "number")
    wire = resolve(PointKind.ADJUSTMENT, point, Mapping.model_validate(row | {"byte_order": order}), "zero")
    if data_type == STRING:
        return encode_text(wire, text)
    try:
        number = float(int(text, 16)) if text.lower().startswith("0x") else float(text)
    except ValueError:
        raise InvalidError(f"{text!r} is no number") from None
    return encode(wire, number)


@modbus.command()
@click.option("--units", "unit_range", default="", help="Units to look for, as 1-20; without it --unit alone.")
@click.option("--addresses", default="0-999", show_default=True, help="Addresses to look at, as 0-999 or 40000-40200.")
@click.option("--tables", default="holding,input", show_default=True, help="Of coils, inputs, holding, input.")
@click.option("--step", type=click.IntRange(1, 64), default=8, show_default=True, help="1 finds single addresses too.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines for programs.")
@device
async def scan(
    reached: Access, unit: int, unit_range: str, addresses: str, tables: str, step: int, as_json: bool
) -> None:
    """Find the units that answer and the addresses of each that can be read.

    For units on a slow line give a short --timeout-ms: each that is not there costs one.
    """
    low, high = _range(unit_range or str(unit), 255)
    first, last = _range(addresses, 65_535)
    codes = [_table(name.strip()) for name in tables.split(",")]
    there = 0
    for number in range(low, high + 1):
        if not await scanning.answers(reached.read, number):
            continue
        there += 1
        for code in codes:
            name = next(table for table, own in TABLES.items() if own == code)
            try:
                found = await scanning.ranges(reached.read, number, code, first, last, step)
            except DeviceError as error:
                click.echo(f"unit {number} {name}: given up: {error}", err=True)
                continue
            _show_ranges(number, name, found, as_json=as_json)
    if not there:
        click.echo(f"no unit from {low} to {high} answers", err=True)


def _show_ranges(unit: int, table: str, found: list[scanning.Range], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"unit": unit, "table": table, "ranges": found}))
        return
    shown = ", ".join(f"{one.first}-{one.last}" if one.last > one.first else str(one.first) for one in found)
    click.echo(f"unit {unit} {table}: {shown or 'nothing can be read there'}")


def _range(text: str, highest: int) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise InvalidError(f"{text!r} is no range; write 1-20")
    low, high = int(first), int(last or first)
    if not low <= high <= highest:
        raise InvalidError(f"{text!r} is no range from 0 to {highest}")
    return low, high


def _table(name: str) -> int:
    if name not in TABLES:
        raise InvalidError(f"{name!r} is none of {', '.join(TABLES)}")
    return TABLES[name]
