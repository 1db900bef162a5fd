"""Find which units answer, and which addresses of them can be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from services.comsrv.contract import NoAnswerError, RefusedError

# Addresses asked for at once; most devices read as many.
BLOCK: Final = 64

# Reads (unit, function code, address, count), or raises a DeviceError.
Read = Callable[[int, int, int, int], Awaitable[list[int]]]


class Range(NamedTuple):
    """Addresses that can be read: [first, last]."""

    first: int
    last: int


async def answers(read: Read, unit: int) -> bool:
    """Say whether a unit answers; an exception code is an answer, but for a gateway's that nobody is there."""
    try:
        await read(unit, 3, 0, 1)
    except NoAnswerError:
        return False
    except RefusedError:
        return True
    return True


async def ranges(read: Read, unit: int, code: int, first: int, last: int, step: int) -> list[Range]:
    """Return the addresses of a table that can be read.

    A block that is refused is looked at in every `step`-th address; where one of them can be read
    it is halved, down to single addresses. So a readable stretch shorter than `step` amid others
    that are refused may be missed, and a table that the device does not have costs one request.

    Raises:
        NotConnectedError: the connection was lost.
        NoAnswerError: the unit fell silent.
    """
    try:
        await read(unit, code, first, 1)
    except RefusedError as error:
        if error.exception_code == 1:
            return []
    found: list[Range] = []
    for start in range(first, last + 1, BLOCK):
        for part in await _within(read, unit, code, start, min(start + BLOCK, last + 1) - start, step):
            if found and found[-1].last + 1 == part.first:
                found[-1] = Range(found[-1].first, part.last)
            else:
                found.append(part)
    return found


async def _within(read: Read, unit: int, code: int, start: int, count: int, step: int) -> list[Range]:
    if await _readable(read, unit, code, start, count):
        return [Range(start, start + count - 1)]
    if count == 1:
        return []
    if count == BLOCK or count > step:
        places = range(start, start + count, step)
        if not any([await _readable(read, unit, code, place, 1) for place in places]):
            return []
    half = count // 2
    return [
        *await _within(read, unit, code, start, half, step),
        *await _within(read, unit, code, start + half, count - half, step),
    ]


async def _readable(read: Read, unit: int, code: int, address: int, count: int) -> bool:
    try:
        await read(unit, code, address, count)
    except RefusedError:
        return False
    return True
