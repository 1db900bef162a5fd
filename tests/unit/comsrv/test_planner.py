"""Which requests read which points."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.points import PointKind
from services.comsrv.channel import PollGroup, Polling, UnitPolling
from services.comsrv.contract import Block, Cost, Knowledge, Outline, Span
from services.comsrv.plugins.modbus.mapping import Wire
from services.comsrv.plugins.modbus.planner import length, outline, part, pieces, plan
from tests.unit.comsrv.points import wire


def spans(blocks: tuple[Block, ...]) -> list[tuple[int, int, int, int]]:
    return [(block.plan.unit, block.plan.code, block.plan.address, block.plan.count) for block in blocks]


def test_125_registers_are_one_request_and_the_126th_another():
    blocks = plan([wire(number + 1, number) for number in range(126)], Polling())
    assert spans(blocks) == [(1, 3, 0, 125), (1, 3, 125, 1)]


def test_a_value_is_never_split():
    """A float at 124 would need register 125: it goes to the next request as a whole."""
    blocks = plan([wire(1, 0), wire(2, 124, "float32")], Polling())
    assert spans(blocks) == [(1, 3, 0, 1), (1, 3, 124, 2)]


def test_holes_wider_than_the_gap_separate():
    wires = [wire(1, 0, "float32"), wire(2, 5), wire(3, 11)]
    assert spans(plan(wires, Polling(max_gap=3))) == [(1, 3, 0, 6), (1, 3, 11, 1)]
    assert spans(plan(wires, Polling())) == [(1, 3, 0, 12)]


def test_2000_coils_are_one_request():
    blocks = plan([wire(n + 1, n, "bool", 1, kind=PointKind.SIGNAL) for n in range(2001)], Polling())
    assert spans(blocks) == [(1, 1, 0, 2000), (1, 1, 2000, 1)]
    sparse = [wire(1, 0, "bool", 1, kind=PointKind.SIGNAL), wire(2, 1999, "bool", 1, kind=PointKind.SIGNAL)]
    assert spans(plan(sparse, Polling())) == [(1, 1, 0, 2000)]


def test_units_and_tables_have_requests_of_their_own():
    wires = [wire(1, 0), wire(2, 1, code=4), wire(3, 2, unit=2), wire(4, 3)]
    assert spans(plan(wires, Polling())) == [(1, 3, 0, 4), (1, 4, 1, 1), (2, 3, 2, 1)]


def test_telemetry_and_signals_with_equal_ids_stay_apart():
    wires = [wire(1, 0), wire(1, 1, "bool", kind=PointKind.SIGNAL), wire(2, 2)]
    (block,) = plan(wires, Polling())
    assert [(section.kind.value, section.start, section.stop, section.ids) for section in block.sections] == [
        ("T", 0, 2, ("1", "2")),
        ("S", 2, 3, ("1",)),
    ]


def test_a_block_comes_apart_in_pieces_that_keep_values_whole():
    wires = [wire(1, 0), wire(2, 1), wire(3, 50), wire(4, 51, "float32"), wire(5, 50, "bool", bit_position=3)]
    (block,) = plan(wires, Polling())
    assert pieces(block) == 4
    halves = (part(block, 0, 2), part(block, 2, 4), part(block, 3, 4))
    assert spans(halves) == [(1, 3, 0, 2), (1, 3, 50, 3), (1, 3, 51, 2)]
    assert sorted(one.point.id for one in part(block, 2, 3).plan.wires) == [3, 5]


def test_poll_groups_have_requests_of_their_own():
    wires = [wire(1, 0), wire(2, 1, poll_group="fast"), wire(3, 2)]
    blocks = plan(wires, Polling(groups={"fast": PollGroup(interval_ms=200)}))
    assert [(block.group, block.name) for block in blocks] == [("", "1-holding-0-3"), ("fast", "1-holding-1-1-fast")]


def test_limits_of_a_unit_hold_for_that_unit_alone():
    wires = [wire(number + 1, number % 50, unit=1 + number // 50) for number in range(100)]
    polling = Polling(units={2: UnitPolling(max_registers=20)})
    assert spans(plan(wires, polling)) == [(1, 3, 0, 50), (2, 3, 0, 20), (2, 3, 20, 20), (2, 3, 40, 10)]


def test_aligned_requests_never_cross_a_window_and_windows_are_read_whole():
    wires = [wire(1, 43, "float32"), wire(2, 46, "float32"), wire(3, 89), wire(4, 91)]
    aligned = plan(wires, Polling(mode="aligned", window=45))
    assert spans(aligned) == [(1, 3, 43, 2), (1, 3, 46, 44), (1, 3, 91, 1)]
    whole = plan(wires, Polling(mode="windows", window=45))
    assert spans(whole) == [(1, 3, 0, 45), (1, 3, 45, 45), (1, 3, 90, 45)]
    with pytest.raises(ValidationError, match="mode aligned needs a window"):
        Polling(units={3: UnitPolling(mode="aligned")})


def test_single_mode_asks_for_one_value_at_a_time():
    wires = [wire(1, 0, "float32"), wire(2, 2), wire(3, 3, "bool", bit_position=1), wire(4, 3, "bool", bit_position=2)]
    assert spans(plan(wires, Polling(mode="single"))) == [(1, 3, 0, 2), (1, 3, 2, 1), (1, 3, 3, 1)]


def test_an_address_the_device_refuses_stands_alone_and_is_never_read_through():
    wires = [wire(number + 1, number) for number in range(120)]
    knowledge = Knowledge(illegal=frozenset({Span("1", "holding", 60, 1)}))
    assert spans(plan(wires, Polling(), knowledge)) == [(1, 3, 0, 60), (1, 3, 60, 1), (1, 3, 61, 59)]
    other = [point for point in wires if point.address != 60]
    assert spans(plan(other, Polling(), knowledge)) == [(1, 3, 0, 60), (1, 3, 61, 59)]


def test_borders_and_learned_limits_hold():
    wires = [wire(number + 1, 2 * number) for number in range(40)]
    knowledge = Knowledge(borders=frozenset({("1", "holding", 40)}))
    assert spans(plan(wires, Polling(), knowledge)) == [(1, 3, 0, 39), (1, 3, 40, 39)]
    knowledge = Knowledge(limits={("1", "holding"): 30})
    assert spans(plan(wires, Polling(), knowledge)) == [(1, 3, 0, 29), (1, 3, 30, 29), (1, 3, 60, 19)]


def test_learned_costs_decide_what_is_read_through():
    """12 registers cost as much as a request: a hole of 11 is read through, one of 13 is not."""
    knowledge = Knowledge(costs={"1": Cost(12.0, 1.0)})
    assert spans(plan([wire(1, 0), wire(2, 12)], Polling(), knowledge)) == [(1, 3, 0, 13)]
    assert spans(plan([wire(1, 0), wire(2, 14)], Polling(), knowledge)) == [(1, 3, 0, 1), (1, 3, 14, 1)]
    # What the table says is not overruled.
    assert len(plan([wire(1, 0), wire(2, 12)], Polling(max_gap=5), knowledge)) == 2


def test_of_equally_few_requests_those_with_the_fewest_registers():
    """From the left, 0 to 99 and 150 to 200 would be read as 0 to 120 and 150 to 200."""
    wires = [wire(1, 0), wire(2, 99), wire(3, 120), wire(4, 150), wire(5, 200)]
    assert spans(plan(wires, Polling())) == [(1, 3, 0, 1), (1, 3, 99, 102)]


TYPES = ["uint16", "float32", "float64"]
POINT = st.tuples(st.integers(0, 300), st.sampled_from(TYPES), st.integers(1, 2), st.sampled_from(["", "fast"]))
GAP = st.one_of(st.just("auto"), st.integers(0, 20))
GROUPS = {"fast": PollGroup(interval_ms=100)}


def wires_of(points: list[tuple[int, str, int, str]]) -> list[Wire]:
    return [
        wire(index + 1, address, name, unit=unit, poll_group=group)
        for index, (address, name, unit, group) in enumerate(points)
    ]


def check_cover(blocks: tuple[Block, ...], wires: list[Wire], limit: int) -> None:
    """Every point is read once and whole, and no request is too long."""
    assert sorted(point.point.id for block in blocks for point in block.plan.wires) == list(range(1, len(wires) + 1))
    assert len({block.name for block in blocks}) == len(blocks)
    for block in blocks:
        request = block.plan
        assert request.count <= limit
        for point in request.wires:
            assert (request.unit, request.code, block.group) == (point.unit, point.read_code, point.group)
            assert request.address <= point.address
            assert point.address + point.width <= request.end


def greedy(wires: list[Wire], limit: int, gap: int) -> list[tuple[int, int]]:
    """Fill gaps from the left, as Telegraf's `max_insert` does: the first address and the end of each request."""
    found: list[tuple[int, int]] = []
    key = None
    for point in sorted(wires, key=lambda one: (one.unit, one.code, one.group, one.address, -one.width)):
        end = point.address + point.width
        if found and key == (point.unit, point.code, point.group):
            first, last = found[-1]
            if point.address - last <= gap and max(last, end) - first <= limit:
                found[-1] = (first, max(last, end))
                continue
        key = (point.unit, point.code, point.group)
        found.append((point.address, end))
    return found


@settings(deadline=None)
@given(st.lists(POINT, max_size=60), st.integers(4, 125), GAP)
def test_each_point_stands_in_exactly_one_block_and_a_greedy_planner_needs_no_fewer(
    points: list[tuple[int, str, int, str]], limit: int, gap: Any
):
    wires = wires_of(points)
    blocks = plan(wires, Polling(max_registers=limit, max_gap=gap, groups=GROUPS))
    check_cover(blocks, wires, limit)
    filled = greedy(wires, limit, limit if gap == "auto" else gap)
    assert len(blocks) <= len(filled)
    if len(blocks) == len(filled):
        assert sum(block.plan.count for block in blocks) <= sum(end - first for first, end in filled)


@settings(deadline=None)
@given(st.lists(POINT, max_size=60), st.integers(8, 125), st.floats(0, 100), st.floats(0, 10))
def test_with_known_costs_no_gap_makes_a_greedy_planner_quicker(
    points: list[tuple[int, str, int, str]], limit: int, request: float, register: float
):
    """The time of a cycle is the least there is, whatever the gap a person would have chosen."""
    wires = wires_of(points)
    cost = Cost(request, register)
    blocks = plan(wires, Polling(max_registers=limit, groups=GROUPS), Knowledge(costs={"1": cost, "2": cost}))
    check_cover(blocks, wires, limit)
    time = sum(request + register * block.plan.count for block in blocks)
    for gap in (0, 1, 5, 20, limit):
        filled = greedy(wires, limit, gap)
        assert time <= sum(request + register * (end - first) for first, end in filled) + 1e-6


@settings(deadline=None)
@given(
    st.lists(POINT, min_size=1, max_size=40),
    st.sets(st.integers(0, 310), max_size=8),
    st.sets(st.integers(0, 310), max_size=8),
    st.sampled_from([None, 10, 45]),
)
def test_forbidden_addresses_borders_and_windows_are_respected(
    points: list[tuple[int, str, int, str]], illegal: set[int], borders: set[int], window: int | None
):
    wires = wires_of(points)
    knowledge = Knowledge(
        illegal=frozenset(Span("1", "holding", address, 1) for address in illegal),
        borders=frozenset(("1", "holding", address) for address in borders),
    )
    polling = Polling(groups=GROUPS, mode="aligned" if window else "joined", window=window)
    blocks = plan(wires, polling, knowledge)
    check_cover(blocks, wires, 125)
    read = [Outline(block.unit, block.group, length(block.plan.code, block.plan.count)) for block in blocks]
    assert outline(wires, polling, knowledge, None) == read
    for block in blocks:
        request = block.plan
        needed = {address for point in request.wires for address in range(point.start, point.end)}
        read = set(range(request.address, request.end))
        if window and len({address // window for address in read}) > 1:
            # Only values that lie across an edge themselves.
            assert needed == read
        if request.unit == 1:
            assert not (read - needed) & illegal
            inner = {border for border in borders if request.address < border < request.end}
            assert all(any(point.start < border < point.end for point in request.wires) for border in inner)
