"""Looks at a device outside of the polls: a point that is only tried, or plain registers."""

from __future__ import annotations

from typing import Final, Protocol

from libs.clock import now_ms
from libs.errors import InvalidError
from services.comsrv.contract import QUALITY, Trial
from services.comsrv.plugins.modbus.codec import Decoder
from services.comsrv.plugins.modbus.mapping import BIT_CODES, Wire
from services.comsrv.plugins.modbus.scaling import far_scales
from services.comsrv.plugins.modbus.writing import Registers

READS: Final = (1, 2, 3, 4)
SINGLE: Final = (5, 6)


class Reads(Protocol):
    """What a look needs of a connection."""

    async def read(self, unit: int, code: int, address: int, count: int) -> bytes:
        """Return the data bytes of a read answer."""
        ...


async def try_wire(client: Reads, wire: Wire) -> Trial:
    """Read what a point stands for now; of one that is written, what the device holds."""
    place = wire if wire.kind.readable else wire._replace(address=wire.verify_address)
    count = place.end - place.start
    data = await client.read(place.unit, place.read_code, place.start, count)
    at_ms = now_ms()
    far = far_scales([place])
    scales = [await client.read(place.unit, place.read_code, stretch.address, stretch.registers) for stretch in far]
    decoder = Decoder([place], place.start, count, far)
    values, codes = decoder.decode(b"".join((data, *scales)))
    quality = QUALITY[int(codes[0])]
    value: float | str | None = decoder.texts[0] if place.is_text else float(values[0])
    if quality.startswith("bad:"):
        value = None
    return Trial(at_ms, value, quality or "good", place.start, tuple(numbers(place.read_code, data, count)))


def numbers(code: int, data: bytes, count: int) -> list[int]:
    """Return an answer's registers, or its bits."""
    if code in BIT_CODES:
        return [data[place // 8] >> place % 8 & 1 for place in range(count)]
    return [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]


async def read_numbers(client: Reads, unit: int, code: int, address: int, count: int) -> list[int]:
    """Read registers or bits as they are.

    Raises:
        InvalidError: no read code, or more than one request takes.
        DeviceError: what the device made of it.
    """
    if code not in READS:
        raise InvalidError(f"function_code {code} reads nothing; {', '.join(map(str, READS))} do")
    most = 2000 if code in BIT_CODES else 125
    if not 1 <= count <= most:
        raise InvalidError(f"function code {code} reads 1 to {most} at once, not {count}")
    return numbers(code, await client.read(unit, code, address, count), count)


async def write_numbers(client: Registers, unit: int, code: int, address: int, values: list[int]) -> None:
    """Write registers with function code 6 or 16, bits with 5 or 15.

    Raises:
        InvalidError: no write code, or values that don't fit.
        DeviceError: what the device made of it.
    """
    if code not in {5, 6, 15, 16}:
        raise InvalidError(f"function_code {code} writes nothing here; 5, 6, 15, 16 do")
    if not values or (code in SINGLE and len(values) != 1) or len(values) > 123:
        raise InvalidError(f"function code {code} does not write {len(values)} values")
    highest = 1 if code in BIT_CODES else 0xFFFF
    if not all(0 <= value <= highest for value in values):
        raise InvalidError(f"values of function code {code} are from 0 to {highest}")
    if code in BIT_CODES:
        await client.write_bits(unit, code, address, [bool(value) for value in values])
    else:
        await client.write_registers(unit, code, address, b"".join(value.to_bytes(2, "big") for value in values))
