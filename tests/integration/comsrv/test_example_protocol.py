"""The worked example of docs/new-protocol.md passes the suite that every protocol passes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from services.comsrv.contract import MalformedError, NoAnswerError, NotConnectedError, RefusedError
from services.comsrv.plugins import registry
from services.comsrv.plugins.registry import protocols
from tests.support.example import EXAMPLE, install


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site-packages")))
    registry.forget()
    yield
    registry.forget()
    sys.modules.pop("voltage_textline", None)


sys.path.insert(0, str(EXAMPLE))
from test_textline import TestTextLine as Example  # noqa: E402 - the example's own test, on its own path


class TestTextLine(Example):
    """The example's conformance, and what is particular to it."""

    async def test_what_the_device_says_becomes_quality(self, plugin: Any):
        self.device.values.pop("breaker")
        with pytest.raises(RefusedError) as refused:
            await plugin.read_batch(plugin.blocks[0])
        assert refused.value.quality == "bad:illegal_address"
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
