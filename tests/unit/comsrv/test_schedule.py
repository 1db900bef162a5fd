"""When poll groups are due: clocks are given, nothing waits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.comsrv.channel import Polling
from services.comsrv.contract import Block
from services.comsrv.schedule import Schedule
from services.comsrv.units import Task, Unit


class Clock:
    """A monotonic clock and a wall clock that is ahead of it."""

    def __init__(self, now_ms: float = 5_000.0, ahead_ms: float = 1_700_000_000_123.0) -> None:
        self.now_ms = now_ms
        self.ahead_ms = ahead_ms

    def monotonic(self) -> float:
        return self.now_ms

    def wall(self) -> float:
        return self.now_ms + self.ahead_ms


def task(name: str, group: str = "") -> Task:
    unit = Unit("1", None)
    return Task(Block(name, "1", (), np.zeros(0), group=group), unit, 1.0, None)


def schedule(clock: Clock, polling: Polling, channel: int = 1001, blocks: int = 2) -> Schedule:
    found = Schedule(polling, channel, clock=clock.monotonic, wall=clock.wall)
    found.arrange(task(f"{group}{index}", group) for group in ("", *polling.groups) for index in range(blocks))
    found.start()
    return found


def read(schedule: Schedule, clock: Clock, takes_ms: float) -> list[tuple[float, str]]:
    """Read all that is due, each block for a while; return when which group's poll began."""
    began = []
    while (group := schedule.next(clock.now_ms)) is not None:
        began.append((group.began_ms, group.name))
        group.pending.popleft()
        clock.now_ms += takes_ms
        if not group.pending:
            schedule.done(group)
    return list(dict.fromkeys(began))


def test_polls_stay_on_the_grid_however_long_they_take():
    clock = Clock()
    polled = schedule(clock, Polling(interval_ms=1000))
    read(polled, clock, 3)
    instants = []
    for _ in range(100):
        clock.now_ms = polled.due_ms
        instants += [instant for instant, _ in read(polled, clock, 400)]
    assert {round(later - one, 6) for one, later in pairwise(instants)} == {1000.0}
    assert polled.late == 0


def test_instants_that_are_past_are_left_out_and_counted():
    clock = Clock()
    polled = schedule(clock, Polling(interval_ms=100))
    read(polled, clock, 1)
    first = clock.now_ms = polled.due_ms
    # One poll of 350 ms: those after 100, 200 and 300 ms can't be; the last begins late, the others never.
    read_once = polled.next(clock.now_ms)
    assert read_once is not None
    clock.now_ms += 350
    read_once.pending.clear()
    polled.done(read_once)
    assert polled.next(clock.now_ms) is read_once
    assert polled.late == 2
    assert read_once.due_ms == first + 400


def test_a_fast_group_is_read_between_the_blocks_of_a_slow_one():
    clock = Clock()
    polling = Polling(interval_ms=1000, groups={"fast": {"interval_ms": 100}})
    polled = schedule(clock, polling, blocks=10)
    read(polled, clock, 1)
    for _ in range(300):
        clock.now_ms = max(clock.now_ms, polled.due_ms)
        read(polled, clock, 4)
    groups = polled.groups
    # 10 blocks of 4 ms every 100 ms and 10 every 1000 ms: all fit, none is late.
    assert polled.late == 0
    assert groups["fast"].polls >= 9 * groups[""].polls
    assert groups["fast"].longest_poll_ms <= 45
    assert groups[""].longest_poll_ms <= 90


def test_synchronized_groups_share_their_instants_across_channels_and_machines():
    """Two machines whose monotonic clocks have nothing to do with each other."""
    polling = Polling(interval_ms=1000, synchronized=True)
    here, there = Clock(5_000.0, 1_700_000_000_123.0), Clock(900_417.0, 1_699_999_105_000.25)
    instants = []
    for clock, channel in ((here, 1), (there, 2)):
        polled = schedule(clock, polling, channel)
        read(polled, clock, 1)
        instants.append((polled.due_ms + clock.ahead_ms) % 1000)
    assert [round(instant, 3) % 1000 for instant in instants] == [0.0, 0.0]


def test_a_step_of_the_wall_clock_moves_synchronized_groups_only():
    for synchronized in (True, False):
        clock = Clock()
        polled = schedule(clock, Polling(interval_ms=1000, synchronized=synchronized))
        read(polled, clock, 1)
        clock.ahead_ms += 3_600_400
        for _ in range(3):
            before = clock.now_ms = polled.due_ms
            read(polled, clock, 1)
        assert polled.due_ms - before == 1000
        on_grid = round(polled.due_ms + clock.ahead_ms, 3) % 1000 == 0
        assert on_grid is synchronized


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(2, 40))
def test_channels_are_spread_over_the_interval(first: int, count: int):
    """No two of neighboring channels begin closer than a third of an even spread."""
    phases = sorted(
        Schedule(Polling(interval_ms=1000), channel).groups[""].phase_ms for channel in range(first, first + count)
    )
    gaps = [later - one for one, later in zip(phases, [*phases[1:], phases[0] + 1000], strict=True)]
    assert min(gaps) > 1000 / count / 3
