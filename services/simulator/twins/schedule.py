"""When faults happen: by the schedule of the file, and at random."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from random import Random
from typing import Final

from libs.clock import now_ms
from services.simulator.twins.endpoint import Endpoint
from services.simulator.twins.faults import Active, Fault
from services.simulator.twins.frames import RtuFraming
from services.simulator.twins.log import Log
from services.simulator.twins.settings import UNSEEN_ON_RTU, RandomFaults, Scheduled

# A random fault does not wait longer than this for somebody to ask.
PATIENCE_S: Final = 30.0


class Trouble:
    """Runs faults and writes each into the log when it is over."""

    def __init__(self, endpoints: Sequence[Endpoint], log: Log, seed: int) -> None:
        """Keep what it works with."""
        self.done = 0
        self._endpoints = endpoints
        self._log = log
        self._seed = seed
        self._number = 0

    async def run(self, scheduled: Sequence[Scheduled], at_random: RandomFaults | None) -> None:
        """Run all that is planned."""
        async with asyncio.TaskGroup() as group:
            for fault in scheduled:
                for endpoint, unit in self._targets(fault.device):
                    group.create_task(self._scheduled(fault, endpoint, unit))
            if at_random is not None:
                for endpoint in dict.fromkeys(endpoint for endpoint, _ in self._targets(at_random.device)):
                    group.create_task(self._random(at_random, endpoint))

    def _targets(self, pattern: str) -> list[tuple[Endpoint, int]]:
        return [
            (endpoint, unit_id)
            for endpoint in self._endpoints
            for unit_id, unit in endpoint.units.items()
            if fnmatchcase(unit.name, pattern)
        ]

    async def _scheduled(self, fault: Scheduled, endpoint: Endpoint, unit: int) -> None:
        if fault.kind.of_link and unit != min(endpoint.units):
            return
        await asyncio.sleep(fault.at_s)
        while True:
            await self._strike(fault, endpoint, unit)
            if fault.every_s is None:
                return
            await asyncio.sleep(fault.every_s)

    async def _random(self, plan: RandomFaults, endpoint: Endpoint) -> None:
        random = Random(f"{self._seed}/{endpoint.name}/faults")  # noqa: S311 - simulated faults, nothing secret
        left_out = UNSEEN_ON_RTU if isinstance(endpoint.framing, RtuFraming) else frozenset()
        kinds = [kind for kind in plan.kinds if kind not in left_out]
        weights = [plan.kinds[kind] for kind in kinds]
        if not kinds:
            return
        await asyncio.sleep(plan.after_s + random.uniform(0, plan.every_s[1]))
        while plan.limit is None or self.done < plan.limit:
            kind = random.choices(kinds, weights)[0]
            fault = Fault(
                kind=kind,
                for_s=random.uniform(*plan.for_s) if kind.of_link else PATIENCE_S,
                count=None if kind.of_link else random.randint(*plan.count),
                ms=random.randint(*plan.ms),
                parts=random.randint(2, 6),
                code=random.choice(plan.codes),
                then_answer=random.random() < 0.5,
            )
            unit = random.choice(list(endpoint.units))
            await self._strike(fault, endpoint, unit)
            # The next one comes only after somebody has seen that it is over.
            await _in_time(endpoint.good[unit], PATIENCE_S)
            await asyncio.sleep(random.uniform(*plan.every_s))

    async def _strike(self, fault: Fault, endpoint: Endpoint, unit: int) -> None:
        """Run one fault to its end. One that nobody met did not happen."""
        self._number += 1
        active = Active(self._number, fault, now_ms(), fault.count)
        if fault.kind.of_link:
            active.hits = await endpoint.disturb(fault)
        else:
            endpoint.begin(unit, active)
            await _in_time(active.over, fault.for_s)
            endpoint.end(unit)
        active.until_ms = now_ms()
        if active.hits:
            self.done += 1
            name = endpoint.units[unit].name
            self._log.write(
                "fault", endpoint.name if fault.kind.of_link else name, unit=name, n=active.number,
                kind=str(fault.kind), hits=active.hits, until=active.until_ms, **{"from": active.since_ms},
            )  # fmt: skip


async def _in_time(event: asyncio.Event, seconds: float) -> None:
    """Await something, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
