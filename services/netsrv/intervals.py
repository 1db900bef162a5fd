"""Routes that send the present values every so often, at full multiples of their interval."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from libs.clock import now_ms
from libs.errors import UnavailableError
from services.netsrv.forwarder import Forwarder
from services.netsrv.functions import NetworkFunctions
from services.netsrv.networks import Networks
from services.netsrv.router import RouteWriter

_LOG = logging.getLogger(__name__)
LOOK_MS: Final = 500


class Intervals:
    """Writes what is due. An instant that passed while netsrv or Redis was away has no message."""

    def __init__(self, functions: NetworkFunctions, networks: Networks, forwarder: Forwarder) -> None:
        self._functions = functions
        self._networks = networks
        self._forwarder = forwarder
        self._turns: dict[str, tuple[int, int]] = {}
        self.problem: str | None = None

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            at_ms = now_ms()
            try:
                await self.step(at_ms)
            except UnavailableError as error:
                if self.problem is None:
                    _LOG.warning("routes by interval: %s", error)
                self.problem = str(error)
            else:
                self.problem = None
            await asyncio.sleep(self._pause_ms(now_ms()) / 1000)

    def _pause_ms(self, at_ms: int) -> int:
        every = [writer.route.interval_ms or LOOK_MS for writer in self._forwarder.router.on_interval]
        return min([LOOK_MS, *(one - at_ms % one for one in every)])

    async def step(self, at_ms: int) -> None:
        """Write the messages of all routes that are due."""
        due = [writer for writer in self._forwarder.router.on_interval if self._is_due(writer, at_ms)]
        if not due:
            return
        number, image = await self._functions.image([writer.route.source for writer in due])
        for writer in due:
            interval_ms = writer.route.interval_ms or LOOK_MS
            moment = at_ms - at_ms % interval_ms
            samples = [sample._replace(at_ms=moment) for sample in image if writer.pattern.match(sample.ref)]
            if samples and (queue := self._networks.queue(writer.network)):
                await queue.put(writer.write(samples, number))

    def _is_due(self, writer: RouteWriter, at_ms: int) -> bool:
        """Say whether an interval began since the last look; a new route waits for the next one to begin."""
        interval_ms = writer.route.interval_ms or LOOK_MS
        turn = (interval_ms, at_ms // interval_ms)
        before = self._turns.get(writer.route.id or "")
        self._turns[writer.route.id or ""] = turn
        return before is not None and before != turn and before[0] == interval_ms
