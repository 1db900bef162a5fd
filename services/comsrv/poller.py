"""Polls one channel on an absolute grid, reconnects for ever, and hands arrays to the uplink.

Nothing here waits for Redis. A unit that does not answer is left alone for a while, so
that it can't slow the others on its line; a block that the device refuses as a whole is
taken apart until what is refused stands alone.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from libs.clock import monotonic_ms, now_ms
from services.comsrv.backoff import Backoff
from services.comsrv.blockimage import Failure
from services.comsrv.contract import (
    Block,
    ComBase,
    DeviceError,
    MalformedError,
    NoAnswerError,
    NotConnectedError,
    RefusedError,
)
from services.comsrv.line import Line
from services.comsrv.uplink import Uplink

log = logging.getLogger(__name__)

# Exception codes that a smaller request may not meet: illegal data address, illegal data value.
SPLITTABLE: Final = frozenset((2, 3))
FIRST_RECONNECT_MS: Final = 250
# A unit that did not answer in so many polls in a row is asked less often.
PATIENCE: Final = 3
LONGEST_SILENCE_MS: Final = 30_000


@dataclass
class Unit:
    """A device behind the connection: whether it answers, and when it is asked again."""

    failures: int = 0
    problem: str = ""
    asleep_until_ms: int = 0

    def document(self) -> dict[str, Any]:
        """Return its state for the channel's status."""
        return {"state": "down" if self.problem else "running", "problem": self.problem}


@dataclass
class Statistics:
    """What the diagnostics show."""

    polls: int = 0
    late: int = 0
    requests: int = 0
    failures: int = 0
    connections: int = 0
    last_error: str = ""
    last_error_at_ms: int = 0
    last_poll_ms: int = 0


class Poller:
    """Polls a channel's blocks; `attempted` is set when each block had its first attempt."""

    def __init__(self, plugin: ComBase, uplink: Uplink, line: Line, *, interval_ms: int, reconnect_max_ms: int) -> None:
        """Keep what it works with; nothing is connected yet."""
        self.blocks: list[Block] = list(plugin.blocks)
        self.statistics = Statistics()
        self.attempted = asyncio.Event()
        self._plugin = plugin
        self._uplink = uplink
        self._line = line
        self._interval_ms = interval_ms
        self._backoff = Backoff(FIRST_RECONNECT_MS, reconnect_max_ms)
        self._units: dict[str, Unit] = {block.unit: Unit() for block in self.blocks}
        self._answered: set[str] = set()
        # True once a good answer came over the present connection.
        self._proven = False

    async def run(self) -> None:
        """Poll for ever."""
        await self._connect()
        due = monotonic_ms()
        while True:
            began = monotonic_ms()
            await self._poll()
            self.statistics.last_poll_ms = monotonic_ms() - began
            due = await self._next(due)

    async def _next(self, due: int) -> int:
        """Wait for the next instant of the grid; instants that are past already are late polls, left out."""
        due += self._interval_ms
        behind = monotonic_ms() - due
        if behind >= self._interval_ms:
            missed = behind // self._interval_ms
            due += missed * self._interval_ms
            self.statistics.late += missed
            self._uplink.late(missed)
        await asyncio.sleep(max(due - monotonic_ms(), 0) / 1000)
        return due

    async def _connect(self) -> None:
        """Connect, waiting as long as it takes. Blocks are marked at the first attempt in vain."""
        while True:
            try:
                await self._plugin.connect()
            except NotConnectedError as error:
                self._note(error)
                self._mark_all(error)
                await self._pause(error)
            else:
                self.statistics.connections += 1
                self._proven = False
                return

    async def _poll(self) -> None:
        """Read each block once."""
        self.statistics.polls += 1
        silent: set[str] = set()
        queue = list(self.blocks)
        while queue:
            block = queue.pop(0)
            unit = self._units[block.unit]
            if block.unit in silent:
                self._fail(block, unit.problem)
            elif unit.asleep_until_ms <= monotonic_ms():
                try:
                    await self._read(block)
                except NotConnectedError as error:
                    await self._reconnect(error)
                    return
                except NoAnswerError as error:
                    self._silence(unit, error)
                    silent.add(block.unit)
                    self._fail(block, error.quality)
                except RefusedError as error:
                    queue[:0] = self._refused(block, error)
                except MalformedError as error:
                    self._note(error)
                    self._fail(block, error.quality)
        self.attempted.set()
        self._report()

    async def _read(self, block: Block) -> None:
        self.statistics.requests += 1
        async with self._line.for_poll():
            reading = await self._plugin.read_batch(block)
        unit = self._units[block.unit]
        if unit.failures:
            unit.failures, unit.problem, unit.asleep_until_ms = 0, "", 0
        if not self._proven:
            self._proven = True
            self._backoff.reset()
        self._answered.add(block.name)
        self._uplink.offer(block, reading)

    async def _reconnect(self, error: NotConnectedError) -> None:
        """Connect again; a connection that never carried an answer counts as none."""
        self._note(error)
        await self._plugin.close()
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

    def _silence(self, unit: Unit, error: NoAnswerError) -> None:
        """Leave a unit alone for a while, longer each time, once it was silent for a few polls."""
        self._note(error)
        unit.failures += 1
        unit.problem = error.quality
        if unit.failures >= PATIENCE:
            pause = Backoff(self._interval_ms, LONGEST_SILENCE_MS)
            pause.attempts = unit.failures - PATIENCE
            unit.asleep_until_ms = monotonic_ms() + pause.next_ms()

    def _refused(self, block: Block, error: RefusedError) -> tuple[Block, ...]:
        """Return the parts to read instead of a refused block, if it never answered and can be split."""
        self._note(error)
        unit = self._units[block.unit]
        unit.failures, unit.problem, unit.asleep_until_ms = 0, "", 0
        if block.name not in self._answered and error.exception_code in SPLITTABLE:
            parts = self._plugin.split(block)
            if parts:
                place = self.blocks.index(block)
                self.blocks[place : place + 1] = parts
                self._uplink.retire(block)
                return parts
        self._fail(block, error.quality)
        return ()

    def _fail(self, block: Block, quality: str) -> None:
        self._uplink.offer(block, Failure(now_ms(), quality))

    def _mark_all(self, error: DeviceError) -> None:
        for block in self.blocks:
            self._fail(block, error.quality)
        self.attempted.set()
        self._uplink.state = "down"
        self._uplink.units = {}

    def _note(self, error: DeviceError) -> None:
        """Keep an error for the diagnostics; log it when it is another than the last."""
        statistics = self.statistics
        statistics.failures += 1
        text = str(error)
        if text != statistics.last_error:
            log.warning("channel %s: %s", self._uplink.channel, text)
        statistics.last_error, statistics.last_error_at_ms = text, now_ms()

    def _report(self) -> None:
        down = [name for name, unit in self._units.items() if unit.problem]
        if len(down) == len(self._units) and down:
            self._uplink.state = "down"
        else:
            self._uplink.state = "degraded" if down else "running"
        self._uplink.units = {name: unit.document() for name, unit in self._units.items() if name}
