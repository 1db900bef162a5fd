"""A channel with a device behind it, running against a real Redis."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from libs.points import PointKind
from libs.redis.functions import Functions
from services.comsrv.channel import Channel
from services.comsrv.figures import Statistics
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.identity import Identity
from services.comsrv.outcomes import Outcomes
from services.comsrv.pulses import Pulses
from services.comsrv.runner import Runner, definition
from services.comsrv.sentfile import SentFile
from services.comsrv.settings import ComsrvSettings
from tests.integration.comsrv.device import Device
from tests.support.wait import wait_until

NUMBER = {"slave_id": 1, "function_code": 3, "data_type": "int16"}


def meter(port: int, **changes: Any) -> Channel:
    """Two telemetry points and a signal in one block, a set-point and a coil."""
    document: dict[str, Any] = {
        "id": 1001,
        "name": "Meter",
        "protocol": "modbus_tcp",
        "parameters": {"host": "127.0.0.1", "port": port, "timeout_ms": 150},
        "polling": {"interval_ms": 50},
        "points": {
            "T": [
                {
                    "id": 1,
                    "name": "P",
                    "data_type": "float64",
                    "scale": 0.1,
                    "mapping": {**NUMBER, "register_address": 0},
                },
                {"id": 2, "name": "Q", "data_type": "float64", "mapping": {**NUMBER, "register_address": 1}},
            ],
            "S": [
                {
                    "id": 1,
                    "name": "closed",
                    "data_type": "bool",
                    "mapping": {**NUMBER, "register_address": 2, "data_type": "bool", "bit_position": 9},
                }
            ],
            "A": [
                {
                    "id": 1,
                    "name": "set-point",
                    "data_type": "float64",
                    "scale": 0.1,
                    "min": -100,
                    "max": 100,
                    "mapping": {**NUMBER, "function_code": 6, "register_address": 10},
                }
            ],
            "C": [
                {
                    "id": 1,
                    "name": "trip",
                    "data_type": "bool",
                    "mapping": {"slave_id": 1, "function_code": 5, "register_address": 0, "data_type": "bool"},
                }
            ],
        },
    }
    return Channel.model_validate(document | changes)


def all_counted(polls: Statistics, samples: int, points: int) -> bool:
    """Say whether the samples are those of every answer; of one that was under way at the stop nobody knows."""
    answers = polls.requests - polls.failures
    return samples in {points * answers, points * (answers - 1)}


class Site:
    """One device, one runner (or more), and short ways to look at Redis."""

    def __init__(self, functions: Functions, folder: Path) -> None:
        self.redis = functions
        self.functions = ComsrvFunctions(functions)
        self.folder = folder
        self.device = Device()
        self.device.set_registers(0, 123, -5, 0x0200)
        self.device.set_registers(10, 0)
        self.device.set_bits(0, False)
        self.stack = AsyncExitStack()
        self.runners: list[Runner] = []

    async def start(self) -> None:
        """Start the device."""
        await self.device.start()
        self.stack.push_async_callback(self.device.stop)

    async def run(self, channel: Channel | None = None, **settings: Any) -> Runner:
        """Run a channel as a comsrv of its own, until the end of the test."""
        channel = channel or meter(self.device.port)
        await self.functions.upsert(definition(channel))
        identity = Identity(self.folder)
        sent = SentFile(identity.sent_path)
        pulses = Pulses(identity.sent_path.with_suffix(".pulses"))
        options = ComsrvSettings.model_validate(
            {"reconnect_max_ms": 200, "renew_ms": 100, "data_dir": self.folder, **settings}
        )
        runner = Runner(channel, self.functions, options, identity.owner, sent, pulses, Outcomes())
        self.stack.callback(identity.close)
        self.stack.callback(sent.close)
        self.stack.push_async_callback(runner.stop)
        runner.start()
        self.runners.append(runner)
        return runner

    async def value(self, reference: str) -> str | None:
        """Return "23.400000" or "bad:timeout" for "T:1"."""
        kind, point = reference.split(":")
        image = await self.functions.image(1001, PointKind(kind))
        return image.quality.get(point) or image.values.get(point)

    async def becomes(self, reference: str, wanted: str) -> None:
        """Wait until a point has a value or quality."""

        async def check() -> bool:
            return await self.value(reference) == wanted

        await wait_until(check, f"{reference} is {wanted}")

    async def final(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait for a command's final form."""

        async def check() -> dict[str, Any] | None:
            found = await self.functions.command(command["id"])
            return found if found["final"] else None

        found = await wait_until(check, f"command {command['id']} is final")
        assert found is not None
        return found

    async def command(self, kind: str, value: float, **more: Any) -> dict[str, Any]:
        """Submit a command to point 1 of a kind and return its final form."""
        source = {"kind": "user", "name": "ann"}
        document = {"type": kind, "point": "1", "value": value, "source": source, **more}
        command = await self.functions.submit(1001, document)
        # As comsrv does when Redis tells it of a command.
        for runner in self.runners:
            runner.wake()
        return await self.final(command)
