"""Plan again with what was learned: what a device refuses, and what its requests cost.

Points keep what they are: only the requests change that read them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final

from services.comsrv.contract import Block, Cost, Outline
from services.comsrv.costs import ENOUGH, SPREAD

if TYPE_CHECKING:
    from services.comsrv.poller import Poller

log = logging.getLogger(__name__)

# Costs are looked at after this time, then after twice the time, up to an hour.
FIRST_LOOK_MS: Final = 5_000.0
# ... and again after this time, when short requests were made first.
SAMPLING_MS: Final = 2_000.0
SETTLED_S: Final = 0.3
LONGEST_LOOK_MS: Final = 3_600_000.0
# Planning 1,000 points takes a few milliseconds in which nothing else of the process runs: channels that
# were started together do not plan together.
APART_MS: Final = 50.0
# A plan that saves less of the cycle is not worth the change.
WORTH: Final = 0.03


class Learning:
    """Decides when a channel is planned again."""

    # When the next channel of this process may plan for its costs.
    _next_ms = 0.0

    def __init__(self, poller: Poller) -> None:
        """Look at the costs after a while."""
        self._poller = poller
        # When to plan anew, and when to look at the costs, by the monotonic clock.
        self.plan_ms = inf
        self.look_ms = 0.0
        self._pause_ms = FIRST_LOOK_MS
        self._sampled: set[str] = set()

    def plan_again(self, at_ms: float) -> None:
        """Plan anew at an instant: a device refuses something, or does no longer."""
        self.plan_ms = min(self.plan_ms, at_ms)

    async def plan(self) -> None:
        """Plan anew."""
        self.plan_ms = inf
        await self._settled()
        self._adopt(self._poller.plugin.replan(self._poller.quarantine.knowledge))
        await self._save()

    async def look(self, now: float) -> None:
        """Plan anew where learned costs make it worth it; ever less often, as they change little."""
        if self.look_ms == 0.0:
            self.look_ms = now + self._pause_ms
            return
        if self._samples_missing() or self._poller.spare.sampling:
            self.look_ms = now + SAMPLING_MS
            return
        if not await self._settled():
            self.look_ms = now + SAMPLING_MS
            return
        if now < Learning._next_ms:
            self.look_ms = Learning._next_ms
            return
        Learning._next_ms = now + APART_MS
        self._pause_ms = min(2 * self._pause_ms, LONGEST_LOOK_MS)
        self.look_ms = now + self._pause_ms
        if self._learn_costs():
            await self._save()

    async def _settled(self) -> bool:
        """Wait, shortly, until Redis has all that was read: then it need not be told again by a new plan."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_S):
                await self._poller.uplink.drained()
        return self._poller.uplink.idle

    def _samples_missing(self) -> bool:
        """Have short requests made where all are alike, once a unit: one length says nothing about a register."""
        poller = self._poller
        missing = False
        for unit in poller.units.values():
            if unit.name in self._sampled or unit.problem or not unit.answers:
                continue
            self._sampled.add(unit.name)
            tasks = [task for task in poller.of(unit) if task.entry is None]
            task = max(tasks, key=lambda one: one.length, default=None)
            if task is None:
                continue
            if unit.cost.fit() is None and poller.plugin.pieces(task.block) > 1 and task.length > SPREAD:
                poller.spare.sample(task, ENOUGH)
                missing = True
        return missing

    def _learn_costs(self) -> bool:
        """Plan with the costs learned so far and take the plan if it saves time. Returns whether to save them."""
        poller = self._poller
        costs = {name: cost for name, unit in poller.units.items() if (cost := unit.cost.fit()) is not None}
        known = poller.quarantine.costs
        if costs == known:
            return False
        poller.quarantine.costs = costs
        knowledge = poller.quarantine.knowledge
        before = self._load([Outline(task.block.unit, task.block.group, task.length) for task in poller.tasks], costs)
        after = self._load(poller.plugin.outline(knowledge), costs)
        if after < (1 - WORTH) * before:
            log.info(
                "channel %s: planned with learned costs: %.1f ms of requests a second instead of %.1f",
                poller.uplink.lease.channel, after, before,
            )  # fmt: skip
            self._adopt(poller.plugin.replan(knowledge))
            return True
        # Costs that move a little make no other plan, and 100 files written through to the disk hold commands up.
        return costs.keys() != known.keys()

    def _load(self, requests: Sequence[Outline], costs: dict[str, Cost]) -> float:
        """Return the milliseconds a second that requests take."""
        interval_of = self._poller.polling.interval_of
        total = 0.0
        for unit, group, length in requests:
            cost = costs.get(unit)
            if cost is not None:
                total += (cost.request + cost.register * length) * 1000 / interval_of(group)
        return total

    def _adopt(self, blocks: tuple[Block, ...]) -> None:
        """Read these blocks from now on; what is new of them at once."""
        poller = self._poller
        poller.statistics.plans += 1
        fresh = poller.arrange(blocks)
        for task in poller.tasks:
            if task.entry is not None and task.problem != task.entry.quality:
                poller.fail(task, task.entry.quality)
        poller.spare.catch_up(fresh)

    async def _save(self) -> None:
        """Keep what was learned, without holding up the polls."""
        await asyncio.to_thread(self._poller.quarantine.save)
