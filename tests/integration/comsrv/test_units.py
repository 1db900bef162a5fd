"""Units behind one connection: what one of them does is not felt by the others."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from services.comsrv.channel import Channel
from services.comsrv.runner import Runner
from tests.integration.comsrv.site import NUMBER, Site
from tests.support.wait import wait_until

UNITS = 16


def line(port: int, **more: Any) -> Channel:
    """Sixteen units on one connection, a register each."""
    points = [
        {
            "id": unit,
            "name": f"u{unit}",
            "data_type": "float64",
            "mapping": {**NUMBER, "slave_id": unit, "register_address": 0},
        }
        for unit in range(1, UNITS + 1)
    ]
    document = {
        "id": 1001,
        "name": "Line",
        "protocol": "modbus_tcp",
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 500},
        "polling": {"interval_ms": 200},
        "points": {"T": points},
    }
    return Channel.model_validate(document | more)


def periods(site: Site, unit: int, since: int) -> list[float]:
    """Return the times between requests to a unit, in milliseconds."""
    moments = [
        moment
        for request, moment in zip(site.device.requests[since:], site.device.moments[since:], strict=True)
        if request[0] == unit
    ]
    return [1000 * (after - before) for before, after in pairwise(moments)]


async def polls(site: Site, count: int) -> None:
    """Wait for so many more polls of unit 1."""
    start = sum(request[0] == 1 for request in site.device.requests)

    async def done() -> bool:
        return sum(request[0] == 1 for request in site.device.requests) >= start + count

    await wait_until(done, f"{count} polls", timeout_s=60)


@pytest.fixture
async def running(site: Site) -> Runner:
    for unit in range(1, UNITS + 1):
        site.device.set_registers(0, unit, unit=unit)
    runner = await site.run(line(site.device.port))
    await site.becomes("T:16", "16.000000")
    return runner


async def test_a_dead_unit_of_sixteen_does_not_move_the_others(site: Site, running: Runner):
    """From the moment it dies, 60 polls: the neighbors' periods stay within a few milliseconds of the grid.

    A machine under load is late by itself now and then; what a time-out of 500 ms would do is seen at once.
    """
    await polls(site, 12)
    since = len(site.device.requests)
    site.device.silent_units = {7}
    await polls(site, 60)
    await site.becomes("T:7", "bad:timeout")
    neighbors = sorted(period for unit in range(1, UNITS + 1) if unit != 7 for period in periods(site, unit, since))
    assert neighbors[len(neighbors) // 2] == pytest.approx(200, abs=5)
    assert neighbors[-1] < 400
    assert running.poller is not None
    assert running.poller.statistics.late == 0
    assert running.state == "degraded"
    asked = sum(request[0] == 7 for request in site.device.requests[since:])
    assert 3 <= asked <= 30


async def test_a_unit_that_answers_again_is_back_within_seconds(site: Site, running: Runner):
    site.device.silent_units = {7}
    await site.becomes("T:7", "bad:timeout")
    site.device.silent_units = set()
    site.device.set_registers(0, 77, unit=7)
    await site.becomes("T:7", "77.000000")
    await polls(site, 2)
    assert running.state == "running"
    assert site.device.connections == 1


async def test_a_slow_answer_is_waited_for_before_the_points_are_bad(site: Site, running: Runner):
    """Longer than its neighbors are kept waiting, shorter than the time-out: no point ever goes bad."""
    await polls(site, 12)
    changed = (await site.functions.image(1001, "T")).changed_at_ms["7"]
    site.device.slow_units = {7: 0.1}
    await polls(site, 20)
    image = await site.functions.image(1001, "T")
    assert image.quality == {}
    assert image.changed_at_ms["7"] == changed


async def test_half_of_the_units_dead_come_back_too(site: Site, running: Runner):
    """Eight dead units share the spare time; each is asked often enough."""
    dead = set(range(1, UNITS + 1, 2))
    site.device.silent_units = set(dead)
    for unit in dead:
        await site.becomes(f"T:{unit}", "bad:timeout")
    await asyncio.sleep(0)
    site.device.silent_units = set()
    for unit in dead:
        site.device.set_registers(0, 100 + unit, unit=unit)
    for unit in dead:
        await site.becomes(f"T:{unit}", f"{100 + unit}.000000")
