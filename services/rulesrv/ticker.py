"""The tick: time passes in Redis even when no data comes."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from libs.clock import monotonic_ms
from libs.errors import UnavailableError, VoltageError
from services.rulesrv.functions import RuleFunctions

logger = logging.getLogger(__name__)

# While Redis is away there is nothing to tick; asking more often would only add load.
AWAY_MS: Final = 1000
# A tick carries out 8 of what a storm left waiting, in under a millisecond. While there is more the next tick comes
# soon: 2,000 alarms are in the journal within a second, and Redis is free for the rest.
STORM_MS: Final = 2


class Ticker:
    """Calls voltage_tick at a steady pace. Any number of tickers is harmless."""

    def __init__(self, rules: RuleFunctions, interval_ms: int) -> None:
        """Keep the pace; nothing runs yet."""
        self._rules = rules
        self._interval_ms = interval_ms
        self._problem = ""

    async def run(self) -> None:
        """Tick for ever; a failure is logged once and tried again."""
        due = monotonic_ms()
        while True:
            pause_ms = await self._tick()
            # After a stall the missed ticks are skipped: one tick does the work of many.
            due = max(due + pause_ms, monotonic_ms())
            await asyncio.sleep((due - monotonic_ms()) / 1000)

    async def _tick(self) -> int:
        try:
            more = await self._rules.tick()
        except VoltageError as error:
            if str(error) != self._problem:
                logger.warning("tick: %s", error)
                self._problem = str(error)
            return AWAY_MS if isinstance(error, UnavailableError) else self._interval_ms
        if self._problem:
            logger.info("tick: goes on")
            self._problem = ""
        return STORM_MS if more else self._interval_ms
