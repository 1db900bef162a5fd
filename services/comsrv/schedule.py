"""When poll groups are due: an absolute grid without drift, phases spread, the most urgent first.

The instants of a group are those of the wall clock at which time = phase + k * interval.
Phases of synchronized groups are 0, so groups of any channel, in any process on any machine
with the same clock, are polled at the same instants and their balances close. All others
are spread over the interval, so that they do not ask at once. Between two looks at the
wall clock the grid is kept by the monotonic one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from time import monotonic, time
from typing import Final

from services.comsrv.channel import Polling
from services.comsrv.units import Task

# Multiples of the golden ratio's inverse spread over [0, 1) as evenly as any sequence does.
GOLDEN: Final = 0.6180339887498949
# A synchronized grid that is off by more follows the wall clock, which was stepped.
STEP_MS: Final = 50.0


def monotonic_now() -> float:
    """Return the clock that never steps, in milliseconds with their fraction."""
    return monotonic() * 1000


def wall_now() -> float:
    """Return the wall clock, in Unix milliseconds with their fraction."""
    return time() * 1000


class Group:
    """A poll group: its grid, and what is left of the poll under way."""

    def __init__(self, name: str, interval_ms: int, phase_ms: float, *, synchronized: bool) -> None:
        """Start with nothing to read."""
        self.name = name
        self.interval_ms = interval_ms
        self.phase_ms = phase_ms
        self.synchronized = synchronized
        self.tasks: list[Task] = []
        self.pending: deque[Task] = deque()
        # The next instant; it is also the deadline of the poll under way.
        self.due_ms = 0.0
        self.fresh = True
        self.polls = 0
        self.late = 0
        self.began_ms = 0.0
        self.last_poll_ms = 0.0
        self.longest_poll_ms = 0.0


class Schedule:
    """The groups of a channel. Times are milliseconds of the monotonic clock."""

    def __init__(
        self,
        polling: Polling,
        channel: int,
        *,
        clock: Callable[[], float] = monotonic_now,
        wall: Callable[[], float] = wall_now,
    ) -> None:
        """Make the groups; nothing is due before `start`."""
        self._clock = clock
        self._wall = wall
        self.groups: dict[str, Group] = {}
        for index, name in enumerate(("", *polling.groups)):
            interval_ms, synchronized = polling.interval_of(name), polling.synchronizes(name)
            # Channels one step apart, groups of a channel a third of one: no two coincide.
            spread = (GOLDEN * (channel + index / 3)) % 1.0
            phase_ms = 0.0 if synchronized else spread * interval_ms
            self.groups[name] = Group(name, interval_ms, phase_ms, synchronized=synchronized)
        self.due_ms = 0.0
        self.late = 0
        self._active: list[Group] = []

    def arrange(self, tasks: Iterable[Task]) -> None:
        """Set what the groups read. A poll under way goes on with what is still there."""
        ordered = list(tasks)
        kept = set(map(id, ordered))
        for group in self.groups.values():
            group.tasks = [task for task in ordered if task.group == group.name]
            group.pending = deque(task for task in group.pending if id(task) in kept)
        self._look()

    def start(self) -> None:
        """Make everything due now; the grid follows from there."""
        now = self._clock()
        self._active.clear()
        for group in self.groups.values():
            group.pending.clear()
            group.fresh = True
            group.due_ms = now
        self._look()

    def next(self, now_ms: float) -> Group | None:
        """Begin the polls that are due, and return the group to read from next: the one with the first deadline."""
        if now_ms >= self.due_ms:
            for group in self.groups.values():
                if group.due_ms <= now_ms and group.tasks and group not in self._active:
                    self._begin(group, now_ms)
            self._look()
        if len(self._active) > 1:
            # A group's deadline is its next instant.
            return min(self._active, key=lambda group: group.due_ms)
        return self._active[0] if self._active else None

    def done(self, group: Group) -> None:
        """Note that nothing is left of a group's poll."""
        self._active.remove(group)
        group.last_poll_ms = self._clock() - group.began_ms
        group.longest_poll_ms = max(group.longest_poll_ms, group.last_poll_ms)
        self._look()

    def _look(self) -> None:
        """Find the next instant at which a poll begins; one that is under way begins no other."""
        waiting = (group.due_ms for group in self.groups.values() if group.tasks and group not in self._active)
        self.due_ms = min(waiting, default=inf)

    def _begin(self, group: Group, now_ms: float) -> None:
        """Begin a poll and set the next. Instants that are past already are late polls, left out."""
        group.pending.extend(group.tasks)
        if group.fresh:
            # What was asked last may be what ended the connection: it comes last, and the others get their turn.
            group.pending = deque(sorted(group.tasks, key=lambda task: task.asked))
            group.fresh = False
            group.due_ms = self._on_grid(group, now_ms)
        else:
            missed = int((now_ms - group.due_ms) // group.interval_ms)
            group.late += missed
            self.late += missed
            group.due_ms += (missed + 1) * group.interval_ms
            if group.synchronized:
                # Nearest instant of the wall clock's grid: another one only after that clock was stepped.
                wanted = self._on_grid(group, group.due_ms - group.interval_ms / 2)
                if abs(wanted - group.due_ms) > STEP_MS:
                    group.due_ms = wanted
        group.polls += 1
        group.began_ms = now_ms
        self._active.append(group)

    def _on_grid(self, group: Group, now_ms: float) -> float:
        """Return the first instant of the grid after `now_ms`."""
        ahead = self._wall() - self._clock()
        count = (now_ms + ahead - group.phase_ms) // group.interval_ms + 1
        return group.phase_ms + count * group.interval_ms - ahead
