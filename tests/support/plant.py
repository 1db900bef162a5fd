"""The simulated site on Redis without services: its physics, its models, and whoever sends the commands of rules.

Time passes by steps: each moves the devices, polls them into the process image in one instant, and carries out
what rules commanded, as comsrv does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from libs.config.desired import read_desired
from libs.errors import InvalidError
from libs.numbers import format_value
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.modsrv.schemas import DeviceModel, Template
from services.simulator.devices import Device
from services.simulator.settings import build_site, load_settings

ROOT: Final = Path(__file__).parents[2]
START: Final = 1_750_000_000_000
CHANNELS: Final = {"Grid meter": 1001, "PV inverter": 1002, "Battery": 1003, "Genset": 1004, "Load": 1005}
# What a model calls otherwise than the device.
READINGS: Final = {(1003, "enabled"): "enable"}
WRITES: Final = {
    (1001, "C:1"): "breaker", (1002, "A:1"): "power_limit", (1002, "C:1"): "enable", (1003, "A:1"): "set_point",
    (1003, "A:2"): "heartbeat", (1003, "C:1"): "enable", (1004, "C:1"): "start", (1004, "A:1"): "set_point",
    (1005, "A:1"): "load_scale",
}  # fmt: skip


class Plant:
    """The demo site: `device("Battery")` is the battery, `models` of config/models name its points."""

    def __init__(self, functions: Functions, *, start: str = "09:00", step_s: int = 1) -> None:
        """Build the devices; a step is so many seconds of the site."""
        settings = load_settings(ROOT / "config" / "simulate.yaml").model_copy(
            update={"start_time": start, "step_ms": 1000, "acceleration": step_s}
        )
        self.functions = functions
        self.site = build_site(settings)
        self.step_ms = 1000 * step_s
        self.now = START
        self.seq = 0
        self.epochs: dict[int, int] = {}
        self.points: dict[int, dict[str, list[tuple[str, str]]]] = {}
        self.lost: set[int] = set()
        self.commands: list[tuple[int, str, float]] = []

    def device(self, name: str) -> Any:
        """Return a device by its name."""
        return next(device for device in self.site.devices if device.name == name)

    async def start(self) -> Plant:
        """Define channels, templates and models, and poll once."""
        clock = self.functions.key("voltage:clock")
        await execute(self.functions.client, "HSET", clock, "simulation", "1", "last", str(START))
        entries = read_desired(ROOT / "config" / "models", {"templates": Template, "models": DeviceModel})
        templates = {entry.id: entry.definition for entry in entries if entry.section == "templates"}
        models = [entry.definition for entry in entries if entry.section == "models"]
        for model in models:
            assert isinstance(model, DeviceModel)
            template = templates[str(model.template)]
            assert isinstance(template, Template)
            await self._define(model, template)
        for entry in entries:
            function = "template_upsert" if entry.section == "templates" else "model_upsert"
            await self.functions.call(function, entry.id, entry.definition.said())
        await self.step()
        return self

    async def _define(self, model: DeviceModel, template: Template) -> None:
        channel = model.mapping.channel
        assert channel is not None
        points: dict[str, list[tuple[str, str]]] = {"T": [], "S": []}
        for name, point in template.data_points.items():
            reading = READINGS.get((channel, name), name)
            points[point.kind].append((str(point.base_id), reading))
        self.points[channel] = points
        ranges = {"A": (-1000, 1000), "C": (0, 1)}
        definition = {
            "id": channel, "name": model.name, "protocol": "virtual",
            "points": {kind: [{"id": int(id_)} for id_, _ in listed] for kind, listed in points.items()}
            | {
                kind: [{"id": a.base_id, "min": low, "max": high} for a in template.actions.values() if a.kind == kind]
                for kind, (low, high) in ranges.items()
            },
        }  # fmt: skip
        await self.functions.call("channel_upsert", channel, definition)
        asked = {"owner": "plant", "interval_ms": 3_600_000, "now_ms": self.now}
        self.epochs[channel] = (await self.functions.json("channel_claim", channel, asked))["epoch"]

    async def step(self) -> None:
        """Let a step pass: the devices move, are polled, and get what was commanded."""
        self.site.step()
        self.now += self.step_ms
        self.seq += 1
        for name, channel in CHANNELS.items():
            await self._poll(channel, self.device(name))
        for name, channel in CHANNELS.items():
            await self._send(channel, self.device(name))

    async def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 1000 / self.step_ms)):
            await self.step()

    async def _poll(self, channel: int, device: Device) -> None:
        values = device.readings()
        sections = [
            {"type": kind, "ids": [id_ for id_, _ in listed],
             "values": [format_value(values[reading]) for _, reading in listed],
             "quality": dict.fromkeys([id_ for id_, _ in listed], "bad:timeout") if channel in self.lost else {}}
            for kind, listed in self.points[channel].items() if listed
        ]  # fmt: skip
        block = {"epoch": self.epochs[channel], "seq": self.seq, "now_ms": self.now, "at_ms": self.now, "block": "all"}
        await self.functions.call("comsrv_ingest", channel, {**block, "sections": sections, "counters": {}})

    async def _send(self, channel: int, device: Device) -> None:
        stamp = {"epoch": self.epochs[channel], "now_ms": self.now}
        for command in await self.functions.json("command_claim", channel, {**stamp, "limit": 10}):
            point, value = f"{command['type']}:{command['point']}", command["value"]
            outcome = {**stamp, "id": command["id"], "state": "acknowledged"}
            await self.functions.call("command_complete", channel, outcome)
            try:
                device.check(WRITES[channel, point], value)
            except InvalidError as error:
                await self.functions.call(
                    "command_complete", channel, outcome | {"state": "failed", "reason": str(error)}
                )
                continue
            device.write(WRITES[channel, point], value)
            self.commands.append((channel, point, value))
            await self.functions.call("command_complete", channel, outcome | {"state": "verified", "value": value})

    async def firings(self) -> list[tuple[str, str, int]]:
        """Return what rules did: rule, event, seconds after the start."""
        found = await execute(self.functions.client, "XRANGE", self.functions.key("rulesrv:firings"), "-", "+")
        return [
            (one[b"rule"].decode(), one[b"event"].decode(), round((int(one[b"at_ms"]) - START) / 1000))
            for _, one in found
        ]
