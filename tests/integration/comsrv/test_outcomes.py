"""What becomes of a command when the device ignores, delays, loses, refuses, reverts or half-writes it.

The device is the simulator's, and its log says what it was asked to write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.clock import monotonic_ms
from libs.errors import InternalError
from services.comsrv.channel import Channel
from services.comsrv.runner import from_definition
from services.simulator.registers import Table
from services.simulator.twins.cells import Cell
from services.simulator.twins.endpoint import Endpoint
from services.simulator.twins.faults import Active, Fault
from services.simulator.twins.frames import TcpFraming
from services.simulator.twins.log import Log
from services.simulator.twins.unit import Unit
from tests.integration.comsrv.site import Site
from tests.support.servers import free_port
from tests.support.wait import wait_until

SENT = ["queued", "sent"]
TAKEN = [*SENT, "acknowledged"]


class Twin:
    """A simulated device with two registers of power and a set-point of two, and its log."""

    def __init__(self, folder: Path) -> None:
        cells = [Cell("power", Table.HOLDING, 0, 1, "int16", "AB", writable=False)]
        cells += [Cell("set-point", Table.HOLDING, 10, 2, "float32", "ABCD", writable=True)]
        self.unit = Unit("1/1", 1, cells)
        self.path = folder / "device.log"
        self.log = Log(self.path)
        self.port = free_port()
        self.endpoint = Endpoint("1", ("127.0.0.1", self.port), {1: self.unit}, TcpFraming(), self.log, seed=1)

    def begin(self, kind: str, **more: Any) -> None:
        """Let a fault begin that spoils the next write, or all that it concerns."""
        fault = Fault.model_validate({"kind": kind, "addresses": (10, 11) if kind == "exception" else None, **more})
        self.endpoint.begin(1, Active(1, fault, monotonic_ms(), None))

    def writes(self) -> list[bool]:
        """Say of each write that came whether it took effect."""
        self.log.flush()
        lines = map(orjson.loads, self.path.read_bytes().splitlines())
        return [line["applied"] for line in lines if line["e"] == "write"]

    def channel(self, **command: Any) -> Channel:
        """Return a channel that polls seldom, so that faults meet commands."""
        mapping = {"slave_id": 1, "data_type": "int16", "function_code": 3, "register_address": 0}
        written = mapping | {"data_type": "float32", "function_code": 16, "register_address": 10}
        power = {"id": 1, "name": "power", "data_type": "float64", "mapping": mapping}
        setpoint = {"id": 1, "name": "set-point", "data_type": "float64", "mapping": written, "command": command}
        return from_definition({
            "id": 1001, "name": "twin", "protocol": "modbus_tcp", "polling": {"interval_ms": 60_000},
            "parameters": {"host": "127.0.0.1", "port": self.port, "timeout_ms": 200},
            "points": {"T": [power], "A": [setpoint]},
        })  # fmt: skip


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[Twin]:
    found = Twin(tmp_path)
    await found.endpoint.open()
    with found.log:
        yield found
        await found.endpoint.close()


async def ends(site: Site, value: float = 1.1, **more: Any) -> tuple[list[str], str]:
    """Return the states that a command went through, and the reason of the last."""
    command = await site.command("A", value, **more)
    return [step["state"] for step in command["transitions"]], str(command["reason"])


@pytest.mark.parametrize(
    ("fault", "states", "reason", "applied"),
    [
        ({}, [*TAKEN, "verified"], "", [True]),
        ({"kind": "latency", "ms": 50}, [*TAKEN, "verified"], "", [True]),
        ({"kind": "latency", "ms": 400}, [*SENT, "failed"], "unknown outcome", [True]),
        ({"kind": "silence"}, [*SENT, "failed"], "unknown outcome", [False]),
        ({"kind": "half"}, [*SENT, "failed"], "unknown outcome", [True]),
        ({"kind": "reset"}, [*SENT, "failed"], "unknown outcome", [True]),
        ({"kind": "exception", "code": 4}, [*SENT, "rejected"], "exception 4", [False]),
        ({"kind": "ignored_write"}, [*TAKEN, "mismatch"], "still shows its previous value", [False]),
        ({"kind": "half_write"}, [*TAKEN, "mismatch"], "instead of 1.1", [True]),
        ({"kind": "reverted_write", "ms": 0}, [*TAKEN, "mismatch"], "still shows its previous value", [True]),
    ],
    ids=lambda found: found.get("kind", "well") if isinstance(found, dict) else None,
)
async def test_each_fault_has_its_outcome_and_no_write_comes_twice(
    site: Site, twin: Twin, fault: dict[str, Any], states: list[str], reason: str, applied: list[bool]
):
    await site.run(twin.channel())
    await site.becomes("T:1", "0.000000")
    assert (await ends(site, 7))[0] == [*TAKEN, "verified"]
    if fault:
        twin.begin(**fault)
    found = await ends(site)
    assert found[0] == states
    assert reason in found[1]
    assert twin.writes() == [True, *applied]


async def test_what_a_device_reverts_later_is_noticed(site: Site, twin: Twin):
    await site.run(twin.channel(watch_ms=50))
    await site.becomes("T:1", "0.000000")
    twin.begin("reverted_write", ms=150)
    assert (await ends(site))[0] == [*TAKEN, "verified"]
    await site.becomes("A:1", "0.000000")
    journal = (await site.functions.operations(10, None))["items"]
    assert (journal[0]["what"], journal[0]["value"]) == ("overwritten", "0.000000")


async def test_what_waited_longer_than_its_time_to_live_never_reaches_the_device(site: Site, twin: Twin):
    """While the device is away, and while comsrv is; the device's log is the witness."""
    runner = await site.run(twin.channel())
    await site.becomes("T:1", "0.000000")
    await twin.endpoint.close()
    assert (await ends(site, ttl_ms=300))[0][-1] in {"expired", "failed"}
    await runner.stop()
    source = {"kind": "user", "name": "ann"}
    waiting = await site.functions.submit(1001, {"type": "A", "point": 1, "value": 9, "ttl_ms": 1, "source": source})
    await twin.endpoint.open()
    runner.start()
    found = await site.final(waiting)
    assert [step["state"] for step in found["transitions"]] == ["queued", "expired"]
    assert (await ends(site, 3))[0] == [*TAKEN, "verified"], "the device is back"
    assert twin.writes() == [True]


async def test_of_those_that_wait_the_newest_alone_is_sent_where_the_point_says_so(site: Site, twin: Twin):
    runner = await site.run(twin.channel(latest_only=True))
    await site.becomes("T:1", "0.000000")
    await runner.stop()
    source = {"kind": "user", "name": "ann"}
    commands = [
        await site.functions.submit(1001, {"type": "A", "point": 1, "value": value, "source": source})
        for value in (1, 2, 3)
    ]
    runner.start()
    assert [(await site.final(command))["state"] for command in commands] == ["superseded", "superseded", "verified"]

    async def once() -> bool:
        return twin.writes() == [True]

    await wait_until(once, "one write")


async def test_an_acknowledgment_on_its_way_is_told_before_the_channel_is_given_back(site: Site, twin: Twin):
    runner = await site.run(twin.channel())
    await site.becomes("T:1", "0.000000")
    stopping, complete = asyncio.Event(), site.functions.complete

    async def late(*words: Any) -> dict[str, Any]:
        await stopping.wait()
        return await complete(*words)

    site.functions.complete = late  # type: ignore[method-assign]
    source = {"kind": "user", "name": "ann"}
    command = await site.functions.submit(
        1001, {"type": "A", "point": 1, "value": 5, "verify": False, "source": source}
    )
    runner.wake()

    async def written() -> list[bool]:
        return twin.writes()

    await wait_until(written, "the device has it")
    stop = asyncio.create_task(runner.stop())
    asyncio.get_running_loop().call_later(0.3, stopping.set)
    await stop
    assert [step["state"] for step in (await site.final(command))["transitions"]] == TAKEN


async def test_an_outcome_that_redis_refuses_starts_the_channel_anew(site: Site, twin: Twin):
    """It is a defect; the command does not stay `sent`, nor is it sent again."""
    runner = await site.run(twin.channel())
    await site.becomes("T:1", "0.000000")
    complete = site.functions.complete

    async def refused(*words: Any) -> dict[str, Any]:
        site.functions.complete = complete  # type: ignore[method-assign]
        raise InternalError("refused")

    site.functions.complete = refused  # type: ignore[method-assign]
    found = await site.command("A", 5, verify=False)
    assert (found["state"], found["reason"][:15]) == ("failed", "unknown outcome")
    assert runner.running
    assert twin.writes() == [True]
