"""Polls one channel: each group at its instants, connected again for ever, arrays handed to the uplink.

Nothing here waits for Redis. Polls come first. What else there is to ask - a unit that was
silent, a block of which something is refused, an address in quarantine - is asked in the time
that is left before the next poll (`spare`), so that what is broken does not slow what works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from libs.clock import now_ms
from libs.points import PointKind
from services.comsrv.backoff import Backoff
from services.comsrv.blockimage import Failure
from services.comsrv.channel import Polling
from services.comsrv.contract import (
    Block,
    ComBase,
    DeviceError,
    NoAnswerError,
    NotConnectedError,
    Reading,
    RefusedError,
    UnreachableError,
)
from services.comsrv.faults import refusal
from services.comsrv.figures import Statistics
from services.comsrv.isolation import isolate
from services.comsrv.line import Line
from services.comsrv.quarantine import Quarantine
from services.comsrv.reader import Reader
from services.comsrv.schedule import Schedule, monotonic_now
from services.comsrv.spare import Spare
from services.comsrv.units import Health, Task, Unit
from services.comsrv.uplink import Uplink

# An idle channel looks up this often.
IDLE_S: Final = 3600.0

log = logging.getLogger(__name__)

# Exception codes that a smaller request may not meet: illegal data address, illegal data value.
SPLITTABLE: Final = frozenset((2, 3))
FIRST_RECONNECT_MS: Final = 250
# Polls that leave no time give way once in so long to what else there is to ask.
UNUSED_MS: Final = 200.0
# Searches in vain after which every value of a block that is refused whole is tried.
THOROUGH: Final = 2


class Poller:
    """Polls a channel's blocks; `attempted` is set when each block had its first attempt."""

    def __init__(
        self,
        plugin: ComBase,
        uplink: Uplink,
        line: Line,
        *,
        polling: Polling,
        reconnect_max_ms: int,
        quarantine: Quarantine | None = None,
    ) -> None:
        """Plan with what is known already; nothing is connected yet."""
        self.polling = polling
        self.statistics = Statistics()
        self.attempted = asyncio.Event()
        self.schedule = Schedule(polling, uplink.lease.channel)
        self.quarantine = quarantine or Quarantine()
        self.units: dict[str, Unit] = {}
        self.tasks: list[Task] = []
        self.line = line
        self.plugin = plugin
        self.uplink = uplink
        self.reader = Reader(plugin, line, self.statistics, polling, self.units)
        self.spare = Spare(self)
        self._backoff = Backoff(FIRST_RECONNECT_MS, reconnect_max_ms)
        self._waited: set[str] = set()
        self._late_told = 0
        # The trouble that was logged last, until every unit answers again.
        self._logged = ""
        self._news = asyncio.Event()
        self._lost = False
        # True once a good answer came over the present connection.
        self._proven = False
        # True while the points say that there is no connection.
        self._away = False
        self.arrange(plugin.blocks if self.quarantine.empty else plugin.replan(self.quarantine.knowledge))

    @property
    def blocks(self) -> list[Block]:
        """What is read, as Redis knows it, what is in quarantine included."""
        return [part.block for task in self.tasks for part in task.slices]

    def adopt(self, changed: frozenset[tuple[PointKind, str]]) -> None:
        """Read what the plugin plans now; blocks without a point that changed go on as they were."""
        self.spare.catch_up(self.arrange(self.plugin.replan(self.quarantine.knowledge), changed))

    def arrange(self, blocks: Sequence[Block], changed: frozenset[tuple[PointKind, str]] = frozenset()) -> list[Task]:
        """Take these blocks; those that were there before go on as they were. Returns the new ones."""
        before = {task.name: task for task in self.tasks}
        tasks: list[Task] = []
        fresh: list[Task] = []
        for block in blocks:
            known = before.get(block.name)
            if known is not None and _points(known.block) == _points(block) and not _among(block, changed):
                del before[block.name]
                known.entry = self.quarantine.entries.get(known.span) if known.span else None
                tasks.append(known)
            else:
                fresh.append(self._task(block))
                tasks.append(fresh[-1])
        self.tasks = tasks
        for name in set(self.units) - {block.unit for block in blocks}:
            del self.units[name]
        gone = [part.block for task in before.values() for part in task.slices]
        self.uplink.replan(gone, [part.block for task in fresh for part in task.slices])
        self.schedule.arrange(task for task in tasks if task.entry is None)
        self.spare.keep(tasks)
        return fresh

    def _task(self, block: Block) -> Task:
        unit = self.units.get(block.unit)
        if unit is None:
            unit = self.units[block.unit] = Unit(block.unit, self.quarantine.costs.get(block.unit))
        span = self.plugin.span(block)
        entry = self.quarantine.entries.get(span) if span else None
        return Task(block, unit, self.plugin.length(block), span, entry=entry)

    async def run(self) -> None:
        """Poll for ever."""
        try:
            await self._connect()
            while True:
                # What was lost before is connected again.
                self._lost = False
                try:
                    await self._work()
                except NotConnectedError as error:
                    await self._reconnect(error)
        finally:
            self.line.dues.pop(self, None)

    async def _work(self) -> None:
        """Read what is due, the most urgent first, and use the time between; ends with NotConnectedError."""
        if not self.tasks:
            await self._idle()
        schedule = self.schedule
        while True:
            group = schedule.next(monotonic_now())
            if group is None:
                self.line.dues[self] = schedule.due_ms
                await self.spare.use()
                continue
            if group.pending:
                await self.uplink.room()
                task = group.pending.popleft()
                self.uplink.reading_on = bool(group.pending)
                await self.poll(task)
            if not group.pending:
                schedule.done(group)
                self._done(group.name)
                now = monotonic_now()
                if schedule.due_ms <= now and now - self.spare.used_ms >= UNUSED_MS:
                    await self.spare.steal()
                # A plugin that never waits must not keep everything else from running.
                await asyncio.sleep(0)

    async def _idle(self) -> None:
        """Nothing is read: the connection is there for commands alone, and it is they that find it lost."""
        self._proven = True
        self._backoff.reset()
        self.attempted.set()
        self.report()
        while True:
            await self.rest(IDLE_S)

    async def rest(self, seconds: float) -> None:
        """Wait, or until a command has news, as the next poll may be far. NotConnectedError when that is a loss."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        if self._lost:
            self._lost = False
            raise NotConnectedError("a command found the connection lost")

    def lost(self) -> None:
        """Say that a command found no connection."""
        self._lost = True
        self._news.set()

    def heard(self, name: str) -> None:
        """Say that a unit answered a command: one that was silent is asked again at once."""
        unit = self.units.get(name)
        if unit is not None and unit.health is Health.SILENT:
            unit.next_ms = monotonic_now()
            self._news.set()

    def _done(self, name: str) -> None:
        """Note that a group was polled."""
        statistics = self.statistics
        statistics.polls += 1
        statistics.last_poll_ms = int(self.schedule.groups[name].last_poll_ms)
        if self.schedule.late != self._late_told:
            self.uplink.late(self.schedule.late - self._late_told)
            self._late_told = statistics.late = self.schedule.late
        if not self.attempted.is_set():
            self._waited.add(name)
            if all(group.name in self._waited or not group.tasks for group in self.schedule.groups.values()):
                self.attempted.set()
            self.report()

    async def _connect(self) -> None:
        """Connect, waiting as long as it takes. Blocks are marked at the first attempt in vain."""
        while True:
            try:
                await self.plugin.connect()
            except NotConnectedError as error:
                self.note(error)
                self._mark_all(error)
                await self._pause(error)
            else:
                break
        self.statistics.connections += 1
        self._proven = False
        now = monotonic_now()
        if self._away:
            # It may be another device by now, or a mended one.
            self._away = False
            self.quarantine.hurry(now)
            for task in self.tasks:
                if task.entry is not None:
                    self.fail(task, task.entry.quality)
        for unit in self.units.values():
            unit.next_ms = min(unit.next_ms, now)
        self.schedule.start()

    async def _reconnect(self, error: NotConnectedError) -> None:
        """Connect again; a connection that never carried an answer counts as none."""
        self.note(error)
        await self.plugin.close()
        if not self._proven:
            self._mark_all(error)
            await self._pause(error)
        await self._connect()

    async def _pause(self, error: NotConnectedError) -> None:
        """Wait before the next attempt: as long as the plugin says, or longer each time."""
        if error.retry_after_ms is None:
            await self._backoff.pause()
        else:
            await asyncio.sleep(error.retry_after_ms / 1000)

    def _mark_all(self, error: DeviceError) -> None:
        self._away = True
        for task in self.tasks:
            self.fail(task, error.quality)
        self.attempted.set()
        self.uplink.lease.state = "down"
        self.uplink.lease.units = {}

    # Reading.

    async def poll(self, task: Task) -> None:
        """Read a block in its turn, unless it is known not to answer; then it is the spare time's."""
        unit = task.unit
        if unit.health is not Health.RUNNING or task.search is not None:
            self._leave(task)
            return
        task.asked = self.statistics.requests
        reader = self.reader
        try:
            try:
                reading = await reader.ask(task.block, unit, task.length, reader.patience(unit))
            except RefusedError as error:
                if not task.answered or error.exception_code not in SPLITTABLE or task.problem:
                    raise
                # It was answered before: once more, before it is taken apart.
                self.note(error, unit)
                reading = await reader.ask(task.block, unit, task.length, reader.patience(unit))
        except NotConnectedError:
            raise
        except DeviceError as error:
            self.failed(task, error, hurried=reader.hurried)
        else:
            self.good(task, reading)

    def good(self, task: Task, reading: Reading) -> None:
        """Hand a reading on."""
        task.answered = True
        unit = task.unit
        if task.problem:
            task.problem = ""
            self._judge(unit)
        if unit.health is not Health.RUNNING:
            self.recovered(unit)
        unit.proven = task
        if not self._proven:
            self._proven = True
            self._backoff.reset()
            self.report()
        if len(task.slices) == 1:
            self.uplink.offer(task.block, reading)
        else:
            for part in task.slices:
                self.uplink.offer(part.block, part.of(reading))

    def failed(self, task: Task, error: DeviceError, *, hurried: bool) -> None:
        """Decide what an error says about a block and its unit."""
        unit = task.unit
        self.note(error, unit)
        if isinstance(error, RefusedError):
            if unit.health is not Health.RUNNING:
                self.recovered(unit)
            self._refused(task, error)
        elif isinstance(error, UnreachableError) or not isinstance(error, NoAnswerError):
            if isinstance(error, NoAnswerError):
                self.silent(unit, error.quality)
            else:
                self.fail(task, error.quality)
        elif hurried or unit.proven not in {None, task}:
            self.spare.doubt(task, asked=not hurried)
        else:
            self.silent(unit, error.quality)
        if task.problem and not unit.refusal:
            self._judge(unit)

    def _judge(self, unit: Unit) -> None:
        """Say whether a unit refuses all it is asked: then it is of no more use than a silent one."""
        tasks = list(self.of(unit))
        refused = all(task.problem and task.search is None for task in tasks)
        refusal = tasks[0].problem if tasks and refused else ""
        if refusal != unit.refusal:
            unit.refusal = refusal
            if refusal and not unit.problem:
                unit.since_ms = now_ms()
            self.report()

    def _leave(self, task: Task) -> None:
        """Leave a block out of its poll. What was left out before has no value of this poll and the last."""
        unit = task.unit
        if task.search is not None:
            self.fail(task, refusal(task.code))
        elif unit.health is Health.DOUBTED:
            if self.despaired(unit):
                self.silent(unit, NoAnswerError.quality)
            elif task not in unit.owed:
                unit.owed.append(task)

    def despaired(self, unit: Unit) -> bool:
        """Say whether a unit was doubted for longer than its answer may take."""
        return monotonic_now() - unit.doubted_ms >= self.plugin.timeout_ms

    def _refused(self, task: Task, error: RefusedError) -> None:
        """Find out what of a block the device refuses, where that can be."""
        now = monotonic_now()
        if error.exception_code not in SPLITTABLE:
            self.fail(task, error.quality)
            return
        count = self.plugin.pieces(task.block)
        if count == 0:
            self._split(task, error)
        elif now < task.search_at_ms:
            self.fail(task, error.quality)
        else:
            self.statistics.searches += 1
            task.code = error.exception_code
            task.search = isolate(
                count, lambda first, stop: self._length(task, first, stop), thorough=task.searches >= THOROUGH
            )
            task.asks = next(task.search)
            self.spare.search(task)

    def _split(self, task: Task, error: RefusedError) -> None:
        """Take a block apart for a plugin that can halve blocks only; a block that was answered before stays."""
        parts = () if task.answered else self.plugin.split(task.block)
        if not parts:
            self.fail(task, error.quality)
            return
        place = self.tasks.index(task)
        blocks = [task.block for task in self.tasks]
        blocks[place : place + 1] = parts
        self.spare.catch_up(self.arrange(blocks))

    def part(self, task: Task, first: int, stop: int) -> Block:
        """Return the block of some pieces of a block."""
        known = task.parts.get((first, stop))
        if known is None:
            known = task.parts[first, stop] = self.plugin.part(task.block, first, stop)
        return known

    def _length(self, task: Task, first: int, stop: int) -> int:
        span = self.plugin.span(self.part(task, first, stop))
        return span.length if span else stop - first

    # What units and blocks are.

    def fail(self, task: Task, quality: str) -> None:
        """Say what a block's points are while it can't be read."""
        task.problem = quality
        failure = Failure(now_ms(), quality)
        for part in task.slices:
            self.uplink.offer(part.block, failure)

    def silent(self, unit: Unit, quality: str) -> None:
        """Leave a unit alone for a while, longer each time; all its points say why."""
        if not unit.problem:
            unit.since_ms = now_ms()
        fresh = unit.problem != quality
        unit.health, unit.problem = Health.SILENT, quality
        backoff = Backoff(min(self.polling.shortest_ms, 1000), self.polling.reprobe_max_ms)
        backoff.attempts = unit.failures
        unit.failures += 1
        unit.next_ms = monotonic_now() + backoff.next_ms()
        unit.owed.clear()
        if fresh:
            for task in self.of(unit):
                if task.entry is None:
                    self.fail(task, quality)
            self.report()

    def recovered(self, unit: Unit) -> None:
        """Take a unit for well again, and read what could not be read."""
        unit.recovered()
        self.spare.recovered(unit)
        owed = [task for task in self.of(unit) if (task.problem and task.entry is None) or task in unit.owed]
        unit.owed.clear()
        self.spare.catch_up(owed)
        self.report()

    def of(self, unit: Unit) -> Iterable[Task]:
        """Return the blocks of a unit."""
        return [task for task in self.tasks if task.unit is unit]

    def note(self, error: DeviceError, unit: Unit | None = None) -> None:
        """Keep an error for the diagnostics; log it when it is another than the last."""
        text = str(error)
        if text != self._logged:
            self._logged = text
            log.warning("channel %s: %s", self.uplink.lease.channel, text)
        self.statistics.note(error, unit)

    def report(self) -> None:
        """Say how the channel is."""
        down = [name for name, unit in self.units.items() if unit.trouble]
        before = self.uplink.lease.state
        if len(down) == len(self.units) and down:
            self.uplink.lease.state = "down"
        else:
            self.uplink.lease.state = "degraded" if down else "running"
        if self.uplink.lease.state == "running" and before in {"down", "degraded"}:
            log.info("channel %s: answers again", self.uplink.lease.channel)
            self._logged = ""
        self.uplink.lease.units = {name: unit.document() for name, unit in self.units.items() if name}


def _among(block: Block, changed: frozenset[tuple[PointKind, str]]) -> bool:
    """Say whether one of the points is a block's."""
    return bool(changed) and any(
        (section.kind, point) in changed for section in block.sections for point in section.ids
    )


def _points(block: Block) -> list[tuple[Any, ...]]:
    """Return which points a block has."""
    return [(section.kind, section.ids) for section in block.sections]
