"""What keeps a commanded device safe between commands.

Holds that end while Redis is away get their fall-back from here; values that must be
repeated are repeated while they are held; a heartbeat is written only while data flow to
Redis, so that the device's own watchdog acts when they don't; and a value that another
master changed is noticed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from libs.clock import monotonic_ms, now_ms
from libs.errors import ConflictError, StateError, VoltageError
from services.comsrv.channel import Channel, Point
from services.comsrv.commander import Commander
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.options import Heartbeat

log = logging.getLogger(__name__)

# Redis counts as away when nothing was heard of it for this long.
AWAY_MS: Final = 3000
SYNC_MS: Final = 1000
FAILSAFE_MS: Final = 500
LONGEST_SLEEP_MS: Final = 500


@dataclass
class Held:
    """A hold as this process knows it; `written` says that its fall-back was written from here."""

    command: str
    value: float
    fallback: float | None
    deadline_ms: int
    written: bool = False


class Caretaker:
    """Looks after one channel whose lease this process holds."""

    def __init__(
        self,
        functions: ComsrvFunctions,
        channel: Channel,
        commander: Commander,
        epoch: Callable[[], int],
        heard_ms: Callable[[], int],
    ) -> None:
        """Keep what it works with; `heard_ms` returns when Redis last answered, by the clock that never steps."""
        self.holds: dict[str, Held] = {}
        self._functions = functions
        self._channel = channel
        self._commander = commander
        self._epoch = epoch
        self._heard_ms = heard_ms
        self._beats = 0
        self._points = _commanded(channel)
        # What is to be done -> when it is due.
        self._due: dict[tuple[str, str], int] = {}

    def adopt(self, channel: Channel) -> None:
        """Take over other points of the channel."""
        self._channel, self._points = channel, _commanded(channel)

    async def run(self) -> None:
        """Look after the channel, for ever."""
        while True:
            now = monotonic_ms()
            await self._every("sync", "", SYNC_MS, now, self._sync)
            await self._every("failsafe", "", FAILSAFE_MS, now, self._failsafe)
            heartbeat = self._channel.commands.heartbeat
            if heartbeat is not None:
                await self._every("heartbeat", "", heartbeat.interval_ms, now, self._beat)
            for point in list(self.holds):
                if interval_ms := self._option(point, "refresh_ms"):
                    await self._every("refresh", point, interval_ms, now, partial(self._refresh, point))
            for point in list(self._commander.confirmed):
                if interval_ms := self._option(point, "watch_ms"):
                    await self._every("watch", point, interval_ms, now, partial(self._watch, point))
            wait_ms = min(self._due.values()) - monotonic_ms()
            await asyncio.sleep(min(max(wait_ms, 1), LONGEST_SLEEP_MS) / 1000)

    async def make_safe(self) -> None:
        """Write the fall-back of every point that has one; for a channel that stops."""
        for name, point in self._points.items():
            if point.command is not None and point.command.fallback is not None:
                await self._commander.write(name, point.command.fallback)

    async def _every(self, what: str, point: str, interval_ms: int, now: int, do: Callable[[], Any]) -> None:
        """Do something when it is due, the first time after one interval."""
        due = self._due.setdefault((what, point), now + interval_ms)
        if now >= due:
            self._due[what, point] = max(due + interval_ms, now)
            await do()

    @property
    def _away_ms(self) -> int:
        """How long nothing was heard of Redis."""
        return monotonic_ms() - self._heard_ms()

    def _option(self, point: str, name: str) -> int | None:
        declared: Point | None = self._points.get(point)
        found: int | None = getattr(declared.command, name) if declared is not None else None
        return found

    async def _sync(self) -> None:
        """Take over what Redis says about holds; it decides, as long as it is there."""
        if not self._points and not self.holds and not self._commander.executed:
            return
        if self._away_ms > AWAY_MS:
            return
        try:
            await self._report_written()
            items = await self._functions.holds(self._channel.id)
        except VoltageError:
            return
        ahead = monotonic_ms() - now_ms()
        found = {
            item["point"]: Held(item["command"], item["value"], item["fallback"], item["until_ms"] + ahead)
            for item in items
        }
        for point in self.holds.keys() - found.keys():
            self._due.pop(("refresh", point), None)
        self.holds = found

    async def _report_written(self) -> None:
        """Tell Redis which fall-backs were written while it was away."""
        for point, held in list(self.holds.items()):
            if not held.written:
                continue
            document = {
                "type": point[0],
                "point": point[2:],
                "by": {"kind": "system", "name": "comsrv"},
                "written": held.fallback,
                "epoch": self._epoch(),
                "reason": "comsrv wrote the fall-back: Redis was away",
            }
            try:
                await self._functions.release_hold(self._channel.id, document)
            except ConflictError:
                raise
            except StateError as error:
                log.info("channel %s: the hold of %s is over: %s", self._channel.id, point, error)
            del self.holds[point]

    async def _failsafe(self) -> None:
        """While Redis is away nobody else ends a hold: at its time, or when Redis is away for too long."""
        away_ms = self._away_ms
        if away_ms <= AWAY_MS:
            return
        too_long = away_ms > self._channel.commands.failsafe_s * 1000
        for point, held in self.holds.items():
            if held.written or held.fallback is None or not (too_long or monotonic_ms() >= held.deadline_ms):
                continue
            held.written = await self._commander.write(point, held.fallback)
            if held.written:
                log.warning(
                    "channel %s: %s has its fall-back %g: Redis is away", self._channel.id, point, held.fallback
                )

    async def _refresh(self, point: str) -> None:
        """Repeat a held value."""
        held = self.holds.get(point)
        if held is not None and not held.written and monotonic_ms() < held.deadline_ms:
            await self._commander.write(point, held.value)

    async def _watch(self, point: str) -> None:
        """Notice that another master wrote a point."""
        value = await self._commander.shown(point)
        if value is None:
            return
        log.warning("channel %s: another master wrote %s: it shows %s", self._channel.id, point, value)
        document = {"epoch": self._epoch(), "type": point[0], "point": point[2:], "value": value}
        try:
            await self._functions.overwritten(self._channel.id, document)
        except VoltageError:
            # It is noticed again at the next look.
            return
        self._commander.accept(point, value)

    async def _beat(self) -> None:
        heartbeat = self._channel.commands.heartbeat
        if heartbeat is not None and self._away_ms <= AWAY_MS:
            await self._commander.write(f"{heartbeat.type}:{heartbeat.point}", self._next_beat(heartbeat))

    def _next_beat(self, heartbeat: Heartbeat) -> float:
        self._beats += 1
        return float(self._beats % 2 if heartbeat.mode == "toggle" else self._beats % (heartbeat.highest + 1))


def _commanded(channel: Channel) -> dict[str, Point]:
    """Return the points that say how they want to be commanded."""
    return {
        f"{kind}:{point.id}": point for kind in "CA" for point in channel.points.of(kind) if point.command is not None
    }
