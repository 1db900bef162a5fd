"""Which requests read which points."""

from hypothesis import given
from hypothesis import strategies as st

from libs.points import PointKind
from services.comsrv.channel import Polling
from services.comsrv.contract import Block
from services.comsrv.plugins.modbus.planner import plan, split
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


def test_2000_coils_and_at_most_500_points_a_block():
    blocks = plan([wire(n + 1, n, "bool", 1, kind=PointKind.SIGNAL) for n in range(2000)], Polling())
    assert spans(blocks) == [(1, 1, first, 500) for first in (0, 500, 1000, 1500)]
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


def test_a_refused_block_is_taken_apart_at_its_holes_then_in_halves():
    (block,) = plan([wire(1, 0), wire(2, 1), wire(3, 50), wire(4, 51, "float32")], Polling())
    assert spans(parts := split(block)) == [(1, 3, 0, 2), (1, 3, 50, 3)]
    assert spans(split(parts[1])) == [(1, 3, 50, 1), (1, 3, 51, 2)]
    assert split(split(parts[1])[1]) == ()


POINT = st.tuples(st.integers(0, 300), st.sampled_from(["uint16", "float32", "float64"]), st.integers(1, 2))


@given(st.lists(POINT, max_size=60), st.integers(4, 125), st.one_of(st.just("auto"), st.integers(0, 20)))
def test_each_point_stands_in_exactly_one_block_within_the_limits(
    points: list[tuple[int, str, int]], limit: int, gap: int | str
):
    """Whatever the points, every one is read once, whole, and no request is too long."""
    wires = [wire(index + 1, address, name, unit=unit) for index, (address, name, unit) in enumerate(points)]
    blocks = plan(wires, Polling(max_registers=limit, max_gap=gap))
    assert sorted(point.point.id for block in blocks for point in block.plan.wires) == list(range(1, len(points) + 1))
    assert len({block.name for block in blocks}) == len(blocks)
    for block in blocks:
        request = block.plan
        assert request.count <= limit
        for point in request.wires:
            assert request.address <= point.address
            assert point.address + point.width <= request.end
