"""The worked example of docs/new-protocol.md passes the suite that every protocol passes."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.comsrv.channel import Channel
from services.comsrv.contract import MalformedError, NoAnswerError, NotConnectedError, RefusedError
from services.comsrv.plugins import registry
from services.comsrv.plugins.registry import protocols
from tests.integration.comsrv.conformance import Conformance
from tests.support.example import EXAMPLE, install


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site-packages")))
    registry.forget()
    yield
    registry.forget()
    sys.modules.pop("voltage_textline", None)


def device_class() -> Any:
    spec = importlib.util.spec_from_file_location("textline_device", EXAMPLE / "device.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Device


class TestTextLine(Conformance):
    """Conformance."""

    protocol = "textline"
    device: Any
    port: int

    @pytest.fixture(autouse=True)
    async def _device(self) -> AsyncIterator[None]:
        self.device = device_class()(power="23.5", breaker="1", start="0", setpoint="0")
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
        document = {"id": 7, "name": "t", "protocol": "textline", "parameters": parameters, "points": points}
        return Channel.model_validate(document)

    async def lose_device(self) -> None:
        await self.device.stop()

    async def return_device(self) -> None:
        await self.device.start(self.port)

    async def test_what_the_device_says_becomes_quality(self, plugin: Any):
        self.device.values.pop("breaker")
        with pytest.raises(RefusedError) as refused:
            await plugin.read_batch(plugin.blocks[0])
        assert refused.value.quality == "bad:exception_2"
        self.device.answer = lambda words: "HELLO"
        with pytest.raises(MalformedError):
            await plugin.read_batch(plugin.blocks[0])
        self.device.answer = lambda words: "OK nan 1"
        reading = await plugin.read_batch(plugin.blocks[0])
        assert reading.quality.tolist() == [1, 0]

    async def test_silence_ends_the_connection_so_that_no_late_answer_is_mistaken(self):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        plugin = protocols()[self.protocol]()
        await plugin.initialize(await self.channel(), port_base=0)
        await plugin.connect()
        with pytest.raises(NoAnswerError):
            await plugin.read_batch(plugin.blocks[0])
        with pytest.raises(NotConnectedError):
            await plugin.read_batch(plugin.blocks[0])
        server.close()
        await server.wait_closed()
