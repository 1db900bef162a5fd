"""From a device to the process image, over real sockets and a real Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.comsrv import ledger
from tests.integration.comsrv.site import NUMBER, Site, meter
from tests.support.wait import wait_until


async def test_values_arrive_scaled_with_six_decimals_and_changes_follow(site: Site):
    await site.run()
    await site.becomes("T:1", "12.300000")
    await site.becomes("T:2", "-5.000000")
    await site.becomes("S:1", "1.000000")
    site.device.set_registers(0, -1)
    await site.becomes("T:1", "-0.100000")


async def test_an_unchanged_poll_costs_no_ingest_but_is_seen(site: Site):
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    changed = (await site.functions.image(1001, "T")).changed_at_ms["1"]
    (block,) = (await site.functions.status(1001))["seen"]

    async def seen_later() -> bool:
        return (await site.functions.status(1001))["seen"][block] > changed + 100

    await wait_until(seen_later, "the block is seen again")
    assert (await site.functions.image(1001, "T")).changed_at_ms["1"] == changed
    assert runner.state == "running"


def status(site: Site, wanted: str) -> Callable[[], Awaitable[bool]]:
    """Return a condition: the channel's status in Redis is so."""

    async def check() -> bool:
        found = await site.functions.status(1001)
        return bool(found["state"] == wanted)

    return check


async def test_a_silent_device_makes_its_points_bad_and_they_recover(site: Site):
    await site.run()
    await site.becomes("T:1", "12.300000")
    site.device.silent_units = {1}
    await site.becomes("T:1", "bad:timeout")
    await wait_until(status(site, "down"), "the channel is said to be down")
    site.device.silent_units = set()
    await site.becomes("T:1", "12.300000")
    await wait_until(status(site, "running"), "the channel is said to run")


async def test_a_device_that_goes_and_comes_back(site: Site):
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    await site.device.stop()
    await site.becomes("T:1", "bad:not_connected")
    assert (await site.functions.image(1001, "T")).values["1"] == "12.300000"
    assert runner.state == "down"
    await site.device.start()
    await site.becomes("T:1", "12.300000")
    # Redis, too: the alarm of the channel goes by it.
    await wait_until(status(site, "running"), "the channel is said to run")


async def test_a_dropped_connection_alone_makes_nothing_bad(site: Site):
    """Devices close idle connections; one reconnect brings the next value, without an event."""
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    site.device.set_registers(0, 50)
    site.device.drop_after = 0
    await site.becomes("T:1", "5.000000")
    assert site.device.connections == 2
    assert runner.poller is not None
    assert runner.poller.statistics.failures == 1


async def test_an_absent_device_at_start_is_waited_for(site: Site):
    await site.device.stop()
    runner = await site.run()
    await runner.attempted.wait()
    assert runner.state == "down"
    await site.device.start()
    await site.becomes("T:1", "12.300000")
    # Redis, too: the alarm of the channel goes by it.
    await wait_until(status(site, "running"), "the channel is said to run")


async def test_a_refused_address_costs_only_its_own_point(site: Site):
    """The block is taken apart at the register the device does not have."""
    del site.device.registers[1, 3, 1]
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    await site.becomes("S:1", "1.000000")

    async def split() -> bool:
        return runner.poller is not None and len(runner.poller.blocks) == 3

    await wait_until(split, "three blocks")
    # A point without a value has no image; its quality alone is stored.
    await site.becomes("T:2", "bad:illegal_address")


async def test_the_ledger_balances(site: Site):
    await site.run()
    for value in range(20):
        site.device.set_registers(0, value)
        await site.becomes("T:1", f"{value / 10:.6f}")
    await site.device.stop()
    await site.becomes("T:1", "bad:not_connected")

    async def balanced() -> bool:
        found = ledger.balance(*(await site.functions.ledger())[:2])
        assert found["balanced"], found
        return found["samples"]["unchanged"] > 0

    await wait_until(balanced, "unchanged samples are counted")


async def test_late_polls_are_counted_and_the_grid_stays(site: Site):
    site.device.delay_s = 0.12
    runner = await site.run()

    async def late() -> bool:
        return runner.poller is not None and runner.poller.statistics.late >= 2

    await wait_until(late, "late polls")


async def test_two_hold_one_channel_and_the_second_takes_over(site: Site):
    """The standby polls nothing; when the first gives the channel back, it takes it under a higher epoch."""
    first = await site.run()
    await site.becomes("T:1", "12.300000")
    second = await site.run()

    async def standby() -> bool:
        return second.state == "standby"

    await wait_until(standby, "the second stands by")
    assert site.device.connections == 1
    epoch = (await site.functions.status(1001))["epoch"]
    await first.stop()
    await site.becomes("T:1", "12.300000")
    assert second.state in {"running", "starting"}
    assert (await site.functions.status(1001))["epoch"] == epoch + 1


async def test_a_stop_in_order_makes_the_points_stale(site: Site):
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    await runner.stop()
    assert await site.value("T:1") == "bad:stale"
    assert (await site.functions.status(1001))["state"] == "stopped"
    runner.start()
    await site.becomes("T:1", "12.300000")


async def test_a_lapsed_lease_is_claimed_again_with_the_whole_image(site: Site):
    """As after a process was paused longer than its lease."""
    runner = await site.run(renew_ms=1000)
    await site.becomes("T:1", "12.300000")
    assert runner.uplink is not None
    await site.functions.release(1001, runner.uplink.lease.epoch, {})
    assert await site.value("T:1") == "bad:stale"
    await site.becomes("T:1", "12.300000")
    await site.becomes("S:1", "1.000000")


async def test_a_redis_that_lost_everything_gets_it_all_again(site: Site):
    await site.run()
    await site.becomes("T:1", "12.300000")
    await site.redis.client.flushall()
    await site.becomes("T:1", "12.300000")
    assert (await site.functions.get(1001))["name"] == "Meter"


async def test_deadbands_hold_small_changes_back(site: Site):
    points = meter(1).points
    first = points.T[0].model_copy(update={"deadband": 1.0})
    channel = meter(site.device.port, points=points.model_copy(update={"T": (first, points.T[1])}).model_dump())
    await site.run(channel)
    await site.becomes("T:1", "12.300000")
    site.device.set_registers(0, 130, 7)
    await site.becomes("T:2", "7.000000")
    assert await site.value("T:1") == "12.300000"
    site.device.set_registers(0, 140)
    await site.becomes("T:1", "14.000000")


async def test_a_dead_unit_does_not_slow_the_others(site: Site):
    """Unit 2 never answers; unit 1 is polled at its pace all the same."""
    site.device.silent_units = {2}
    points = meter(1).points.model_dump()
    other = {
        "id": 3,
        "name": "dead",
        "data_type": "float64",
        "mapping": {**NUMBER, "slave_id": 2, "register_address": 0},
    }
    channel = meter(site.device.port, points=points | {"T": [*points["T"], other]})
    runner = await site.run(channel)
    await site.becomes("T:3", "bad:timeout")
    await site.becomes("T:1", "12.300000")

    async def asleep() -> bool:
        asked = [request for request in site.device.requests if request[0] == 2]
        well = [request for request in site.device.requests if request[0] == 1]
        return len(well) > 5 * len(asked)

    await wait_until(asleep, "unit 2 is asked less often")
    assert runner.state == "degraded"
    status = await site.functions.status(1001)
    assert status["units"]["2"] == {"state": "down", "problem": "bad:timeout"}
    assert site.device.connections == 1
    site.device.set_registers(0, 4, unit=2)
    site.device.silent_units = set()
    await site.becomes("T:3", "4.000000")


async def test_a_heartbeat_of_the_channel_reaches_history_and_is_no_change(site: Site):
    """An unchanged value is recorded again and again; when it changed stays."""
    await site.run(meter(site.device.port, reporting={"heartbeat_s": 0.2}))
    await site.becomes("T:1", "12.300000")
    before = await site.functions.image(1001, "T")
    recorded = await site.redis.client.xlen("hissrv:queue")

    async def again() -> bool:
        return bool(await site.redis.client.xlen("hissrv:queue") >= recorded + 3)

    await wait_until(again, "three more entries of the history queue")
    assert await site.functions.image(1001, "T") == before
    counters = (await site.functions.ledger()).total
    rejected = sum(value for name, value in counters.items() if name.startswith("rejected"))
    assert counters["polled"] == counters["stored"] + counters["unchanged"] + rejected


async def test_a_scale_far_from_its_value_is_never_that_of_another_value(site: Site):
    """The device holds 250 V all the time, as 2500 * 10 ** -1 or as 25 * 10 ** 1, and changes while it is read."""
    held = [(2500, -1), (25, 1)]

    def hold(value: int, scale: int) -> None:
        site.device.set_registers(100, value)
        site.device.set_registers(400, scale)

    def change(frame: bytes) -> bytes:
        held.reverse()
        hold(*held[0])
        return frame

    hold(*held[0])
    mapping = {"slave_id": 1, "function_code": 3, "register_address": 100, "data_type": "int16", "scale_register": 400}
    point = {"id": 1, "name": "U", "data_type": "float32", "mapping": mapping}
    runner = await site.run(meter(site.device.port, points={"T": [point]}, polling={"interval_ms": 10}))
    await site.becomes("T:1", "250.000000")
    updates = site.functions.functions.client.pubsub()
    await updates.subscribe("comsrv:updates:1001")
    for _ in range(30):
        site.device.twists.extend([*[lambda frame: frame] * 4, change])

    async def changed() -> bool:
        return not site.device.twists

    await wait_until(changed, "the device has changed 30 times")
    assert runner.state == "running"
    assert {message["type"] for message in [await updates.get_message(timeout=0.2) for _ in range(2)] if message} == {
        "subscribe"
    }
    assert runner.poller is not None
    assert runner.poller.statistics.malformed == 0
