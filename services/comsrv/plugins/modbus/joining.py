"""Writes of neighboring addresses in one request: function code 16 for registers, 15 for coils."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from services.comsrv.contract import Write
from services.comsrv.plugins.modbus.encoding import mask
from services.comsrv.plugins.modbus.mapping import Wire
from services.comsrv.plugins.modbus.writing import Planned, Registers

WRITE_COILS: Final = 15
WRITE_REGISTERS: Final = 16
# Of one request (MODBUS Application Protocol V1.1b3, 6.11 and 6.12).
LIMITS: Final = {WRITE_COILS: 1968, WRITE_REGISTERS: 123}


def runs(wires: Iterable[Wire]) -> dict[str, tuple[str, ...]]:
    """Return for each point ("A:2") the others whose addresses touch its own, one after the other."""
    found: dict[str, tuple[str, ...]] = {}
    joinable = sorted(
        (wire for wire in wires if _joinable(wire)), key=lambda wire: (wire.unit, wire.code, wire.address)
    )
    for _, group in groupby(joinable, key=lambda wire: (wire.unit, wire.code)):
        run: list[Wire] = []
        for wire in (*group, None):
            if wire is not None and (not run or wire.address == run[-1].address + run[-1].width):
                run.append(wire)
                continue
            names = tuple(f"{one.kind}:{one.point.id}" for one in run)
            if len(names) > 1:
                found |= {name: tuple(other for other in names if other != name) for name in names}
            run = [wire] if wire is not None else []
    return found


def together(writes: Sequence[Write]) -> list[list[Write]]:
    """Put writes that touch into groups, within what a request carries; a point twice keeps its order."""
    groups: list[list[Write]] = []
    waiting = list(writes)
    while waiting:
        group = [waiting.pop(0)]
        while (following := _touching(group, waiting)) is not None:
            waiting.remove(following)
            group.append(following)
            group.sort(key=lambda write: _wire(write).address)
        groups.append(group)
    return groups


async def write_together(registers: Registers, writes: Sequence[Write]) -> None:
    """Send the writes of a group, which are in the order of their addresses."""
    first = _wire(writes[0])
    planned = [write.plan for write in writes]
    if first.code == WRITE_COILS:
        bits = [
            bool(int.from_bytes(one.data or b"", "big") >> place & 1)
            for one in planned
            for place in range(one.wire.width)
        ]
        await registers.write_bits(first.unit, WRITE_COILS, first.address, bits)
    else:
        await registers.write_registers(
            first.unit, WRITE_REGISTERS, first.address, b"".join(one.data or b"" for one in planned)
        )


def _joinable(wire: Wire) -> bool:
    return wire.code in LIMITS and wire.scale is None and (wire.is_bit or mask(wire) is None)


def _touching(group: list[Write], waiting: list[Write]) -> Write | None:
    """Return a write that follows or precedes a group and fits into its request."""
    first, last = _wire(group[0]), _wire(group[-1])
    if not _joinable(first):
        return None
    points = {(write.kind, write.point.id) for write in group}
    for write in waiting:
        wire = _wire(write)
        if (write.kind, write.point.id) in points:
            # What comes after it must not overtake it.
            return None
        size = last.address + last.width - first.address + wire.width
        beside = wire.address in {last.address + last.width, first.address - wire.width}
        if (
            beside
            and (wire.unit, wire.code) == (first.unit, first.code)
            and _joinable(wire)
            and size <= LIMITS[wire.code]
        ):
            return write
    return None


def _wire(write: Write) -> Wire:
    assert isinstance(write.plan, Planned)  # noqa: S101 - the plugin prepared it
    return write.plan.wire
