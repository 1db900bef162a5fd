"""One request of a poller: on the line, within its time, measured."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from services.comsrv.channel import Polling
from services.comsrv.contract import Block, ComBase, DeviceError, NoAnswerError, Reading
from services.comsrv.figures import Statistics
from services.comsrv.line import Line
from services.comsrv.units import KNOWN, Unit

# A unit among others is waited for at least so long, in parts of the shortest interval and in milliseconds,
FLOOR: Final = 0.03
MIN_FLOOR_MS: Final = 10.0
# and so many times longer for each request before it that had no answer.
LONGER: Final = 4


class Reader:
    """Asks units for blocks."""

    def __init__(
        self, plugin: ComBase, line: Line, statistics: Statistics, polling: Polling, units: dict[str, Unit]
    ) -> None:
        """Keep what it works with."""
        # Whether the last request in its turn was waited for less long than the plugin would.
        self.hurried = False
        self._plugin = plugin
        self._line = line
        self._statistics = statistics
        self._floor_ms = max(FLOOR * polling.shortest_ms, MIN_FLOOR_MS)
        self._units = units
        # Requests without an answer since the last one of any unit.
        self._unanswered = 0

    @property
    def crowded(self) -> bool:
        """True where others wait while a unit is waited for."""
        return len(self._units) > 1 or len(self._line.dues) > 1

    async def ask(self, block: Block, unit: Unit, length: float, timeout_ms: int | None) -> Reading:
        """Read a block now and measure it. Raises DeviceError."""
        self._statistics.requests += 1
        unit.requests += 1
        async with self._line.for_poll():
            began = perf_counter()
            try:
                if timeout_ms is None:
                    reading = await self._plugin.read_batch(block)
                else:
                    reading = await self._plugin.read_within(block, timeout_ms)
            except DeviceError as error:
                self._unanswered = self._unanswered + 1 if isinstance(error, NoAnswerError) else 0
                raise
            self._unanswered = 0
            if unit.answered(length, (perf_counter() - began) * 1000) or unit.answers == KNOWN:
                self._pace(unit)
        return reading

    def patience(self, unit: Unit) -> int | None:
        """Return how long to wait for a unit in its turn, in milliseconds; None for as long as the plugin does.

        After a request without an answer it is longer: what is between us and the units may still
        be busy with that one, as a gateway is that asks them one by one.
        """
        timeout_ms = unit.timeout_ms
        if timeout_ms is not None and self._unanswered:
            timeout_ms *= LONGER ** min(self._unanswered, 8)
            if timeout_ms >= self._plugin.timeout_ms:
                timeout_ms = None
        self.hurried = timeout_ms is not None
        return timeout_ms

    def _pace(self, unit: Unit) -> None:
        """Set how long the unit is waited for from now on."""
        if self.crowded:
            unit.hurried(self._floor_ms, self._plugin.timeout_ms)
        else:
            unit.timeout_ms = None
