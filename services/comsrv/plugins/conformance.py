"""What every protocol must do: a pytest suite, for ours and for those of other packages.

A module derives a class from `Conformance` and gives a channel, and a way to make its
device hold a value, go away and come back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from libs.errors import InvalidError
from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import GOOD, ComBase, NotConnectedError
from services.comsrv.plugins.registry import protocols
from services.comsrv.tables import check_channel


class Conformance:
    """The suite. The channel has T:1 = 23.5, S:1 = 1, a control C:1 and an adjustment A:1 from -100 to 100."""

    protocol: str
    has_device = True

    async def channel(self) -> Channel:
        """Return the channel, its device holding the values above."""
        raise NotImplementedError

    async def lose_device(self) -> None:
        """Take the device away; connections break."""

    async def return_device(self) -> None:
        """Bring the device back."""

    @pytest.fixture
    async def plugin(self) -> AsyncIterator[ComBase]:
        channel = await self.channel()
        assert check_channel(channel, 6000) == []
        plugin = protocols()[self.protocol]()
        await plugin.initialize(channel, port_base=6000)
        await plugin.connect()
        await self.prepare(plugin, channel)
        yield plugin
        await plugin.close()
        await plugin.close()
        await self.lose_device()

    async def prepare(self, plugin: ComBase, channel: Channel) -> None:
        """Make a plugin without a device hold the values."""

    async def read(self, plugin: ComBase) -> dict[str, tuple[float, int]]:
        """Read every block: "T:1" -> (value, quality code)."""
        found = {}
        for block in plugin.blocks:
            reading = await plugin.read_batch(block)
            assert reading.values.dtype == np.float64
            assert reading.quality.dtype == np.uint8
            assert len(reading.values) == len(reading.quality) == block.size == len(block.thresholds)
            for section in block.sections:
                assert section.stop - section.start == len(section.ids)
                for index, point_id in enumerate(section.ids, section.start):
                    value = float(reading.values[index]), int(reading.quality[index])
                    found[f"{section.kind}:{point_id}"] = value
        return found

    async def test_each_readable_point_stands_in_one_block(self, plugin: ComBase) -> None:
        names = [block.name for block in plugin.blocks]
        assert len(set(names)) == len(names)
        points = [f"{s.kind}:{point_id}" for block in plugin.blocks for s in block.sections for point_id in s.ids]
        assert sorted(points) == ["S:1", "T:1"]
        assert all(block.size <= 500 for block in plugin.blocks)

    async def test_it_reads_what_the_device_holds(self, plugin: ComBase) -> None:
        assert await self.read(plugin) == {"T:1": (23.5, GOOD), "S:1": (1.0, GOOD)}

    @pytest.mark.parametrize(("kind", "value"), [("C", 1.0), ("C", 0.0), ("A", -42.5), ("A", 100.0)])
    async def test_it_writes_and_reads_back(self, plugin: ComBase, kind: str, value: float) -> None:
        point = (await self.channel()).find(kind, 1)
        assert point is not None
        write = plugin.prepare_write(PointKind(kind), point, value)
        await plugin.write_point(write)
        assert await plugin.read_back(write) == (value, True)

    @pytest.mark.parametrize(("kind", "value"), [("C", 2.0), ("A", 100.1), ("A", float("nan")), ("A", float("inf"))])
    async def test_what_the_point_cannot_hold_is_refused_before_the_wire(
        self, plugin: ComBase, kind: str, value: float
    ) -> None:
        point = (await self.channel()).find(kind, 1)
        assert point is not None
        with pytest.raises(InvalidError):
            plugin.prepare_write(PointKind(kind), point, value)

    async def test_a_lost_device_is_said_so_and_comes_back(self, plugin: ComBase) -> None:
        if not self.has_device:
            return
        await self.lose_device()
        with pytest.raises(NotConnectedError):
            await plugin.read_batch(plugin.blocks[0])
        with pytest.raises(NotConnectedError):
            await plugin.connect()
        await self.return_device()
        await plugin.connect()
        assert (await self.read(plugin))["T:1"] == (23.5, GOOD)
