"""Plan which requests read which points.

Points of one unit, table and poll group are sorted by address. Values that overlap stay
together and none is ever split. Where no request may run - a hole wider than the gap, an
address the device refuses, a window's edge - a new one begins; in between the cheapest
joining is found exactly. Without knowledge of costs that is the fewest requests and, among
those, the fewest registers; with it, the least time: t = request + register * n.

`max_gap: auto` reads through any hole that costs less than a request. On TCP, as long as
nothing was learned, that is any hole: a request costs more than 125 registers. On a serial
line the arithmetic of the line is the first knowledge.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np

from libs.points import PointKind
from services.comsrv.channel import Polling
from services.comsrv.contract import Block, Cost, Knowledge, Outline, Span, sections_of
from services.comsrv.plugins.modbus.codec import Decoder
from services.comsrv.plugins.modbus.mapping import Wire
from services.comsrv.plugins.modbus.scaling import far_scales

_KIND_ORDER: Final = {kind: index for index, kind in enumerate(PointKind)}
TABLES: Final = {1: "coils", 2: "inputs", 3: "holding", 4: "input"}
# Fewest requests, then fewest registers: no plan reads a million registers.
_FEWEST: Final = Cost(1_000_000, 1)
_NOTHING: Final = Knowledge()


class Request:
    """A read request and the points in its answer. `decoder` turns the answer's bytes into arrays."""

    def __init__(self, wires: list[Wire], window: tuple[int, int] | None = None) -> None:
        """Order the points by kind, then address, texts last, and prepare the decoding.

        Args:
            wires: the points.
            window: first address and the one behind the last to read, where that is more than the points need.
        """
        self.wires = sorted(
            wires,
            key=lambda wire: (wire.is_text, _KIND_ORDER[wire.kind], wire.address, wire.bit or 0, wire.point.id),
        )
        self.unit = wires[0].unit
        self.code = wires[0].read_code
        self.address, self.end = window or _extent(wires)
        self.whole = window is not None
        # Scales that need requests of their own, and what they held when they were read last.
        self.far = far_scales(wires)
        self.scales: bytes | None = None
        self.decoder = Decoder(self.wires, self.address, self.end - self.address, self.far)

    @property
    def count(self) -> int:
        """Registers or bits asked for."""
        return self.end - self.address

    @property
    def table(self) -> str:
        """The name of the table that is read."""
        return TABLES[self.code]


def _extent(wires: list[Wire]) -> tuple[int, int]:
    """Return the first address of points and the one behind their last."""
    return min(wire.start for wire in wires), max(wire.end for wire in wires)


class _Piece(NamedTuple):
    """Points that are always read together: [start, end)."""

    start: int
    end: int
    wires: list[Wire]


class _Limits(NamedTuple):
    """What holds for one unit and table. `gap` is None where the cost alone decides."""

    longest: int
    gap: int | None
    cost: Cost
    window: int | None
    whole: bool
    single: bool
    # Addresses that no request may read through, and those it may not reach over from below; sorted.
    forbidden: list[int]
    borders: list[int]


def plan(
    wires: Iterable[Wire], polling: Polling, knowledge: Knowledge = _NOTHING, prior: Cost | None = None
) -> tuple[Block, ...]:
    """Return the blocks that read the points, in the order of unit, table and address.

    Args:
        wires: the points.
        polling: limits and modes.
        knowledge: what was learned about the devices.
        prior: the cost of a request where nothing was learned; None where a request costs more than
            any hole that it could read through.
    """
    return _uniquely_named([_block(run, window) for run, window in _requests(wires, polling, knowledge, prior)])


def outline(wires: Iterable[Wire], polling: Polling, knowledge: Knowledge, prior: Cost | None) -> list[Outline]:
    """Return what the blocks of `plan` would read, without preparing them: a third of its work."""
    found = []
    for run, window in _requests(wires, polling, knowledge, prior):
        start, end = window or _extent(run)
        read = 0.0 if far_scales(run) else length(run[0].read_code, end - start)
        found.append(Outline(str(run[0].unit), run[0].group, read))
    return found


def length(code: int, count: int) -> float:
    """Return what a request reads in registers, of which sixteen bits are one."""
    return count / 16 if code in {1, 2} else float(count)


def _requests(
    wires: Iterable[Wire], polling: Polling, knowledge: Knowledge, prior: Cost | None
) -> Iterator[tuple[list[Wire], tuple[int, int] | None]]:
    """Yield the points of each request, and the window that it reads where that is more than they need."""
    for (unit, code), members in groupby(sorted(wires, key=_place), key=lambda wire: (wire.unit, wire.read_code)):
        limits = _limits(unit, code, polling, knowledge, prior)
        illegal = {(span.address, span.length) for span in knowledge.illegal if _is(span, unit, code)}
        found: list[tuple[list[Wire], tuple[int, int] | None]] = []
        ordered = list(members)
        for group in dict.fromkeys(wire.group for wire in ordered):
            own = [wire for wire in ordered if wire.group == group]
            lonely = [wire for wire in own if (wire.start, wire.end - wire.start) in illegal]
            rest = [wire for wire in own if (wire.start, wire.end - wire.start) not in illegal]
            found += [(piece.wires, None) for piece in _by_span(lonely)]
            for run in _runs(rest, limits):
                found.append((run, _window(run, limits)))
        found.sort(key=lambda each: _place(each[0][0]))
        yield from found


def pieces(block: Block) -> int:
    """Return how many parts a block can be read in; none of a window, which is read whole or not at all."""
    request: Request = block.plan
    return 0 if request.whole else len(_by_span(request.wires))


def part(block: Block, start: int, stop: int) -> Block:
    """Return the block of some of the parts, in the order of their addresses."""
    request: Request = block.plan
    return _block([wire for piece in _by_span(request.wires)[start:stop] for wire in piece.wires])


def span(block: Block) -> Span:
    """Return what a block's request reads."""
    request: Request = block.plan
    return Span(str(request.unit), request.table, request.address, request.count)


def _limits(unit: int, code: int, polling: Polling, knowledge: Knowledge, prior: Cost | None) -> _Limits:
    own = polling.of(unit)
    bits = code in {1, 2}
    longest = own.max_bits if bits else own.max_registers
    longest = min(longest, knowledge.limits.get((str(unit), TABLES[code]), longest))
    cost = knowledge.costs.get(str(unit), prior) if own.max_gap == "auto" else None
    if cost is not None and bits:
        cost = Cost(cost.request, cost.register / 16)
    return _Limits(
        longest=longest,
        gap=None if own.max_gap == "auto" else own.max_gap,
        cost=cost or _FEWEST,
        window=own.window if own.mode in {"aligned", "windows"} else None,
        whole=own.mode == "windows",
        single=own.mode == "single",
        forbidden=sorted(
            address
            for span in knowledge.illegal
            if _is(span, unit, code)
            for address in range(span.address, span.address + span.length)
        ),
        borders=sorted(address for name, table, address in knowledge.borders if (name, table) == _name(unit, code)),
    )


def _runs(wires: list[Wire], limits: _Limits) -> Iterable[list[Wire]]:
    """Yield the points of each request; the points are those of one unit, table and group, sorted."""
    if limits.single:
        yield from (piece.wires for piece in _by_span(wires))
        return
    stretch: list[_Piece] = []
    for piece in _joined(wires):
        if stretch and _apart(stretch[-1], piece, limits):
            yield from _cheapest(stretch, limits)
            stretch = []
        stretch.append(piece)
    if stretch:
        yield from _cheapest(stretch, limits)


def _apart(before: _Piece, after: _Piece, limits: _Limits) -> bool:
    """Say whether no request may read both of two neighbors."""
    if limits.gap is not None and after.start - before.end > limits.gap:
        return True
    if limits.window is not None and (after.end - 1) // limits.window != before.start // limits.window:
        return True
    return _any_within(limits.forbidden, before.end, after.start) or _any_within(
        limits.borders, before.end, after.start + 1
    )


def _cheapest(pieces: list[_Piece], limits: _Limits) -> Iterable[list[Wire]]:
    """Yield the requests that cost least, each within the limits.

    f[i], the least cost of the first i pieces, is the least of f[j] + request + register *
    (end of i - start of j) over all j from which i is within reach. f[j] - register * start
    of j is all that depends on j, and what is out of reach only grows, so the best j is the
    front of a queue that is kept ascending: linear in the number of pieces.
    """
    if any(piece.end - piece.start > limits.longest for piece in pieces):
        # Values that overlap in a chain longer than a request: they can't stay together.
        yield from _greedy(sorted((wire for piece in pieces for wire in piece.wires), key=_place), limits.longest)
        return
    request, register = limits.cost
    least = [0.0]
    begins: list[int] = []
    queue: deque[tuple[float, int]] = deque()
    for index, piece in enumerate(pieces):
        offer = least[index] - register * piece.start
        # Of equal ones the later stays, which fills requests from the lowest address.
        while queue and queue[-1][0] >= offer:
            queue.pop()
        queue.append((offer, index))
        while piece.end - pieces[queue[0][1]].start > limits.longest:
            queue.popleft()
        offer, begin = queue[0]
        least.append(offer + request + register * piece.end)
        begins.append(begin)
    runs: list[list[_Piece]] = []
    stop = len(pieces)
    while stop:
        begin = begins[stop - 1]
        runs.append(pieces[begin:stop])
        stop = begin
    for run in reversed(runs):
        yield [wire for piece in run for wire in piece.wires]


def _greedy(wires: list[Wire], longest: int) -> Iterable[list[Wire]]:
    run: list[Wire] = []
    end = 0
    for wire in wires:
        if run and max(end, wire.end) - run[0].start > longest:
            yield run
            run = []
        end = max(end, wire.end) if run else wire.end
        run.append(wire)
    yield run


def _joined(wires: list[Wire]) -> Iterable[_Piece]:
    """Yield the points in pieces that do not overlap."""
    members: list[Wire] = []
    end = 0
    for wire in wires:
        if members and wire.start >= end:
            yield _Piece(members[0].start, end, members)
            members = []
        end = max(end, wire.end) if members else wire.end
        members.append(wire)
    if members:
        yield _Piece(members[0].start, end, members)


def _by_span(wires: list[Wire]) -> list[_Piece]:
    """Return the points with those of the very same addresses together."""
    ordered = sorted(wires, key=_place)
    return [
        _Piece(start, end, list(members))
        for (start, end), members in groupby(ordered, key=lambda wire: (wire.start, wire.end))
    ]


def _window(run: list[Wire], limits: _Limits) -> tuple[int, int] | None:
    """Return what to read of a window that is always read whole; None for what the points need."""
    if not limits.whole or limits.window is None:
        return None
    start = run[0].start // limits.window * limits.window
    stop = start + limits.window
    if max(wire.end for wire in run) > stop or limits.window > limits.longest:
        return None
    if _any_within(limits.forbidden, start, stop):
        return None
    return start, min(stop, 65_536)


def _block(wires: list[Wire], window: tuple[int, int] | None = None) -> Block:
    request = Request(wires, window)
    points = [(wire.kind, wire.point) for wire in request.wires]
    group = wires[0].group
    return Block(
        name=f"{request.unit}-{request.table}-{request.address}-{request.count}" + (f"-{group}" if group else ""),
        unit=str(request.unit),
        sections=sections_of(points),
        thresholds=np.array([point.threshold for _, point in points], np.float64),
        plan=request,
        group=group,
    )


def _uniquely_named(blocks: list[Block]) -> tuple[Block, ...]:
    """Return the blocks, each with a name of its own: values that overlap may be read by equal requests."""
    seen: dict[str, int] = {}
    found = []
    for block in blocks:
        seen[block.name] = times = seen.get(block.name, 0) + 1
        found.append(block if times == 1 else Block(**{**vars(block), "name": f"{block.name}.{times}"}))
    return tuple(found)


def _any_within(ordered: list[int], start: int, stop: int) -> bool:
    """Say whether one of the addresses is in [start, stop)."""
    index = bisect_left(ordered, start)
    return index < len(ordered) and ordered[index] < stop


def _is(span: Span, unit: int, code: int) -> bool:
    return (span.unit, span.table) == _name(unit, code)


def _name(unit: int, code: int) -> tuple[str, str]:
    return str(unit), TABLES[code]


def _place(wire: Wire) -> tuple[int, int, int, int, int, int]:
    return wire.unit, wire.read_code, wire.start, -wire.end, _KIND_ORDER[wire.kind], wire.point.id
