"""A protocol from another package on a thread and an event loop of its own: what blocks there costs its channel only.

A process of its own would also survive a crash of the interpreter; the protocol `grpc` is
for devices that need that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from libs.points import PointKind
from libs.tasks import cancel
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import (
    Block,
    ComBase,
    Event,
    Knowledge,
    NoAnswerError,
    NotConnectedError,
    Outline,
    ReadBack,
    Reading,
    Sink,
    Span,
    Trial,
    Write,
)

# A call that takes longer is given up; the thread may still be at it.
LONGEST_CALL_S: Final = 30.0
LONGEST_CLOSE_S: Final = 2.0

# What a plugin says of itself once it has planned.
_SAID: Final = ("blocks", "line", "traffic", "timeout_ms", "speed")

T = TypeVar("T")


class Isolated(ComBase):
    """Passes each call that waits for the device to the plugin's own loop."""

    def __init__(self, plugin: ComBase, longest_call_s: float = LONGEST_CALL_S) -> None:
        """Keep the plugin; its thread starts with `initialize`."""
        super().__init__()
        self.plugin = plugin
        # An attribute of the class elsewhere: what the plugin can do is known before it runs.
        self.capabilities = plugin.capabilities  # type: ignore[misc]
        self._longest_call_s = longest_call_s
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        """Start the thread with its loop."""
        self._loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(loop,), name="protocol", daemon=True)
        self._thread.start()

    async def _call(self, work: Coroutine[Any, Any, T], longest_s: float | None = None) -> T:
        """Run a coroutine of the plugin on its loop; raises NoAnswerError when that takes too long."""
        future = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        limit_s = longest_s or self._longest_call_s
        done, _ = await asyncio.wait({future}, timeout=limit_s)
        if not done:
            future.cancel()
            raise NoAnswerError(f"protocol {type(self.plugin).__name__} did not come back within {limit_s:g} s")
        return future.result()

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Start the thread and plan the blocks."""
        if self._thread is None:
            self._start()
        self.plugin.reconnect_max_ms = self.reconnect_max_ms
        await self._call(self.plugin.initialize(channel, port_base=port_base))
        for name in _SAID:
            setattr(self, name, getattr(self.plugin, name))

    async def connect(self) -> None:
        """Connect."""
        try:
            await self._call(self.plugin.connect())
        except NoAnswerError as error:
            raise NotConnectedError(str(error)) from None

    async def read_batch(self, block: Block) -> Reading:
        """Read a block."""
        return await self._call(self.plugin.read_batch(block))

    async def read_within(self, block: Block, timeout_ms: int) -> Reading:
        """Read a block and wait at most so long."""
        return await self._call(self.plugin.read_within(block, timeout_ms))

    async def write_point(self, write: Write) -> None:
        """Send a write."""
        await self._call(self.plugin.write_point(write))

    async def write_together(self, writes: Sequence[Write]) -> None:
        """Send several in one request."""
        await self._call(self.plugin.write_together(writes))

    async def read_back(self, write: Write) -> ReadBack:
        """Read what the device holds."""
        return await self._call(self.plugin.read_back(write))

    async def try_point(self, kind: PointKind, point: Point) -> Trial:
        """Read the one point it was initialized with."""
        return await self._call(self.plugin.try_point(kind, point))

    async def read_registers(self, unit: int, code: int, address: int, count: int) -> list[int]:
        """Read registers as they are."""
        return await self._call(self.plugin.read_registers(unit, code, address, count))

    async def write_registers(self, unit: int, code: int, address: int, values: list[int]) -> None:
        """Write registers as they are."""
        await self._call(self.plugin.write_registers(unit, code, address, values))

    async def subscribe(self, sink: Sink) -> None:
        """Pass on what a device pushes, on the loop of whoever asked."""
        home = asyncio.get_running_loop()

        async def pass_on(events: Sequence[Event]) -> None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_handed(sink, events), home))

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.plugin.subscribe(pass_on), self._loop))

    async def close(self) -> None:
        """Give the connection back, unless the plugin blocks; the thread goes on, for the next connection."""
        if self._thread is None:
            return
        with suppress(NoAnswerError):
            await self._call(self.plugin.close(), LONGEST_CLOSE_S)

    async def dispose(self) -> None:
        """End the thread; one that is blocked is left behind."""
        await super().dispose()
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join, LONGEST_CLOSE_S)

    # What does not wait for anything is called as it is.

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Scale and check."""
        return self.plugin.prepare_write(kind, point, value)

    def prepare_text(self, kind: PointKind, point: Point, text: str) -> Write:
        """Check a text."""
        return self.plugin.prepare_text(kind, point, text)

    def unit_of(self, write: Write) -> str:
        """Return the unit that a write goes to."""
        return self.plugin.unit_of(write)

    def neighbours(self, write: Write) -> tuple[str, ...]:
        """Return points that might leave in one request with it."""
        return self.plugin.neighbours(write)

    def together(self, writes: Sequence[Write]) -> list[list[Write]]:
        """Put writes together."""
        return self.plugin.together(writes)

    def split(self, block: Block) -> tuple[Block, ...]:
        """Take a block apart."""
        return self.plugin.split(block)

    def pieces(self, block: Block) -> int:
        """Count the parts of a block."""
        return self.plugin.pieces(block)

    def part(self, block: Block, start: int, stop: int) -> Block:
        """Return a part of a block."""
        return self.plugin.part(block, start, stop)

    def span(self, block: Block) -> Span | None:
        """Return what a block's request reads."""
        return self.plugin.span(block)

    def length(self, block: Block) -> float:
        """Return how long a block's request is."""
        return self.plugin.length(block)

    def replan(self, knowledge: Knowledge) -> tuple[Block, ...]:
        """Plan the blocks anew."""
        return self.plugin.replan(knowledge)

    def outline(self, knowledge: Knowledge) -> Sequence[Outline]:
        """Plan what blocks would read."""
        return self.plugin.outline(knowledge)

    def adopt(self, channel: Channel) -> bool:
        """Take other points over."""
        return self.plugin.adopt(channel)

    def set_point(self, kind: PointKind, point: Point, value: float, quality: str, at_ms: int | None) -> None:
        """Keep a value."""
        self.plugin.set_point(kind, point, value, quality, at_ms)

    def written_by(self, unit: int, code: int, address: int, count: int) -> str | None:
        """Return a point that writes one of these addresses."""
        return self.plugin.written_by(unit, code, address, count)

    def restore(self, values: Mapping[tuple[PointKind, int], float]) -> None:
        """Take back values."""
        self.plugin.restore(values)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run a plugin's loop until it is disposed of."""
    loop.run_forever()
    loop.run_until_complete(_cancelled())
    loop.close()


async def _cancelled() -> None:
    """Cancel what a plugin left behind."""
    await cancel(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


async def _handed(sink: Sink, events: Sequence[Event]) -> None:
    await sink(events)
