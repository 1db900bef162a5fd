"""textline passes the suite that every protocol passes: pip install -e . && pytest."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from device import Device

from services.comsrv.channel import Channel
from services.comsrv.plugins.conformance import Conformance


class TestTextLine(Conformance):
    """The suite, with a device that holds T:1 = 23.5, S:1 = 1, a control and an adjustment from -100 to 100."""

    protocol = "textline"
    device: Device
    port: int

    @pytest.fixture(autouse=True)
    async def _device(self) -> AsyncIterator[None]:
        self.device = Device(power="23.5", breaker="1", start="0", setpoint="0")
        self.port = await self.device.start()
        yield
        await self.device.stop()

    async def channel(self) -> Channel:
        points = {
            "T": [{"id": 1, "name": "Power", "data_type": "float64", "mapping": {"name": "power"}}],
            "S": [{"id": 1, "name": "Breaker", "data_type": "bool", "mapping": {"name": "breaker"}}],
            "C": [{"id": 1, "name": "Start", "data_type": "bool", "mapping": {"name": "start"}}],
            "A": [{"id": 1, "name": "Set-point", "data_type": "float64", "min": -100, "max": 100,
                   "mapping": {"name": "setpoint"}}],
        }  # fmt: skip
        parameters = {"host": "127.0.0.1", "port": self.port, "timeout_ms": 200}
        document = {"id": 7, "name": "t", "protocol": self.protocol, "parameters": parameters, "points": points}
        return Channel.model_validate(document)

    async def lose_device(self) -> None:
        await self.device.stop()

    async def return_device(self) -> None:
        await self.device.start(self.port)
