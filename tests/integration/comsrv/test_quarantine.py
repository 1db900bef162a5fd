"""Addresses that a device refuses: found, asked alone, given back; everything else stays good."""

from __future__ import annotations

from typing import Any

from pyModbusTCP.server import DataBank, ModbusServer

from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.runner import Runner
from tests.integration.comsrv.site import NUMBER, Site
from tests.support.servers import free_port
from tests.support.wait import wait_until

ILLEGAL = "bad:illegal_address"


def table(port: int, count: int = 120, **polling: Any) -> Channel:
    """`count` registers from 0, one point each."""
    points = [
        {
            "id": number + 1,
            "name": f"p{number}",
            "data_type": "float64",
            "mapping": {**NUMBER, "register_address": number},
        }
        for number in range(count)
    ]
    document = {
        "id": 1001,
        "name": "Table",
        "protocol": "modbus_tcp",
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 150},
        "polling": {"interval_ms": 50, **polling},
        "points": {"T": points},
    }
    return Channel.model_validate(document)


async def image(site: Site) -> dict[int, str]:
    """Return the value or quality of each point."""
    found = await site.functions.image(1001, PointKind.TELEMETRY)
    return {int(point): found.quality.get(point) or text for point, text in found.values.items()} | {
        int(point): quality for point, quality in found.quality.items()
    }


async def all_but(site: Site, bad: dict[int, str], count: int = 120) -> None:
    """Wait until these points have these qualities and every other one its address as value."""
    wanted = {number + 1: f"{number}.000000" for number in range(count)} | bad

    async def check() -> bool:
        return await image(site) == wanted

    await wait_until(check, f"all but {bad} are good", timeout_s=15)


def blocks(runner: Runner) -> list[str]:
    return [block.name for block in runner.poller.blocks] if runner.poller else []


async def test_one_illegal_register_of_120_costs_the_other_119_nothing(site: Site):
    """On the server of another library: three requests instead of one, and no disconnect."""

    class Bank(DataBank):  # type: ignore[misc]
        def get_holding_registers(self, address: int, number: int = 1, *_: Any) -> list[int] | None:
            refused = address <= 60 < address + number or address + number > 120
            return None if refused else list(range(address, address + number))

    port = free_port()
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=Bank())
    server.start()
    try:
        runner = await site.run(table(port))
        await all_but(site, {61: ILLEGAL})
        assert blocks(runner) == ["1-holding-0-60", "1-holding-60-1", "1-holding-61-59"]
        assert runner.state == "running"
        assert runner.poller is not None
        assert runner.poller.statistics.connections == 1
        await runner.stop()
    finally:
        server.stop()


async def test_a_device_that_refuses_later_is_taken_apart_later(site: Site):
    site.device.set_registers(0, *range(120))
    runner = await site.run(table(site.device.port))
    await all_but(site, {})
    del site.device.registers[1, 3, 33]
    await all_but(site, {34: ILLEGAL})
    assert len(blocks(runner)) == 3


async def test_an_address_that_answers_again_is_read_with_its_neighbors(site: Site):
    site.device.set_registers(0, *range(120))
    del site.device.registers[1, 3, 33]
    runner = await site.run(table(site.device.port))
    await all_but(site, {34: ILLEGAL})
    site.device.set_registers(33, 33)
    await all_but(site, {})

    async def whole() -> bool:
        return blocks(runner) == ["1-holding-0-120"]

    await wait_until(whole, "one block again")


async def test_what_was_learned_outlives_a_restart(site: Site):
    site.device.set_registers(0, *range(120))
    del site.device.registers[1, 3, 33]
    runner = await site.run(table(site.device.port))
    await all_but(site, {34: ILLEGAL})

    async def kept() -> bool:
        return (site.folder / "comsrv" / "learned" / "1001.json").exists()

    await wait_until(kept, "the file")
    await runner.stop()
    site.device.requests.clear()
    runner.start()
    await all_but(site, {34: ILLEGAL})
    refused = [request for request in site.device.requests if request[2] <= 33 < request[2] + request[3]]
    assert {request[2:] for request in refused} <= {(33, 1)}


async def test_a_device_with_short_answers_is_read_in_the_longest_it_gives(site: Site):
    """It refuses more than 50 registers with exception 2, as some do; no address is blamed."""
    site.device.set_registers(0, *range(120))
    site.device.longest = 50
    runner = await site.run(table(site.device.port))
    await all_but(site, {})

    async def three() -> bool:
        return blocks(runner) == ["1-holding-0-50", "1-holding-50-50", "1-holding-100-20"]

    await wait_until(three, "three requests")


async def test_a_hole_the_device_refuses_is_not_read_through(site: Site):
    site.device.set_registers(0, *range(40))
    site.device.set_registers(80, *range(80, 120))
    channel = table(site.device.port)
    points = [point for point in channel.points.T if not 40 <= point.id - 1 < 80]
    channel = channel.model_copy(update={"points": channel.points.model_copy(update={"T": tuple(points)})})
    runner = await site.run(channel)

    async def two() -> bool:
        good = [value for value in (await image(site)).values() if not value.startswith("bad")]
        return blocks(runner) == ["1-holding-0-40", "1-holding-80-40"] and len(good) == 80

    await wait_until(two, "two blocks, all good")


async def test_a_device_that_refuses_everything_for_a_while_teaches_nothing(site: Site):
    """As while it restarts: no address is blamed, and all are back with the first answer."""
    site.device.set_registers(0, *range(120))
    runner = await site.run(table(site.device.port))
    await all_but(site, {})
    kept, site.device.registers = site.device.registers, {}

    async def refused() -> bool:
        return set((await image(site)).values()) == {ILLEGAL}

    await wait_until(refused, "all are bad")
    site.device.registers = kept
    await all_but(site, {})
    assert blocks(runner) == ["1-holding-0-120"]
    assert site.device.connections == 1


async def test_a_block_that_stays_without_an_answer_does_not_make_its_unit_silent(site: Site):
    """Some devices say nothing where others refuse."""
    site.device.set_registers(0, *range(40))
    site.device.set_registers(0, 7, table=4)
    channel = table(site.device.port, 40)
    mute = channel.points.T[0].model_copy(
        update={"id": 999, "mapping": {**NUMBER, "function_code": 4, "register_address": 0}}
    )
    channel = channel.model_copy(update={"points": channel.points.model_copy(update={"T": (*channel.points.T, mute)})})
    site.device.silent_codes = {4}
    await site.run(channel)
    await all_but(site, {999: "bad:timeout"}, 40)
    status = await site.functions.status(1001)
    assert status["units"]["1"]["state"] == "running"
    site.device.silent_codes = set()
    await all_but(site, {999: "7.000000"}, 40)


async def test_a_device_slow_by_the_register_is_read_without_its_holes(site: Site):
    """What its requests take is learned while it is read: a hole of 40 costs more than a request."""
    site.device.set_registers(0, *range(120))
    site.device.register_s = 0.001
    channel = table(site.device.port, interval_ms=200)
    points = [point for point in channel.points.T if not 10 <= point.id - 1 < 50]
    update = {
        "points": channel.points.model_copy(update={"T": tuple(points)}),
        # A request of 0.12 s.
        "parameters": channel.parameters | {"timeout_ms": 1000},
    }
    runner = await site.run(channel.model_copy(update=update))

    async def two() -> bool:
        return blocks(runner) == ["1-holding-0-10", "1-holding-50-70"]

    changed = await wait_until(lambda: _changes(site), "all are there")
    await wait_until(two, "two blocks", timeout_s=30)
    assert runner.poller is not None
    cost = runner.poller.units["1"].cost.learned
    assert cost is not None
    assert 0.0008 < cost.register / 1000 < 0.002
    # The new plan told Redis nothing: no value changed.
    assert await _changes(site) == changed


async def test_a_channel_whose_every_address_is_refused_goes_on(site: Site):
    """Nothing is left to poll; what is in quarantine is asked, costs are looked at, and all comes back."""
    del site.device.registers[1, 3, 0]
    runner = await site.run(table(site.device.port, 1))
    await all_but(site, {1: ILLEGAL}, 1)
    assert runner.poller is not None
    runner.poller.spare.learning.look_ms = 1.0

    async def looked() -> bool:
        return runner.poller is not None and runner.poller.spare.learning.look_ms > 1.0

    await wait_until(looked, "costs are looked at")
    site.device.set_registers(0, 0)
    await all_but(site, {}, 1)
    assert runner.problem == ""


async def test_polls_that_leave_no_time_do_not_keep_an_address_from_being_found(site: Site):
    """The device takes longer than the interval: every poll is late, and still one register is singled out."""
    site.device.set_registers(0, *range(20))
    del site.device.registers[1, 3, 7]
    site.device.delay_s = 0.012
    runner = await site.run(table(site.device.port, 20, interval_ms=10))
    await all_but(site, {8: ILLEGAL}, 20)
    assert runner.poller is not None
    assert runner.poller.statistics.late > 0


async def test_two_thousand_coils_are_one_request(site: Site):
    """One call takes 500 points: what one request reads goes to Redis in four, and one refused coil is found."""
    site.device.set_bits(0, *(number % 3 == 0 for number in range(1200)))
    points = [
        {
            "id": number + 1,
            "name": f"c{number}",
            "data_type": "bool",
            "mapping": {"slave_id": 1, "function_code": 1, "register_address": number, "data_type": "bool"},
        }
        for number in range(1200)
    ]
    channel = table(site.device.port, 1).model_dump() | {"points": {"S": points}}
    runner = await site.run(Channel.model_validate(channel))

    async def good(count: int, bad: dict[str, str]) -> bool:
        found = await site.functions.image(1001, PointKind.SIGNAL)
        right = all(float(text) == ((int(point) - 1) % 3 == 0) for point, text in found.values.items())
        return len(found.values) == count and found.quality == bad and right

    await wait_until(lambda: good(1200, {}), "all are good")
    assert {request[2:] for request in site.device.requests} == {(0, 1200)}
    assert blocks(runner) == ["1-coils-0-1200.1", "1-coils-0-1200.2", "1-coils-0-1200.3"]
    del site.device.bits[1, 1, 777]
    await wait_until(lambda: good(1200, {"778": ILLEGAL}), "all but one are good")


async def _changes(site: Site) -> dict[str, int]:
    """Return when each point changed, once all 80 have a value."""
    image = await site.functions.image(1001, PointKind.TELEMETRY)
    return image.changed_at_ms if len(image.values) == 80 else {}
