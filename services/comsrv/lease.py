"""A channel's lease, and every call that is made under it, each at most once.

A call whose reply was lost is made again with the same (epoch, seq), which Redis takes for the
same call. After Redis was away nothing counts as sent, and what it had taken and has forgotten is
counted as lost. A renewal carries what has no call of its own: instants, counters, state.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from libs.clock import monotonic_ms
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
from services.comsrv.counters import Counters
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.reckoning import Reckoning

log = logging.getLogger(__name__)


class LeaseLostError(ConflictError):
    """Another comsrv holds the channel."""


class Outcome(Enum):
    """What became of a call."""

    SENT = "sent"
    # The lease had lapsed and the channel was claimed anew: nothing counts as sent now, so what is
    # to be sent must be worked out again.
    AGAIN = "again"
    REFUSED = "refused"


class Lease:
    """Holds one channel. Whatever finds that another comsrv took it raises LeaseLostError."""

    def __init__(
        self,
        functions: ComsrvFunctions,
        channel: int,
        *,
        owner: str,
        interval_ms: int,
        renew_ms: int,
        define: Callable[[], dict[str, Any]],
    ) -> None:
        """Prepare; nothing is claimed yet.

        Args:
            functions: the calls.
            channel: its id.
            owner: who holds the lease.
            interval_ms: the poll interval, of which three make a lease.
            renew_ms: the time between two renewals.
            define: returns the channel's definition, for a Redis that lost it.
        """
        self.functions = functions
        self.channel = channel
        self.epoch = 0
        self.state = "starting"
        self.units: dict[str, dict[str, Any]] = {}
        # What the next call carries: counters, and when unchanged blocks were last read.
        self.counters = Counters()
        self.seen: dict[str, int] = {}
        # When Redis last answered, by the clock that never steps.
        self.heard_ms = monotonic_ms()
        # Told when nothing counts as sent any more, and when Redis is away.
        self.on_loss: Callable[[], None] = lambda: None
        self.on_away: Callable[[], None] = lambda: None
        self._owner = owner
        self._interval_ms = interval_ms
        self._renew_ms = renew_ms
        self._define = define
        self._refused: set[str] = set()
        self._sequence = 0
        self._renewed_at_ms = self._kept_at_ms = 0
        self._resend = False
        self._reported = ("", "")
        self._backoff = Backoff(100, 2000)
        self._reckoning = Reckoning()
        self._redis_run = ""

    @property
    def away(self) -> bool:
        """True while Redis does not answer."""
        return self._backoff.attempts > 0

    def _heard(self) -> None:
        self._redis_run = self.functions.redis_run
        self.heard_ms = monotonic_ms()
        self._backoff.reset()

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
                self.on_loss()
                log.info("channel %s: claimed, epoch %s", self.channel, claim.epoch)
                return

    async def release(self) -> None:
        """Carry the last counters and give the channel back, after `run` has ended."""
        await self._renew()
        await self.functions.release(self.channel, self.epoch, self.counters.document())

    async def deliver(
        self, documents: list[dict[str, Any]], own: Counters, call: Callable[[], Awaitable[bool]]
    ) -> Outcome:
        """Give the documents of a call their epoch, sequence and counters, and make it until it is settled."""
        if await self._restarted():
            return Outcome.AGAIN
        carried = self.counters.copy()
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
                return Outcome.AGAIN
            except ConflictError as error:
                raise LeaseLostError(str(error)) from error
            except (InvalidError, LimitError, InternalError) as error:
                # A defect of ours or of the installation: say so once, count the samples, go on.
                if block not in self._refused and len(documents) == 1:
                    log.error("channel %s block %s: Redis refused the call: %s", self.channel, block, error)  # noqa: TRY400 - the text is Redis', our stack says nothing
                    self._refused.add(block)
                return Outcome.REFUSED
            else:
                self._heard()
                self._refused.discard(block)
                self.counters.subtract(carried)
                self._reckoning.ingested(sequence, total.polled)
                # Such a call keeps the lease too.
                self._kept_at_ms = monotonic_ms()
                return Outcome.SENT

    async def _restarted(self) -> bool:
        """Say whether Redis was started anew since it last answered here, as another channel has met."""
        if self._redis_run in {"", self.functions.redis_run}:
            return False
        self._redis_run = self.functions.redis_run
        self.on_loss()
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
            self.counters.lost += lost

    def _lost(self, error: UnavailableError) -> None:
        """Take nothing for sent after Redis was away: it may have lost the last seconds."""
        if self._backoff.attempts == 0:
            log.warning("channel %s: %s", self.channel, error)
        self.on_away()
        self.on_loss()

    @property
    def renewal_ms(self) -> int:
        """When to renew the lease: a while after the last call, of whatever kind, if there is nothing to carry."""
        return self._renew_ms + (self._renewed_at_ms if self.seen else max(self._renewed_at_ms, self._kept_at_ms))

    async def renew_when_due(self) -> None:
        """Do what the last call's reply asked for; renew when it is time to, or when there is another state to tell."""
        if self._resend:
            self._resend = False
            self.on_loss()
        if monotonic_ms() >= self.renewal_ms or (self.state, repr(self.units)) != self._reported:
            await self._renew()

    async def _renew(self) -> None:
        """Keep the lease; carry instants, counters and state.

        A renewal has no sequence number. When its reply is lost, the instants in Redis
        tell whether it arrived; without any instant it carries no counters.
        """
        await self._restarted()
        seen = dict(self.seen)
        carried = self.counters.copy() if seen else Counters()
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
                    self.on_loss()
                break
        self._heard()
        self.counters.subtract(carried)
        self._reckoning.renewed(seen, carried.polled)
        self.seen = {block: at_ms for block, at_ms in self.seen.items() if seen.get(block) != at_ms}
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
