"""Units behind one connection: what one of them does is not felt by the others."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from libs.redis.functions import Functions
from services.comsrv.channel import Channel
from services.comsrv.runner import Runner
from services.comsrv.schedule import monotonic_now
from services.comsrv.units import Health
from tests.integration.comsrv.device import Device
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


async def keep_time(site: Site, neighbors: set[int], count: int) -> None:
    """Check that the neighbors are asked every 200 ms over so many polls.

    A machine under load is late by itself for a while, a time-out of a neighbor always: of four stretches
    one keeps time, or none does.
    """
    for stretch in range(4):
        since = len(site.device.requests)
        await polls(site, count)
        found = sorted(period for unit in neighbors for period in periods(site, unit, since))
        if found[int(0.9 * len(found))] < 300 or stretch == 3:
            break
    assert found[len(found) // 2] == pytest.approx(200, abs=20)
    assert found[int(0.9 * len(found))] < 300


@pytest.fixture
async def running(site: Site) -> Runner:
    for unit in range(1, UNITS + 1):
        site.device.set_registers(0, unit, unit=unit)
    runner = await site.run(line(site.device.port))
    await site.becomes("T:16", "16.000000")
    return runner


async def test_a_dead_unit_of_sixteen_does_not_move_the_others(site: Site, running: Runner):
    """From the moment it dies, 60 polls: the neighbors' periods stay within a few milliseconds of the grid."""
    await polls(site, 12)
    since = len(site.device.requests)
    site.device.silent_units = {7}
    await keep_time(site, set(range(1, UNITS + 1)) - {7}, 60)
    await site.becomes("T:7", "bad:timeout")
    assert running.poller is not None
    assert running.state == "degraded"
    asked = sum(request[0] == 7 for request in site.device.requests[since:])
    assert 3 <= asked <= sum(request[0] == 1 for request in site.device.requests[since:]) / 2


async def test_a_unit_that_answers_again_is_back_within_seconds(site: Site, running: Runner):
    site.device.silent_units = {7}
    await site.becomes("T:7", "bad:timeout")
    site.device.silent_units = set()
    site.device.set_registers(0, 77, unit=7)
    await site.becomes("T:7", "77.000000")
    await polls(site, 2)
    assert running.state == "running"
    assert site.device.connections == 1


async def test_what_a_stalled_machine_measured_keeps_no_unit_away(site: Site, running: Runner):
    """Its last answers came late, and a request beyond the spare time was just made: the next is a minute away."""
    site.device.silent_units = {7}
    await site.becomes("T:7", "bad:timeout")
    assert running.poller is not None
    unit = running.poller.units["7"]
    unit.mean_ms, unit.deviation_ms = 300.0, 100.0
    running.poller.spare._forced_ms = monotonic_now() + 60_000
    site.device.silent_units = set()
    site.device.set_registers(0, 77, unit=7)
    await site.becomes("T:7", "77.000000")
    assert unit.health is Health.RUNNING


async def test_a_unit_that_refuses_everything_is_down_until_it_does_not(site: Site, running: Runner):
    """A gateway may answer for a device that is broken: the link is well, and nothing of the unit is."""
    site.device.failing_units = {7: 4}
    await site.becomes("T:7", "bad:exception_4")

    async def told() -> bool:
        found = await site.functions.status(1001)
        return found["state"] == "degraded" and found["units"]["7"]["problem"] == "bad:exception_4"

    await wait_until(told, "the unit is said to be down")
    site.device.failing_units = {}
    await site.becomes("T:7", "7.000000")

    async def well() -> bool:
        found = await site.functions.status(1001)
        return found["state"] == "running" and found["units"]["7"]["state"] == "running"

    await wait_until(well, "the unit is said to run")
    assert site.device.connections == 1


async def test_a_slow_unit_is_waited_for(site: Site, running: Runner):
    """Longer than its neighbors are kept waiting, shorter than the time-out: its points are good."""
    await polls(site, 12)
    site.device.slow_units = {7: 0.1}
    await polls(site, 20)
    # It is known to be slow by now, and waited for in its turn.
    for _ in range(5):
        await polls(site, 2)
        assert (await site.functions.image(1001, "T")).quality == {}


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


async def test_channels_that_share_a_link_feel_no_dead_unit_of_each_other(site: Site):
    """Units 1 to 8 are one channel's, 9 to 16 another's; one dead unit, one connection."""
    for unit in range(1, UNITS + 1):
        site.device.set_registers(0, unit, unit=unit)
    whole = line(site.device.port)
    first, second = whole.points.T[:8], whole.points.T[8:]
    runners = [
        await site.run(whole.model_copy(update={"id": number, "points": whole.points.model_copy(update={"T": points})}))
        for number, points in ((1001, first), (1002, second))
    ]
    await site.becomes("T:8", "8.000000")
    await polls(site, 12)
    site.device.silent_units = {3}
    await keep_time(site, set(range(9, UNITS + 1)), 40)
    assert site.device.connections == 1
    assert [runner.state for runner in runners] == ["degraded", "running"]


async def test_a_dead_unit_on_a_line_of_rtu_frames(functions: Functions, tmp_path: Path):
    """No transaction ids there: what comes late is told apart, and the neighbors go on all the same."""
    site = Site(functions, tmp_path)
    site.device = Device(rtu=True)
    await site.start()
    try:
        for unit in range(1, UNITS + 1):
            site.device.set_registers(0, unit, unit=unit)
        runner = await site.run(line(site.device.port, protocol="modbus_rtu_over_tcp"))
        await site.becomes("T:16", "16.000000")
        await polls(site, 12)
        site.device.silent_units = {7}
        await keep_time(site, set(range(1, UNITS + 1)) - {7}, 40)
        await site.becomes("T:7", "bad:timeout")
        site.device.silent_units = set()
        site.device.set_registers(0, 77, unit=7)
        await site.becomes("T:7", "77.000000")
        assert runner.state in {"running", "degraded"}
    finally:
        await site.stack.aclose()


async def test_synchronized_channels_ask_at_the_same_instant(site: Site):
    """What flows in and what flows out are read within milliseconds of one another, poll after poll."""
    for unit in (1, 2):
        site.device.set_registers(0, unit, unit=unit)
    whole = line(site.device.port, polling={"interval_ms": 200, "synchronized": True})
    for number, point in ((1001, whole.points.T[0]), (1002, whole.points.T[1])):
        points = whole.points.model_copy(update={"T": (point,)})
        parameters = whole.parameters | {"connection": str(number)}
        await site.run(whole.model_copy(update={"id": number, "points": points, "parameters": parameters}))
    await polls(site, 20)
    ahead = time.time() - time.monotonic()
    first, second = (
        [
            moment
            for request, moment in zip(site.device.requests, site.device.moments, strict=True)
            if request[0] == unit
        ]
        for unit in (1, 2)
    )
    apart = sorted(min(abs(one - other) for other in second) for one in first[2:-1])
    assert apart[len(apart) // 2] < 0.02
    off = sorted((moment + ahead) % 0.2 for moment in first[2:])
    assert off[len(off) // 2] < 0.02
