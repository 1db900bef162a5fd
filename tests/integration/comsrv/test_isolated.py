"""A protocol of another package that blocks or fails costs its channel, and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

from libs.points import PointKind
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import GOOD, Block, ComBase, NoAnswerError, NotConnectedError, Reading, Section, Write
from services.comsrv.isolated import Isolated
from services.comsrv.plugins import registry
from tests.integration.comsrv.site import Site
from tests.support.wait import wait_until


class Stubborn(ComBase):
    """Blocks its thread in the middle of a read until it is let go."""

    free = threading.Event()
    asked = threading.Event()

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        _ = channel, port_base
        section = Section(PointKind.TELEMETRY, 0, 1, ("1",))
        self.blocks = (Block("only", "", (section,), np.zeros(1)),)

    async def connect(self) -> None:
        pass

    async def read_batch(self, block: Block) -> Reading:
        _ = block
        type(self).asked.set()
        type(self).free.wait()
        return Reading(1_700_000_000_000, np.array([7.0]), np.array([GOOD], np.uint8))

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        return Write(kind, point, value)

    async def write_point(self, write: Write) -> None:
        pass

    async def close(self) -> None:
        pass


CHANNEL = Channel.model_validate(
    {
        "id": 2001,
        "name": "stubborn",
        "protocol": "stubborn",
        "points": {"T": [{"id": 1, "name": "v", "data_type": "float64"}]},
    }
)


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    Stubborn.free.clear()
    Stubborn.asked.clear()
    yield
    Stubborn.free.set()


async def test_others_are_polled_while_a_plugin_blocks(site: Site):
    await site.run()
    await site.becomes("T:1", "12.300000")
    plugin = Isolated(Stubborn(), longest_call_s=0.5)
    await plugin.initialize(CHANNEL, port_base=6000)
    reading = asyncio.create_task(plugin.read_batch(plugin.blocks[0]))
    assert await asyncio.to_thread(Stubborn.asked.wait, 5)
    polled = len(site.device.requests)

    async def polled_on() -> bool:
        return len(site.device.requests) >= polled + 3

    await wait_until(polled_on, "the other channel is polled")
    with pytest.raises(NoAnswerError, match=r"protocol Stubborn did not come back within 0\.5 s"):
        await reading
    Stubborn.free.set()
    assert (await plugin.read_batch(plugin.blocks[0])).values.tolist() == [7.0]
    await plugin.dispose()


async def test_a_plugin_is_connected_again_on_the_same_loop_until_it_is_disposed_of():
    Stubborn.free.set()
    plugin = Isolated(Stubborn())
    await plugin.initialize(CHANNEL, port_base=6000)
    for _ in range(2):
        await plugin.connect()
        assert (await plugin.read_batch(plugin.blocks[0])).values.tolist() == [7.0]
        await plugin.close()
    await plugin.dispose()
    assert plugin._thread is not None
    assert not plugin._thread.is_alive()


async def test_a_plugin_that_blocks_while_it_connects_is_not_connected():
    class Waiting(Stubborn):
        async def connect(self) -> None:
            self.free.wait()

    plugin = Isolated(Waiting(), longest_call_s=0.1)
    await plugin.initialize(CHANNEL, port_base=6000)
    with pytest.raises(NotConnectedError, match="did not come back"):
        await plugin.connect()
    Stubborn.free.set()
    await plugin.dispose()


def test_everything_a_plugin_may_do_is_passed_on():
    """What is added to the contract must not be lost on the way."""
    asked = {
        name
        for name, member in inspect.getmembers(ComBase, inspect.isfunction)
        if not name.startswith("_") and not isinstance(inspect.getattr_static(ComBase, name), classmethod)
    }
    assert asked - set(vars(Isolated)) == set()


def test_protocols_of_this_package_need_no_thread(monkeypatch: pytest.MonkeyPatch):
    registry.forget()
    assert not isinstance(registry.make("modbus_tcp"), Isolated)
    where = registry.OURS["virtual"]
    monkeypatch.setattr(registry, "OURS", {})
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("virtual", where, group)])
    registry.forget()
    made: Any = registry.make("virtual")
    registry.forget()
    assert isinstance(made, Isolated)
    assert made.capabilities.settable
