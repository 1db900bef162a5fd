"""Commands against a device that ignores, delays, loses and forgets; and what keeps it safe between them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from libs.redis.client import execute
from services.comsrv.channel import Channel
from services.comsrv.pulses import Pulses
from services.comsrv.runner import definition, from_definition
from services.comsrv.schedule import monotonic_now
from tests.integration.comsrv.site import Site, meter
from tests.support.wait import wait_until

ANN = {"kind": "user", "name": "ann"}


def channel(
    site: Site, options: dict[str, Any] | None = None, control: dict[str, Any] | None = None, **more: Any
) -> Channel:
    """The meter with options of its set-point and its coil, and three set-points side by side."""
    document = definition(meter(site.device.port, **more))
    document["points"]["A"][0]["command"] = options or {}
    document["points"]["C"][0]["command"] = control or {}
    document["points"]["C"].append({
        "id": 2, "name": "close", "data_type": "bool",
        "mapping": {"slave_id": 1, "function_code": 5, "register_address": 1, "data_type": "bool"},
    })  # fmt: skip
    for number in (2, 3, 4):
        document["points"]["A"].append({
            "id": number, "name": f"curve {number}", "data_type": "float64",
            "mapping": {"slave_id": 1, "function_code": 16, "register_address": 18 + number, "data_type": "int16"},
        })  # fmt: skip
    site.device.set_registers(20, 0, 0, 0)
    site.device.set_bits(1, False)
    return from_definition(document)


def written(site: Site, *codes: int) -> list[tuple[int, int, int, int]]:
    return [request for request in site.device.requests if request[1] in codes]


async def submit(site: Site, point: int, value: float, kind: str = "A", **more: Any) -> dict[str, Any]:
    document = {"type": kind, "point": point, "value": value, "source": ANN, **more}
    return await site.functions.submit(1001, document)


async def holds(site: Site) -> list[str]:
    return [item["point"] for item in await site.functions.holds(1001)]


async def test_commands_of_neighboring_addresses_that_wait_together_leave_in_one_request(site: Site):
    runner = await site.run(channel(site))
    await site.becomes("T:1", "12.300000")
    await runner.stop()
    commands = [await submit(site, point, 10 * point) for point in (3, 2, 4)]
    runner.start()
    assert [(await site.final(command))["state"] for command in commands] == ["verified"] * 3
    assert written(site, 16) == [(1, 16, 20, 3)]
    assert [site.device.registers[1, 3, 20 + offset] for offset in range(3)] == [20, 30, 40]


async def test_a_device_that_shows_the_value_before_says_so_in_the_reason(site: Site):
    await site.run(channel(site))
    assert (await site.command("A", 5))["state"] == "verified"
    site.device.frozen[1, 3, 10] += 1
    command = await site.command("A", 7)
    assert command["state"] == "mismatch"
    assert command["reason"] == ("read back 5 instead of 7: the device acknowledged and still shows its previous value")


async def test_a_tolerance_and_a_delay_of_the_read_back(site: Site):
    await site.run(channel(site, {"verify_tolerance": 0.25, "verify_delay_ms": 20}))
    assert (await site.command("A", 5))["state"] == "verified"
    site.device.frozen[1, 3, 10] += 1
    assert (await site.command("A", 5.2))["state"] == "verified"
    assert (await site.command("A", 5.3))["state"] == "mismatch"


async def test_only_a_point_that_is_marked_idempotent_is_written_again_after_a_lost_answer(site: Site):
    quiet = {"polling": {"interval_ms": 60_000}}
    await site.run(channel(site, {"idempotent": True}, **quiet))
    await site.becomes("T:1", "12.300000")
    site.device.silent_codes = {6}
    command = await submit(site, 1, 5)

    async def twice() -> bool:
        return len(written(site, 6)) == 2

    await wait_until(twice, "the write was sent again")
    site.device.silent_codes = set()
    found = await site.final(command)
    assert found["state"] in {"acknowledged", "verified"}, found["reason"]


async def test_a_pulse_is_switched_off_again(site: Site):
    await site.run(channel(site, control={"pulse_ms": 30}))
    command = await site.command("C", 1)
    assert (command["state"], command["verify"]) == ("acknowledged", False)
    assert written(site, 5) == [(1, 5, 0, 0xFF00), (1, 5, 0, 0)]


async def test_a_pair_pulses_the_other_point_for_the_value_0(site: Site):
    await site.run(channel(site, control={"pulse_ms": 20, "pair": 2}))
    assert (await site.command("C", 0))["state"] == "acknowledged"
    assert written(site, 5) == [(1, 5, 1, 0xFF00), (1, 5, 1, 0)]
    assert await site.value("C:1") == "0.000000"


async def test_a_pulse_that_a_crash_interrupted_is_switched_off_first(site: Site):
    Pulses(site.folder / "0.pulses").begin(1001, "C:1")
    site.device.set_bits(0, True)
    await site.run(channel(site, control={"pulse_ms": 30}))
    await site.command("A", 5)
    assert written(site, 5, 6)[0] == (1, 5, 0, 0)
    assert site.device.bits[1, 1, 0] is False
    assert Pulses(site.folder / "0.pulses").of(1001) == []


def test_channels_note_their_pulses_at_once(tmp_path: Path):
    """Each on a thread of its own; none is lost."""
    pulses = Pulses(tmp_path / "0.pulses")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: pulses.begin(number, "C:1"), range(40)))
        list(threads.map(lambda number: pulses.end(number, "C:1"), range(1, 40)))
    assert (tmp_path / "0.pulses").read_text() == "0 C:1\n"


async def test_a_hold_that_ends_writes_its_fall_back_to_the_device(site: Site):
    await site.run(channel(site, {"fallback": -3}))
    await site.command("A", 5, lease_ms=300)
    assert await holds(site) == ["A:1"]

    async def fallen_back() -> bool:
        await site.redis.call("voltage_tick", None, {})
        return site.device.registers[1, 3, 10] == -30 & 0xFFFF

    await wait_until(fallen_back, "the device has the fall-back")
    assert await holds(site) == []


async def test_a_held_value_is_repeated_for_devices_that_forget_it(site: Site):
    await site.run(channel(site, {"lease_ms": 60_000, "refresh_ms": 50}))
    await site.command("A", 5)
    site.device.set_registers(10, 0)

    async def repeated() -> bool:
        return site.device.registers[1, 3, 10] == 50

    await wait_until(repeated, "the value was written again")
    commands = await site.functions.commands({})
    assert len(commands["items"]) == 1, "a repetition is no command"


async def test_another_master_is_noticed(site: Site):
    await site.run(channel(site, {"watch_ms": 50}))
    await site.command("A", 5)
    site.device.set_registers(10, 77)
    await site.becomes("A:1", "7.700000")
    journal = (await site.functions.operations(10, None))["items"]
    assert (journal[0]["what"], journal[0]["value"]) == ("overwritten", "7.700000")


async def test_the_heartbeat_counts(site: Site):
    heartbeat = {"type": "A", "point": 2, "mode": "counter", "interval_ms": 50, "highest": 3}
    await site.run(channel(site, commands={"heartbeat": heartbeat}))

    async def beats() -> bool:
        return len(written(site, 16)) >= 5

    await wait_until(beats, "five beats")
    assert site.device.registers[1, 3, 20] in range(4)


async def test_a_channel_that_stops_safely_writes_its_fall_backs(site: Site):
    runner = await site.run(channel(site, {"fallback": -1}, commands={"on_stop": "safe"}))
    await site.command("A", 5)
    await runner.stop()
    assert site.device.registers[1, 3, 10] == -10 & 0xFFFF


async def test_a_channel_that_stops_keeps_its_set_points_otherwise(site: Site):
    runner = await site.run(channel(site, {"fallback": -1}))
    await site.command("A", 5)
    await runner.stop()
    assert site.device.registers[1, 3, 10] == 50


async def test_while_redis_is_away_a_hold_ends_from_here_and_redis_is_told_later(site: Site):
    runner = await site.run(channel(site, {"fallback": -2}, commands={"failsafe_s": 3}))
    await site.command("A", 5, lease_ms=60_000)

    async def known() -> bool:
        return runner.caretaker is not None and "A:1" in runner.caretaker.holds

    await wait_until(known, "comsrv knows the hold")
    # Every call waits while Redis is paused, and times out: to comsrv it is away.
    await execute(site.redis.client, "CLIENT", "PAUSE", 6000, "ALL")

    async def fallen_back() -> bool:
        return site.device.registers[1, 3, 10] == -20 & 0xFFFF

    await wait_until(fallen_back, "the device has the fall-back", 12)

    async def told() -> bool:
        return await holds(site) == [] and await site.value("A:1") == "-2.000000"

    await wait_until(told, "Redis knows", 15)
    assert len(written(site, 6)) == 2


async def test_a_channel_that_only_writes_is_ready_and_connects_again(site: Site):
    document = definition(channel(site))
    document["points"] |= {"T": [], "S": []}
    runner = await site.run(from_definition(document))
    await runner.attempted.wait()
    assert (await site.command("A", 5))["state"] == "verified"
    assert runner.state == "running"
    await site.device.stop()
    assert (await site.command("A", 6))["state"] == "failed"
    await site.device.start()
    assert (await site.command("A", 7))["state"] == "verified"


async def test_a_silent_unit_that_answers_a_command_is_asked_again_at_once(site: Site):
    """Among others, and long before its turn: the pause between two attempts is minutes by then."""
    document = definition(meter(site.device.port, polling={"interval_ms": 50, "reprobe_max_ms": 600_000}))
    document["points"]["T"][1]["mapping"]["slave_id"] = 2
    site.device.set_registers(0, 1, 2, unit=2)
    runner = await site.run(from_definition(document))
    await site.becomes("T:1", "12.300000")
    poller = runner.poller
    assert poller is not None
    site.device.silent_units = {1}
    await site.becomes("T:1", "bad:timeout")
    unit = poller.units["1"]
    unit.failures = 30

    async def left_alone() -> bool:
        return unit.next_ms - monotonic_now() > 100_000

    await wait_until(left_alone, "the unit is left alone for minutes")
    site.device.silent_units = set()
    assert (await site.command("A", 5))["state"] == "verified"
    await site.becomes("T:1", "12.300000")
