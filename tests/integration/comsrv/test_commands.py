"""Commands through the ledger to the device and back."""

from __future__ import annotations

from services.comsrv.sentfile import SentFile
from tests.integration.comsrv.site import Site, meter


def states(command: dict[str, object]) -> list[str]:
    transitions = command["transitions"]
    assert isinstance(transitions, list)
    return [transition["state"] for transition in transitions]


async def test_a_set_point_ends_verified_and_its_value_is_the_confirmed_one(site: Site):
    await site.run()
    command = await site.command("A", -42.5)
    assert states(command) == ["queued", "sent", "acknowledged", "verified"]
    assert site.device.registers[1, 3, 10] == 0x10000 - 425
    await site.becomes("A:1", "-42.500000")


async def test_a_control_is_written_to_its_coil(site: Site):
    await site.run()
    assert (await site.command("C", 1))["state"] == "verified"
    assert site.device.bits[1, 1, 0] is True


async def test_without_verification_acknowledged_is_final(site: Site):
    await site.run()
    command = await site.command("A", 1, verify=False)
    assert states(command) == ["queued", "sent", "acknowledged"]


async def test_a_device_that_does_not_keep_the_value_is_a_mismatch(site: Site):
    await site.run()
    site.device.frozen[1, 3, 10] += 1
    command = await site.command("A", 5)
    assert command["state"] == "mismatch"
    assert float(command["read_back"]) == 0
    assert "read back 0 instead of 5" in command["reason"]


async def test_an_exception_of_the_device_is_a_rejection(site: Site):
    await site.run()
    del site.device.registers[1, 3, 10]
    command = await site.command("A", 5)
    assert command["state"] == "rejected"
    assert "exception 2, illegal data address" in command["reason"]


async def test_a_time_out_after_the_bytes_left_is_an_unknown_outcome_and_is_not_sent_again(site: Site):
    await site.run(meter(site.device.port, polling={"interval_ms": 60_000}))
    await site.becomes("T:1", "12.300000")
    site.device.silent_units = {1}
    command = await site.command("A", 5)
    assert command["state"] == "failed"
    assert command["reason"].startswith("unknown outcome")
    assert [request for request in site.device.requests if request[1] == 6] == [(1, 6, 10, 50)]


async def test_without_a_connection_nothing_leaves(site: Site):
    await site.device.stop()
    runner = await site.run()
    await runner.attempted.wait()
    command = await site.command("A", 5)
    assert command["state"] == "failed"
    assert "not connected" in command["reason"]


async def test_an_id_in_the_file_is_never_sent(site: Site):
    """After a crash between the note on disk and the answer nobody knows what the device did."""
    sent = SentFile(site.folder / "0.sent")
    await sent.add("cmd-crashed")
    sent.close()
    await site.run()
    command = await site.command("A", 5, id="cmd-crashed")
    assert command["state"] == "failed"
    assert command["reason"].startswith("unknown outcome")
    assert site.device.registers[1, 3, 10] == 0


async def test_the_same_id_twice_is_one_command(site: Site):
    await site.run()
    assert (await site.command("A", 5, id="once"))["state"] == "verified"
    assert (await site.command("A", 7, id="once"))["value"] == 5
    assert [request for request in site.device.requests if request[1] == 6] == [(1, 6, 10, 50)]


async def test_the_highest_priority_goes_first(site: Site):
    """Submitted while nobody holds the channel, executed in order of priority."""
    await site.run()
    await site.becomes("T:1", "12.300000")
    await site.stack.aclose()
    await site.device.start()
    site.stack.push_async_callback(site.device.stop)
    source = {"kind": "user", "name": "ann"}
    commands = [
        await site.functions.submit(
            1001, {"type": "A", "point": "1", "value": value, "priority": priority, "source": source, "verify": False}
        )
        for value, priority in ((1, 10), (2, 90), (3, 50))
    ]
    await site.run()
    for command in commands:
        assert (await site.final(command))["state"] == "acknowledged"
    assert [request[3] for request in site.device.requests if request[1] == 6] == [20, 30, 10]


async def test_an_old_command_never_fires_after_an_outage(site: Site):
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    await runner.stop()
    source = {"kind": "user", "name": "ann"}
    document = {"type": "A", "point": "1", "value": 9, "ttl_ms": 1, "source": source}
    command = await site.functions.submit(1001, document)
    runner.start()
    assert (await site.final(command))["state"] == "expired"
    assert site.device.registers[1, 3, 10] == 0
