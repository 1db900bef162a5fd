"""From arrays to Redis: one channel's readings, in order, as `comsrv_ingest` of the blocks that changed.

The first leaves at once, those that come while it is under way leave together.

Polling never waits for Redis: readings go into a bounded queue. While Redis is away the
oldest are dropped and counted. What did not change costs no call of its own: instants and
counters go with the lease's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from libs.clock import monotonic_ms, now_ms
from services.comsrv.blockimage import BlockImage, Failure
from services.comsrv.contract import Block, Event, Reading
from services.comsrv.counters import Counters
from services.comsrv.lease import Lease, Outcome
from services.comsrv.pushed import EVENTS, MAX_EVENTS, Places, rows
from services.comsrv.reporting import Report
from services.comsrv.waiting import Waiting

# The first of several blocks waits so long for those behind it.
GATHER_S: Final = 0.002


class Uplink:
    """Sends one channel's readings. `run` ends with LeaseLostError when another comsrv took the channel."""

    def __init__(self, lease: Lease, report: Callable[[Block], Report | None] = lambda _: None) -> None:
        """Prepare; the lease is claimed by who runs it. `report` returns which changes of a block are worth sending."""
        self.lease = lease
        self.dropped = 0
        # True while the poller is about to read more of the same poll.
        self.reading_on = False
        # Events that Redis took.
        self.events = 0
        self._report = report
        self._images: dict[str, BlockImage] = {}
        self._places = Places()
        self._waiting = Waiting()
        self._pushed: deque[tuple[Sequence[Event], asyncio.Future[None]]] = deque()
        lease.on_loss, lease.on_away = self.forget, self._waiting.wake
        self._closing = False
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, block: Block, item: Reading | Failure) -> None:
        """Queue what became of a block; never waits."""
        while len(self._waiting) >= self._waiting.most:
            self._drop()
        self._waiting.put(block, item)
        self._idle.clear()
        self._news.set()

    def _drop(self) -> None:
        """Leave out the oldest reading, and count it."""
        block, old = self._waiting.oldest()
        if isinstance(old, Reading):
            self.dropped += block.size
            self.lease.counters.polled += block.size
            self.lease.counters.reject("not_sent", block.size)

    async def push(self, events: Sequence[Event]) -> None:
        """Send events in order; returns when Redis has them, so that what pushes waits while Redis is away."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pushed.append((events, taken))
        self._idle.clear()
        self._news.set()
        await taken

    async def room(self) -> None:
        """Wait, shortly, while Redis answers and does not keep up.

        A poll that is late and counted is better than one that is read and dropped. While
        Redis is away nobody waits for it.
        """
        if self._waiting.crowded and not self.lease.away:
            await self._waiting.space()

    def late(self, polls: int) -> None:
        """Count polls that were left out because the one before took too long."""
        self.lease.counters.late += polls

    def forget(self) -> None:
        """Send every point again."""
        for image in self._images.values():
            image.forget()

    def replan(self, gone: Iterable[Block], fresh: Iterable[Block]) -> None:
        """Read the points of some blocks in others from now on; what Redis was told of them stays known.

        With calls under way nobody knows what Redis was told last: then the points are sent again.
        """
        images = [self._images.pop(block.name) for block in gone if block.name in self._images]
        for image in images:
            self.lease.seen.pop(image.block.name, None)
        for block in fresh:
            image = self._images[block.name] = BlockImage(block, self._report(block))
            if self._idle.is_set():
                image.adopt(images)
        self._places.forget()
        self._waiting.grow(len(self._images))

    @property
    def idle(self) -> bool:
        """True while all that was offered is in Redis."""
        return self._idle.is_set()

    def adopt(self, report: Callable[[Block], Report | None]) -> None:
        """Send by other rules from now on; blocks that are there keep theirs."""
        self._report = report

    async def drained(self) -> None:
        """Wait until all that was offered is in Redis."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send what comes, until `close` and nothing is left."""
        while not self._closing or self._waiting or self._pushed:
            while self._waiting or self._pushed:
                if self._pushed:
                    await self._send_pushed(*self._pushed.popleft())
                if self._waiting:
                    await self._gather()
                    await self._send([(self._image(block), item) for block, item in self._waiting.together()])
                await self.lease.renew_when_due()
            self._idle.set()
            self._news.clear()
            await self.lease.renew_when_due()
            try:
                async with asyncio.timeout(max(self.lease.renewal_ms - monotonic_ms(), 1) / 1000):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _gather(self) -> None:
        """Let what is read next leave in the same call, where that is a matter of a moment."""
        if not self.reading_on or self._waiting.enough:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                while self.reading_on and not self._waiting.enough:
                    self._news.clear()
                    await self._news.wait()

    def close(self) -> None:
        """Let `run` end when all is sent."""
        self._closing = True
        self._news.set()

    def abandon(self) -> None:
        """Give up what still waits; `release` carries how much it was."""
        while self._waiting:
            self._drop()
        while self._pushed:
            events, taken = self._pushed.popleft()
            taken.cancel()
            self.dropped += len(events)
            self.lease.counters.polled += len(events)
            self.lease.counters.reject("not_sent", len(events))

    def _image(self, block: Block) -> BlockImage:
        image = self._images.get(block.name)
        if image is None:
            image = self._images[block.name] = BlockImage(block, self._report(block))
            self._places.forget()
            self._waiting.grow(len(self._images))
        return image

    async def _send(self, batch: list[tuple[BlockImage, Reading | Failure]]) -> None:
        image, first = batch[0]
        readings = [(image, item) for image, item in batch if isinstance(item, Reading)]
        outcome = Outcome.AGAIN
        while outcome is Outcome.AGAIN:
            if isinstance(first, Failure):
                outcome = await self._send_failure(image, first)
            else:
                outcome = await self._send_readings(readings)

    async def _send_pushed(self, events: Sequence[Event], taken: asyncio.Future[None]) -> None:
        for start in range(0, len(events), MAX_EVENTS):
            part = events[start : start + MAX_EVENTS]
            while await self._send_events(part) is Outcome.AGAIN:
                pass
        if not taken.done():
            taken.set_result(None)

    async def _send_events(self, events: Sequence[Event]) -> Outcome:
        channel, functions = self.lease.channel, self.lease.functions
        document: dict[str, Any] = {
            "origin": "event", "channel": channel, "block": EVENTS, "at_ms": now_ms(), "events": rows(events),
        }  # fmt: skip
        call = partial(functions.ingest, channel, [document], [()])
        outcome = await self.lease.deliver([document], Counters(polled=len(events)), call)
        if outcome is Outcome.SENT:
            self.events += len(events)
            self._places.tell(self._images.values(), events)
        elif outcome is Outcome.REFUSED:
            self.lease.counters.polled += len(events)
            self.lease.counters.reject("refused", len(events))
        return outcome

    async def _send_readings(self, readings: list[tuple[BlockImage, Reading]]) -> Outcome:
        """Send what changed, in one call. What did not change is counted, and leaves the list."""
        updates = [(image, image.compare(reading)) for image, reading in readings]
        for image, update in updates:
            if update.empty:
                self.lease.counters.add(update.counters)
                image.keep(update, update.reading.at_ms)
                self.lease.seen[image.block.name] = update.reading.at_ms
        updates = [(image, update) for image, update in updates if not update.empty]
        readings[:] = [(image, update.reading) for image, update in updates]
        if not updates:
            return Outcome.SENT
        own = Counters()
        for _, update in updates:
            own.add(update.counters)
        documents = [update.document(self.lease.channel, image.block) for image, update in updates]
        call = partial(
            self.lease.functions.ingest, self.lease.channel, documents, [update.texts for _, update in updates]
        )
        outcome = await self.lease.deliver(documents, own, call)
        if outcome is Outcome.SENT:
            for image, update in updates:
                image.keep(update, update.reading.at_ms)
                self.lease.seen.pop(image.block.name, None)
        elif outcome is Outcome.REFUSED and len(readings) > 1:
            # It is one of them that Redis refuses.
            for each in readings:
                await self._send([each])
        elif outcome is Outcome.REFUSED:
            self.lease.counters.polled += own.polled
            self.lease.counters.reject("refused", own.polled)
        return outcome

    async def _send_failure(self, image: BlockImage, failure: Failure) -> Outcome:
        """Mark a block's points, once a change. Each mark is a sample polled and stored."""
        if not image.failure_is_news(failure):
            return Outcome.SENT
        document = image.failed(failure)
        call = partial(self.lease.functions.set_quality, self.lease.channel, document)
        outcome = await self.lease.deliver([document], Counters(polled=image.block.size), call)
        if outcome is Outcome.SENT:
            image.keep_failure(failure)
        return outcome
