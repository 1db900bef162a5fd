"""From arrays to Redis: one channel's readings, in order, as `comsrv_ingest` of the blocks that changed.

The first leaves at once, those that come while it is under way leave together.

Polling never waits for Redis: readings go into a bounded queue. While Redis is away the
oldest are dropped and counted. A call whose reply was lost is sent again with the same
(epoch, seq), which Redis takes for the same call. What did not change costs no call of
its own: instants and counters go with one `channel_renew` a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Final

from libs.clock import monotonic_ms, now_ms
from libs.errors import (
    ConflictError,
    InternalError,
    InvalidError,
    LimitError,
    NotFoundError,
    StateError,
    UnavailableError,
)
from services.comsrv.backoff import Backoff
from services.comsrv.blockimage import BlockImage, Failure
from services.comsrv.contract import Block, Event, Reading
from services.comsrv.counters import Counters
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.pushed import EVENTS, MAX_EVENTS, Places, rows
from services.comsrv.reckoning import Reckoning
from services.comsrv.reporting import Report
from services.comsrv.waiting import Waiting

log = logging.getLogger(__name__)

# The first of several blocks waits so long for those behind it.
GATHER_S: Final = 0.002


class LeaseLostError(ConflictError):
    """Another comsrv holds the channel."""


class _Outcome(Enum):
    """What became of a call."""

    SENT = "sent"
    # The lease had lapsed and the channel was claimed anew: nothing counts as sent now, so what is
    # to be sent must be worked out again.
    AGAIN = "again"
    REFUSED = "refused"


class Uplink:
    """Sends one channel's readings. `run` ends with LeaseLostError when another comsrv took the channel."""

    def __init__(
        self,
        functions: ComsrvFunctions,
        channel: int,
        *,
        owner: str,
        interval_ms: int,
        renew_ms: int,
        define: Callable[[], dict[str, Any]],
        report: Callable[[Block], Report | None] = lambda _: None,
    ) -> None:
        """Prepare; nothing is claimed yet.

        Args:
            functions: the calls.
            channel: its id.
            owner: who holds the lease.
            interval_ms: the poll interval, of which three make a lease.
            renew_ms: the time between two renewals.
            define: returns the channel's definition, for a Redis that lost it.
            report: returns which changes of a block are worth sending.
        """
        self.functions = functions
        self.channel = channel
        self.epoch = 0
        self.state = "starting"
        self.units: dict[str, dict[str, Any]] = {}
        self.dropped = 0
        # True while the poller is about to read more of the same poll.
        self.reading_on = False
        # When Redis last answered, by the clock that never steps.
        self.heard_ms = monotonic_ms()
        self._owner = owner
        self._interval_ms = interval_ms
        self._renew_ms = renew_ms
        self._define = define
        self._report = report
        self._images: dict[str, BlockImage] = {}
        self._places = Places()
        self._waiting = Waiting()
        self._pushed: deque[tuple[Sequence[Event], asyncio.Future[None]]] = deque()
        # Events that Redis took.
        self.events = 0
        self._counters = Counters()
        self._seen: dict[str, int] = {}
        self._refused: set[str] = set()
        self._sequence = 0
        self._closing = False
        self._renewed_at_ms = self._kept_at_ms = 0
        self._resend = False
        self._reported = ("", "")
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._backoff = Backoff(100, 2000)
        self._reckoning = Reckoning()
        self._redis_run = ""

    def _heard(self) -> None:
        self._redis_run = self.functions.redis_run
        self.heard_ms = monotonic_ms()
        self._backoff.reset()

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
            self._counters.polled += block.size
            self._counters.reject("not_sent", block.size)

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
        if self._waiting.crowded and not self._backoff.attempts:
            await self._waiting.space()

    def late(self, polls: int) -> None:
        """Count polls that were left out because the one before took too long."""
        self._counters.late += polls

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
            self._seen.pop(image.block.name, None)
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

    async def claim(self) -> None:
        """Take the channel, waiting for Redis, or raise LeaseLostError while another holds it."""
        while True:
            try:
                claim = await self.functions.claim(self.channel, self._owner, self._interval_ms)
                await self._ensure_definition()
            except ConflictError as error:
                raise LeaseLostError(str(error)) from error
            except UnavailableError:
                await self._backoff.pause()
            else:
                self._heard()
                self.epoch = claim.epoch
                self._sequence = 0
                self._reckoning.clear()
                self._reported = ("", "")
                self.forget()
                log.info("channel %s: claimed, epoch %s", self.channel, claim.epoch)
                return

    async def run(self) -> None:
        """Send what comes, until `close` and nothing is left."""
        while not self._closing or self._waiting or self._pushed:
            while self._waiting or self._pushed:
                if self._pushed:
                    await self._send_pushed(*self._pushed.popleft())
                if self._waiting:
                    await self._gather()
                    await self._send([(self._image(block), item) for block, item in self._waiting.together()])
                if self._resend:
                    self._resend = False
                    self.forget()
                await self._renew_when_due()
            self._idle.set()
            self._news.clear()
            await self._renew_when_due()
            try:
                async with asyncio.timeout(max(self._renewal_ms - monotonic_ms(), 1) / 1000):
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
            self._counters.polled += len(events)
            self._counters.reject("not_sent", len(events))

    async def release(self) -> None:
        """Carry the last counters and give the channel back, after `run` has ended."""
        await self._renew()
        await self.functions.release(self.channel, self.epoch, self._counters.document())

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
        outcome = _Outcome.AGAIN
        while outcome is _Outcome.AGAIN:
            if isinstance(first, Failure):
                outcome = await self._send_failure(image, first)
            else:
                outcome = await self._send_readings(readings)

    async def _send_pushed(self, events: Sequence[Event], taken: asyncio.Future[None]) -> None:
        for start in range(0, len(events), MAX_EVENTS):
            part = events[start : start + MAX_EVENTS]
            while await self._send_events(part) is _Outcome.AGAIN:
                pass
        if not taken.done():
            taken.set_result(None)

    async def _send_events(self, events: Sequence[Event]) -> _Outcome:
        document: dict[str, Any] = {
            "origin": "event", "channel": self.channel, "block": EVENTS, "at_ms": now_ms(), "events": rows(events),
        }  # fmt: skip
        call = partial(self.functions.ingest, self.channel, [document], [()])
        outcome = await self._deliver([document], Counters(polled=len(events)), call)
        if outcome is _Outcome.SENT:
            self.events += len(events)
            self._places.tell(self._images.values(), events)
        elif outcome is _Outcome.REFUSED:
            self._counters.polled += len(events)
            self._counters.reject("refused", len(events))
        return outcome

    async def _send_readings(self, readings: list[tuple[BlockImage, Reading]]) -> _Outcome:
        """Send what changed, in one call. What did not change is counted, and leaves the list."""
        updates = [(image, image.compare(reading)) for image, reading in readings]
        for image, update in updates:
            if update.empty:
                self._counters.add(update.counters)
                image.keep(update, update.reading.at_ms)
                self._seen[image.block.name] = update.reading.at_ms
        updates = [(image, update) for image, update in updates if not update.empty]
        readings[:] = [(image, update.reading) for image, update in updates]
        if not updates:
            return _Outcome.SENT
        own = Counters()
        for _, update in updates:
            own.add(update.counters)
        documents = [update.document(self.channel, image.block) for image, update in updates]
        call = partial(self.functions.ingest, self.channel, documents, [update.texts for _, update in updates])
        outcome = await self._deliver(documents, own, call)
        if outcome is _Outcome.SENT:
            for image, update in updates:
                image.keep(update, update.reading.at_ms)
                self._seen.pop(image.block.name, None)
        elif outcome is _Outcome.REFUSED and len(readings) > 1:
            # It is one of them that Redis refuses.
            for each in readings:
                await self._send([each])
        elif outcome is _Outcome.REFUSED:
            self._counters.polled += own.polled
            self._counters.reject("refused", own.polled)
        return outcome

    async def _send_failure(self, image: BlockImage, failure: Failure) -> _Outcome:
        """Mark a block's points, once a change. Each mark is a sample polled and stored."""
        if not image.failure_is_news(failure):
            return _Outcome.SENT
        document = image.failed(failure)
        call = partial(self.functions.set_quality, self.channel, document)
        outcome = await self._deliver([document], Counters(polled=image.block.size), call)
        if outcome is _Outcome.SENT:
            image.keep_failure(failure)
        return outcome

    async def _deliver(
        self, documents: list[dict[str, Any]], own: Counters, call: Callable[[], Awaitable[bool]]
    ) -> _Outcome:
        """Give the documents of a call their epoch, sequence and counters, and make it until it is settled."""
        if await self._restarted():
            return _Outcome.AGAIN
        carried = self._counters.copy()
        total = carried.copy()
        total.add(own)
        self._sequence += 1
        sequence, block = self._sequence, documents[0]["block"]
        for document in documents:
            document |= {"epoch": self.epoch, "seq": sequence}
        documents[0]["counters"] = total.document()
        while True:
            try:
                resend = await call()
                self._resend = self._resend or resend
            except UnavailableError as error:
                self._lost(error)
                await self._backoff.pause()
                await self._reckon()
            except StateError:
                await self.claim()
                return _Outcome.AGAIN
            except ConflictError as error:
                raise LeaseLostError(str(error)) from error
            except (InvalidError, LimitError, InternalError) as error:
                # A defect of ours or of the installation: say so once, count the samples, go on.
                if block not in self._refused and len(documents) == 1:
                    log.error("channel %s block %s: Redis refused the call: %s", self.channel, block, error)  # noqa: TRY400 - the text is Redis', our stack says nothing
                    self._refused.add(block)
                return _Outcome.REFUSED
            else:
                self._heard()
                self._refused.discard(block)
                self._counters.subtract(carried)
                self._reckoning.ingested(sequence, total.polled)
                # Such a call keeps the lease too.
                self._kept_at_ms = monotonic_ms()
                return _Outcome.SENT

    async def _restarted(self) -> bool:
        """Say whether Redis was started anew since it last answered here, as another channel has met."""
        if self._redis_run in {"", self.functions.redis_run}:
            return False
        self._redis_run = self.functions.redis_run
        self.forget()
        await self._reckon()
        return True

    async def _reckon(self) -> None:
        """Count what Redis had taken and has forgotten; asked before anything else is sent."""
        while True:
            try:
                survived = await self.functions.survived(self.channel)
            except UnavailableError:
                await self._backoff.pause()
            else:
                break
        lost = self._reckoning.lost(self.epoch, survived)
        if lost:
            log.warning("channel %s: Redis came back without the last %s samples", self.channel, lost)
            self._counters.lost += lost

    def _lost(self, error: UnavailableError) -> None:
        """Take nothing for sent after Redis was away: it may have lost the last seconds."""
        if self._backoff.attempts == 0:
            log.warning("channel %s: %s", self.channel, error)
        self._waiting.wake()
        self.forget()

    @property
    def _renewal_ms(self) -> int:
        """When to renew the lease: a while after the last call, of whatever kind, if there is nothing to carry."""
        return self._renew_ms + (self._renewed_at_ms if self._seen else max(self._renewed_at_ms, self._kept_at_ms))

    async def _renew_when_due(self) -> None:
        if monotonic_ms() >= self._renewal_ms or (self.state, repr(self.units)) != self._reported:
            await self._renew()

    async def _renew(self) -> None:
        """Keep the lease; carry instants, counters and state.

        A renewal has no sequence number. When its reply is lost, the instants in Redis
        tell whether it arrived; without any instant it carries no counters.
        """
        await self._restarted()
        seen = dict(self._seen)
        carried = self._counters.copy() if seen else Counters()
        reported = (self.state, repr(self.units))
        document = {
            "epoch": self.epoch,
            "state": self.state,
            "seen": seen,
            "units": self.units,
            "counters": carried.document(),
        }
        while True:
            try:
                resend = await self.functions.renew(self.channel, document)
            except UnavailableError as error:
                self._lost(error)
                await self._backoff.pause()
                await self._reckon()
                if await self._arrived(seen):
                    break
            except StateError:
                await self.claim()
                return
            except ConflictError as error:
                raise LeaseLostError(str(error)) from error
            else:
                if resend:
                    self.forget()
                break
        self._heard()
        self._counters.subtract(carried)
        self._reckoning.renewed(seen, carried.polled)
        self._seen = {block: at_ms for block, at_ms in self._seen.items() if seen.get(block) != at_ms}
        self._renewed_at_ms = monotonic_ms()
        self._reported = reported

    async def _arrived(self, seen: dict[str, int]) -> bool:
        """Say whether a renewal whose reply was lost is in Redis."""
        if not seen:
            return False
        while True:
            try:
                status = await self.functions.status(self.channel)
            except UnavailableError:
                await self._backoff.pause()
            except NotFoundError:
                return False
            else:
                return any(status["seen"].get(block) == at_ms for block, at_ms in seen.items())

    async def _ensure_definition(self) -> None:
        """Store the channel's definition in a Redis that does not have it, as after a loss of its data."""
        try:
            await self.functions.get(self.channel)
        except NotFoundError:
            await self.functions.upsert(self._define())
