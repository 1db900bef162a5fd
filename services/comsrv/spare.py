"""What is asked in the time that polls leave: silent units, refused blocks, addresses in quarantine.

Each use of the spare time is one request, with a time-out that ends before the next poll is due.
What never finds time enough is asked all the same after a while, so seldom that it takes less
than a hundredth of the line.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from math import inf
from statistics import median
from typing import TYPE_CHECKING, Final

from services.comsrv.backoff import Backoff
from services.comsrv.contract import DeviceError, NoAnswerError, NotConnectedError, RefusedError
from services.comsrv.faults import refusal
from services.comsrv.isolation import Finding
from services.comsrv.learning import Learning
from services.comsrv.quarantine import Entry
from services.comsrv.schedule import monotonic_now
from services.comsrv.units import Health, Task, Unit

if TYPE_CHECKING:
    from services.comsrv.poller import Poller

log = logging.getLogger(__name__)

# Nothing is asked in less time than this, and at least so long before a poll is due nothing is begun.
LEAST_MS: Final = 5.0
# ... and of the time that is left so much is used, as a machine under load ends a time-out late.
ROOM: Final = 0.85
# A request for one value is taken for so much shorter than the longest.
SHORT: Final = 0.25
# What waited longer than this for spare time is asked without.
OVERDUE_MS: Final = 3000.0
# The same for a unit that used to answer within the spare time: it may have become slower.
SLOWER_MS: Final = 300_000.0
# ... and then nothing for so many times as long as it took.
SELDOM: Final = 200.0
# A unit that is alone on its line is asked between its own polls this often at least.
ALONE_MS: Final = 100.0
# What can't be read is said again so often, for a Redis that forgot it.
REMIND_MS: Final = 1000.0
LONGEST_SEARCH_PAUSE_MS: Final = 600_000
# Addresses that answer again within this time lead to one new plan.
TOGETHER_MS: Final = 200.0
# Silent units share what one time-out is, but every so many times each gets all there is.
SHORT_PROBE_MS: Final = 50.0
LONG_PROBE: Final = 4


class Spare:
    """Uses the spare time of one poller."""

    def __init__(self, poller: Poller) -> None:
        """Start with nothing to do."""
        self._poller = poller
        self._owed: deque[Task] = deque()
        self._doubted: deque[tuple[Task, bool]] = deque()
        self._searched: deque[Task] = deque()
        self._samples: deque[Task] = deque()
        # When spare time was used last, by the monotonic clock.
        self.used_ms = 0.0
        self._remind_ms = 0.0
        self._forced_ms = 0.0
        self._alone_ms = 0.0
        self._waiting_since: dict[Task | Unit, float] = {}
        self.learning = Learning(poller)

    def keep(self, tasks: Iterable[Task]) -> None:
        """Forget what is not among these blocks any more."""
        kept = set(map(id, tasks))
        self._owed = deque(task for task in self._owed if id(task) in kept)
        self._searched = deque(task for task in self._searched if id(task) in kept)
        self._samples = deque(task for task in self._samples if id(task) in kept)
        gone = [task for task, _ in self._doubted if id(task) not in kept]
        self._doubted = deque(pair for pair in self._doubted if id(pair[0]) in kept)
        for task in gone:
            # Whoever reads the new blocks finds out.
            task.unit.recovered()
        self._waiting_since = {
            what: since for what, since in self._waiting_since.items() if isinstance(what, Unit) or id(what) in kept
        }
        for unit in self._poller.units.values():
            unit.owed = [task for task in unit.owed if id(task) in kept]
            if unit.proven is not None and id(unit.proven) not in kept:
                unit.proven = None

    def catch_up(self, tasks: Iterable[Task]) -> None:
        """Read these soon, without waiting for their next instant."""
        known = set(map(id, self._owed))
        self._owed.extend(task for task in tasks if task.entry is None and id(task) not in known)

    def doubt(self, task: Task, *, asked: bool) -> None:
        """Find out whether a block or its whole unit is silent. `asked`: the block had its full time already."""
        task.unit.doubted(task, monotonic_now())
        self._doubted.append((task, asked))

    def search(self, task: Task) -> None:
        """Find out what of a block the device refuses."""
        self._searched.append(task)

    def sample(self, task: Task, times: int) -> None:
        """Read the first value of a block a few times, to learn what a short request takes."""
        self._samples.extend([task] * times)

    @property
    def sampling(self) -> bool:
        """True while short requests are still to be made."""
        return bool(self._samples)

    async def steal(self) -> None:
        """Ask for one thing though polls leave no time, or find that there is none."""
        now = self.used_ms = monotonic_now()
        if now >= self._remind_ms:
            self._remind_ms = now + REMIND_MS
            self._remind()
        if self.learning.plan_ms <= now:
            await self.learning.plan()
        else:
            await self._ask(now, now)

    async def use(self) -> None:
        """Ask for one thing if there is one and time for it, else wait for the next poll."""
        now = self.used_ms = monotonic_now()
        if now >= self._remind_ms:
            self._remind_ms = now + REMIND_MS
            self._remind()
        if self.learning.plan_ms <= now:
            await self.learning.plan()
        elif self._owed:
            await self._poller.poll(self._owed.popleft())
        else:
            until = min(self._poller.line.dues.values(), default=inf)
            due = await self._ask(now, until)
            if due > now:
                wake = min(until, due, self._remind_ms, self.learning.plan_ms)
                await self._poller.rest(max(wake - now, 1.0) / 1000)

    async def _ask(self, now: float, until: float) -> float:
        """Ask for the most urgent thing. Returns `now` when that was done, else when there is something to ask."""
        if self._doubted:
            return now if await self._second(now, until) else inf
        if self._searched:
            return now if await self._step(now, until) else inf
        due = await self._retry(now, until)
        if due <= now:
            return now
        if self._samples and await self._sample(now, until):
            return now
        if self.learning.look_ms <= now:
            await self.learning.look(now)
            return now
        return min(due, self.learning.look_ms)

    def _remind(self) -> None:
        """Say again what can't be read."""
        for task in self._poller.tasks:
            if task.problem:
                self._poller.fail(task, task.problem)

    def _time(self, unit: Unit, what: Task | Unit, now: float, until: float, share: float = 1.0) -> int | None:
        """Return how long an answer may be waited for now; None when it is not the time.

        `share` is how much less than the unit's longest requests this one takes.
        """
        poller = self._poller
        longest = poller.plugin.timeout_ms
        room = ROOM * (until - now) - LEAST_MS
        pace_ms = unit.pace_ms if isinstance(what, Task) else self._pace(unit)
        enough = room >= max(share * pace_ms, LEAST_MS if unit.answers else SHORT_PROBE_MS)
        if not poller.reader.crowded:
            # Nobody waits but other blocks of the same unit: they do so for one answer, now and then.
            if isinstance(what, Unit) or enough or now - self._alone_ms >= ALONE_MS:
                self._alone_ms = now
                return longest
            return None
        if room >= longest:
            self._waiting_since.pop(what, None)
            return longest
        overdue_ms = SLOWER_MS if room >= unit.pace_ms and enough and unit.answers else OVERDUE_MS
        if isinstance(what, Task) and until <= now:
            # There never is any: a unit that answers is asked for little more than its answer takes.
            overdue_ms, longest = 0.0, min(longest, int(max(2 * unit.pace_ms, SHORT_PROBE_MS)))
        if now - self._waiting_since.setdefault(what, now) >= overdue_ms and now >= self._forced_ms:
            del self._waiting_since[what]
            return longest
        if not enough:
            return None
        if isinstance(what, Task):
            self._waiting_since.pop(what, None)
        return int(room)

    def _pace(self, unit: Unit) -> float:
        """Return how long a unit may take: what it took before it fell silent may have been the machine's fault."""
        poller = self._poller
        if unit.health is not Health.SILENT:
            return unit.pace_ms
        others = [other.pace_ms for other in poller.units.values() if other.health is Health.RUNNING]
        likely_ms = median(others) if others else poller.plugin.timeout_ms / LONG_PROBE
        return min(unit.pace_ms, max(likely_ms, SHORT_PROBE_MS))

    def recovered(self, unit: Unit) -> None:
        """Note that a unit waits for nothing any more."""
        self._waiting_since.pop(unit, None)

    def _forced(self, now: float, until: float) -> None:
        """Note the end of a request that may have kept polls waiting."""
        ended = monotonic_now()
        if ended > until:
            self._forced_ms = ended + SELDOM * (ended - now)

    async def _second(self, now: float, until: float) -> bool:
        """Ask a block again that was not answered among its neighbors; then, instead, one that was."""
        task, asked = self._doubted[0]
        unit = task.unit
        other = unit.proven if asked and unit.proven is not task else None
        if unit.health is not Health.DOUBTED or (asked and other is None):
            self._doubted.popleft()
            if unit.health is Health.DOUBTED:
                self._poller.silent(unit, NoAnswerError.quality)
            return True
        timeout_ms = self._time(unit, unit, now, until)
        if timeout_ms is None:
            return False
        self._doubted.popleft()
        chosen = other or task
        try:
            reading = await self._poller.reader.ask(chosen.block, unit, chosen.length, timeout_ms)
        except NotConnectedError:
            raise
        except NoAnswerError as error:
            self._poller.note(error, unit)
            self._still_silent(task, error, asked=asked, whole=timeout_ms >= self._poller.plugin.timeout_ms)
        except DeviceError as error:
            self._poller.recovered(unit)
            self._poller.failed(chosen, error, hurried=False)
        else:
            self._poller.good(chosen, reading)
            if other is not None:
                self._mute(task)
        self._forced(now, until)
        return True

    def _still_silent(self, task: Task, error: NoAnswerError, *, asked: bool, whole: bool) -> None:
        """Decide what to ask next of a unit in doubt. `whole`: it was waited for as long as the time-out says."""
        unit = task.unit
        if not whole and not self._poller.despaired(unit):
            self._doubted.append((task, asked))
        elif not asked and unit.proven not in {None, task}:
            self._doubted.append((task, True))
        else:
            self._poller.silent(unit, error.quality)

    def _mute(self, task: Task) -> None:
        """Ask a block seldom that stays without an answer while its unit answers others."""
        poller = self._poller
        if task.span is None:
            poller.fail(task, NoAnswerError.quality)
            return
        poller.quarantine.add(task.span, 0, monotonic_now())
        poller.fail(task, NoAnswerError.quality)
        poller.arrange([task.block for task in poller.tasks])

    async def _step(self, now: float, until: float) -> bool:
        """Make one request of a search."""
        task = self._searched[0]
        if task.search is None:
            self._searched.popleft()
            return True
        timeout_ms = self._time(task.unit, task, now, until)
        if timeout_ms is None:
            return False
        block = self._poller.part(task, *task.asks)
        answered = True
        try:
            await self._poller.reader.ask(block, task.unit, self._poller.plugin.length(block), timeout_ms)
        except RefusedError as error:
            self._poller.note(error, task.unit)
            answered = False
        except NotConnectedError:
            self._end(task, Finding())
            raise
        except DeviceError as error:
            self._end(task, Finding())
            self._poller.failed(task, error, hurried=True)
            return True
        self._forced(now, until)
        try:
            task.asks = task.search.send(answered)
        except StopIteration as found:
            self._end(task, found.value)
        return True

    def _end(self, task: Task, finding: Finding) -> None:
        """Learn from the end of a search."""
        self._searched.remove(task)
        parts, task.parts, task.search = task.parts, {}, None
        poller = self._poller
        now = monotonic_now()
        if finding.empty:
            backoff = Backoff(1000, LONGEST_SEARCH_PAUSE_MS)
            backoff.attempts = task.searches
            task.searches += 1
            task.search_at_ms = now + backoff.next_ms()
            if finding.everything:
                poller.fail(task, refusal(task.code))
            else:
                self.catch_up([task])
            return
        task.parts = parts
        for piece in finding.refused:
            span = poller.plugin.span(poller.part(task, piece, piece + 1))
            if span is not None:
                poller.quarantine.add(span, task.code, now)
                log.warning(
                    "channel %s: unit %s refuses %s %s (exception %s); it is asked alone from now on",
                    poller.uplink.lease.channel, span.unit, span.table, span.address, task.code,
                )  # fmt: skip
        for piece in finding.borders:
            span = poller.plugin.span(poller.part(task, piece, piece + 1))
            if span is not None:
                poller.quarantine.borders.add((span.unit, span.table, span.address))
        if finding.longest is not None and task.span is not None:
            poller.quarantine.limit(task.span.unit, task.span.table, finding.longest)
        task.parts = {}
        self.learning.plan_again(now)

    async def _sample(self, now: float, until: float) -> bool:
        """Make one short request."""
        poller, task = self._poller, self._samples[0]
        timeout_ms = self._time(task.unit, task, now, until, SHORT)
        if timeout_ms is None:
            return False
        self._samples.popleft()
        block = poller.plugin.part(task.block, 0, 1)
        try:
            await poller.reader.ask(block, task.unit, poller.plugin.length(block), timeout_ms)
        except NotConnectedError:
            raise
        except DeviceError as error:
            # Such a request was an experiment: no point is the worse for it.
            poller.note(error, task.unit)
        self._forced(now, until)
        return True

    async def _retry(self, now: float, until: float) -> float:
        """Ask a silent unit, or an address in quarantine, when its time has come. Returns the next such instant."""
        poller = self._poller
        due = inf
        for unit in poller.units.values():
            if unit.health is not Health.SILENT:
                continue
            if unit.next_ms > now:
                due = min(due, unit.next_ms)
            elif (timeout_ms := self._time(unit, unit, now, until)) is not None:
                await self._probe(unit, timeout_ms)
                self._forced(now, until)
                return now
        for task in poller.tasks:
            entry = task.entry
            if entry is None or task.unit.health is not Health.RUNNING:
                continue
            if entry.next_ms > now:
                due = min(due, entry.next_ms)
            elif (timeout_ms := self._time(task.unit, task, now, until)) is not None:
                await self._ask_alone(task, entry, timeout_ms)
                self._forced(now, until)
                return now
        return due

    async def _probe(self, unit: Unit, timeout_ms: int) -> None:
        """Ask a silent unit, each time for another of its blocks."""
        poller = self._poller
        tasks = [task for task in poller.of(unit) if task.entry is None] or list(poller.of(unit))
        task = tasks[unit.failures % len(tasks)]
        if poller.reader.crowded and unit.failures % LONG_PROBE:
            pace_ms = max(other.pace_ms for other in poller.units.values())
            silent = sum(other.health is Health.SILENT for other in poller.units.values())
            timeout_ms = min(timeout_ms, int(max(pace_ms, SHORT_PROBE_MS, poller.plugin.timeout_ms / silent)))
        try:
            reading = await poller.reader.ask(task.block, unit, task.length, timeout_ms)
        except NotConnectedError:
            raise
        except NoAnswerError as error:
            poller.note(error, unit)
            poller.silent(unit, error.quality)
        except DeviceError as error:
            poller.failed(task, error, hurried=False)
        else:
            poller.good(task, reading)

    async def _ask_alone(self, task: Task, entry: Entry, timeout_ms: int) -> None:
        """Ask for an address in quarantine; one that answers is read with its neighbors again."""
        poller = self._poller
        now = monotonic_now()
        try:
            reading = await poller.reader.ask(task.block, task.unit, task.length, timeout_ms)
        except NotConnectedError:
            raise
        except DeviceError as error:
            poller.note(error, task.unit)
            entry.code = getattr(error, "exception_code", 0)
            entry.pause(now)
            if task.problem != entry.quality:
                poller.fail(task, entry.quality)
            return
        poller.good(task, reading)
        poller.quarantine.release(entry.span, now)
        task.entry = None
        log.info("channel %s: %s answers again", poller.uplink.lease.channel, task.name)
        self.learning.plan_again(now + TOGETHER_MS)
