"""What a device refuses of a block, found without a device."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.comsrv.isolation import Finding, isolate


def search(
    count: int, illegal: set[int], *, longest: int = 999, border: int = -1, thorough: bool = True
) -> tuple[Finding, int]:
    """Ask a device of `count` registers, one a piece; return what was found in how many requests."""
    search = isolate(count, lambda first, stop: stop - first, thorough=thorough)
    asked = 0
    first, stop = next(search)
    while True:
        asked += 1
        refused = illegal & set(range(first, stop)) or stop - first > longest or first < border < stop
        try:
            first, stop = search.send(not refused)
        except StopIteration as found:
            return found.value, asked


def test_one_illegal_register_of_120_is_found_in_a_few_requests():
    for place in range(120):
        finding, asked = search(120, {place}, thorough=False)
        assert finding == Finding(refused=[place])
        assert asked <= 16


def test_a_length_the_device_can_not_pass_is_found_exactly():
    finding, _ = search(125, set(), longest=64)
    assert finding == Finding(longest=64)


def test_a_border_that_no_request_may_cross():
    finding, _ = search(100, set(), border=37)
    assert finding == Finding(borders=[37])


def test_a_device_that_refuses_everything_teaches_nothing_unless_asked_thoroughly():
    finding, asked = search(120, set(range(120)), thorough=False)
    assert (finding.everything, finding.empty, asked) == (True, True, 5)
    finding, _ = search(20, set(range(20)))
    assert finding.refused == list(range(20))


def test_a_passing_refusal_leaves_no_trace():
    finding, asked = search(120, set())
    assert finding.empty
    assert asked == 3


@settings(deadline=None)
@given(st.integers(1, 125), st.sets(st.integers(0, 124), max_size=6))
def test_exactly_the_illegal_ones_are_found(count: int, illegal: set[int]):
    illegal = {place for place in illegal if place < count}
    finding, asked = search(count, illegal)
    assert finding.refused == sorted(illegal)
    assert not finding.borders
    assert asked <= 3 + 2 * len(illegal) * 8
