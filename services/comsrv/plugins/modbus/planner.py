"""Plan which requests read which points.

Points of one unit and table are sorted by address and joined while the block stays
within the limits and no hole is wider than the gap. A value is never split over two
requests. `auto` reads through any hole: on TCP a request costs more than 125 registers;
where the device refuses the addresses in a hole, `split` takes the block apart again.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

import numpy as np

from libs.points import PointKind
from services.comsrv.channel import Polling
from services.comsrv.contract import Block, sections_of
from services.comsrv.plugins.modbus.codec import Decoder
from services.comsrv.plugins.modbus.mapping import Wire

# One comsrv_ingest carries at most so many points (DESIGN, Budget).
MAX_POINTS: Final = 500
_KIND_ORDER: Final = {kind: index for index, kind in enumerate(PointKind)}
_READ_TABLE: Final = {1: "coils", 2: "inputs", 3: "holding", 4: "input"}


class Request:
    """A read request and the points in its answer. `decoder` turns the answer's bytes into arrays."""

    def __init__(self, wires: list[Wire]) -> None:
        """Order the points by kind, then address, and prepare the decoding."""
        self.wires = sorted(
            wires, key=lambda wire: (_KIND_ORDER[wire.kind], wire.address, wire.bit or 0, wire.point.id)
        )
        self.unit = wires[0].unit
        self.code = wires[0].read_code
        self.address = min(wire.address for wire in wires)
        self.end = max(_end(wire) for wire in wires)
        self.decoder = Decoder(self.wires, self.address, self.end - self.address)

    @property
    def count(self) -> int:
        """Registers or bits asked for."""
        return self.end - self.address


def plan(wires: Iterable[Wire], polling: Polling) -> tuple[Block, ...]:
    """Return the blocks that read the points, in the order of unit, table and address."""
    blocks: list[Block] = []
    ordered = sorted(wires, key=_place)
    for (_, code), group in groupby(ordered, key=lambda wire: (wire.unit, wire.read_code)):
        limit = polling.max_bits if code in {1, 2} else polling.max_registers
        gap = limit if polling.max_gap == "auto" else polling.max_gap
        blocks += [_block(part) for part in _join(list(group), limit, gap)]
    return tuple(blocks)


def split(block: Block) -> tuple[Block, ...]:
    """Take a block apart: at its holes, else in two halves, else not at all."""
    request: Request = block.plan
    wires = sorted(request.wires, key=_place)
    parts = list(_join(wires, request.count, 0))
    if len(parts) == 1:
        middle = _middle(wires)
        if middle == 0:
            return ()
        parts = [wires[:middle], wires[middle:]]
    return tuple(_block(part) for part in parts)


def _middle(wires: list[Wire]) -> int:
    """Return where to cut so that neither half holds a part of the other's values; 0 for nowhere."""
    cuts = []
    end = _end(wires[0])
    for index in range(1, len(wires)):
        if wires[index].address >= end:
            cuts.append(index)
        end = max(end, _end(wires[index]))
    return min(cuts, key=lambda cut: abs(cut - len(wires) / 2), default=0)


def _join(wires: list[Wire], limit: int, gap: int) -> Iterable[list[Wire]]:
    """Yield runs of points whose addresses fit into one request. The points are sorted."""
    run: list[Wire] = []
    end = 0
    for wire in wires:
        if run and (
            wire.address - end > gap or max(end, _end(wire)) - run[0].address > limit or len(run) >= MAX_POINTS
        ):
            yield run
            run = []
        end = max(end, _end(wire)) if run else _end(wire)
        run.append(wire)
    if run:
        yield run


def _block(wires: list[Wire]) -> Block:
    request = Request(wires)
    points = [(wire.kind, wire.point) for wire in request.wires]
    return Block(
        name=f"{request.unit}-{_READ_TABLE[request.code]}-{request.address}-{request.count}",
        unit=str(request.unit),
        sections=sections_of(points),
        thresholds=np.array([point.threshold for _, point in points], np.float64),
        plan=request,
    )


def _end(wire: Wire) -> int:
    """Return the first address behind the point."""
    return wire.address + (1 if wire.is_bit else wire.width)


def _place(wire: Wire) -> tuple[int, int, int, int, int, int]:
    return wire.unit, wire.read_code, wire.address, -_end(wire), _KIND_ORDER[wire.kind], wire.point.id
