"""What leaves together: readings of different blocks, as long as they fit into a call."""

from __future__ import annotations

import numpy as np

from libs.points import PointKind
from services.comsrv.blockimage import Failure
from services.comsrv.contract import Block, Reading, Section
from services.comsrv.waiting import LEAST, MOST_BLOCKS, MOST_POINTS, Waiting

FAILURE = Failure(1, "bad:timeout")


def block(name: str, size: int = 1) -> Block:
    ids = tuple(str(number) for number in range(1, size + 1))
    return Block(name, "1", (Section(PointKind("T"), 0, size, ids),), np.zeros(size))


def reading(size: int = 1) -> Reading:
    return Reading(1, np.zeros(size), np.zeros(size, np.uint8))


def names(waiting: Waiting) -> list[list[str]]:
    """Return the names of the blocks of each call."""
    calls = []
    while waiting:
        calls.append([block.name for block, _ in waiting.together()])
    return calls


def test_readings_of_different_blocks_leave_together_in_their_order():
    waiting = Waiting()
    for name in ("a", "b", "a", "c"):
        waiting.put(block(name), reading())
    assert names(waiting) == [["a", "b"], ["a", "c"]]


def test_a_failure_leaves_alone_and_nothing_passes_it():
    waiting = Waiting()
    for name, item in (("a", reading()), ("b", FAILURE), ("c", FAILURE), ("d", reading()), ("e", reading())):
        waiting.put(block(name), item)
    assert names(waiting) == [["a"], ["b"], ["c"], ["d", "e"]]


def test_a_call_has_a_limit_of_points_and_of_blocks():
    waiting = Waiting()
    for name in ("a", "b", "c"):
        waiting.put(block(name, MOST_POINTS // 2), reading(MOST_POINTS // 2))
    waiting.put(block("large", 500), reading(500))
    assert names(waiting) == [["a", "b"], ["c"], ["large"]]
    for number in range(MOST_BLOCKS + 1):
        waiting.put(block(str(number)), reading())
    assert [len(call) for call in names(waiting)] == [MOST_BLOCKS, 1]


def test_it_says_when_no_further_block_goes_into_the_call():
    waiting = Waiting()
    for size, enough in ((MOST_POINTS // 3, False), (MOST_POINTS // 3, False), (MOST_POINTS // 3, True)):
        waiting.put(block(str(len(waiting)), size), reading(size))
        assert waiting.enough is enough
    several = Waiting()
    for number in range(1, MOST_BLOCKS + 1):
        several.put(block(str(number)), reading())
        assert several.enough is (number == MOST_BLOCKS)


def test_it_holds_a_few_readings_of_each_block():
    waiting = Waiting()
    assert waiting.most == LEAST
    waiting.grow(100)
    assert waiting.most == 400
