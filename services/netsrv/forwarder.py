"""From the history queue to the networks' disk queues, acknowledged once the messages are on disk.

An entry that comes again (a crash in between, a lost reply) is known to the disk queues. While a
disk or Redis is away the batch stays in hand and is tried again; the queue in Redis holds the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from libs.errors import InvalidError, NotFoundError, UnavailableError
from libs.redis.client import Client
from services.netsrv.disk_queue import EntryId
from services.netsrv.documents import samples_of
from services.netsrv.functions import Batch, NetworkFunctions
from services.netsrv.networks import Networks
from services.netsrv.router import Message, Router
from services.netsrv.settings import ForwardSettings

_LOG = logging.getLogger(__name__)
WAIT_MS: Final = 1000
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0


class Forwarder:
    """Takes batches one at a time. `problem` is None while all goes well."""

    def __init__(
        self, functions: NetworkFunctions, blocking: Client, networks: Networks, settings: ForwardSettings
    ) -> None:
        self._functions = functions
        self._blocking = blocking
        self._networks = networks
        self._settings = settings
        self._batch: Batch | None = None
        self._token: str | None = None
        self._last = "$"
        self._reloading = asyncio.Lock()
        self.router = Router([], [])
        self.problem: str | None = None
        self.left_out: list[str] = []
        self.unreadable = 0

    async def run(self) -> None:
        """Forward until cancelled; Redis or a disk being away only slows it down."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                taken = await self.step()
                if not taken:
                    await self._functions.wait(self._blocking, self._last, WAIT_MS)
            except UnavailableError as error:
                if self.problem is None:
                    _LOG.warning("forwarding waits: %s", error)
                self.problem = str(error)
                await asyncio.sleep(pause_s * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if self.problem is not None:
                _LOG.info("forwarding goes on")
            self.problem, pause_s = None, FIRST_PAUSE_S
            self._networks.check()
            if taken < self._settings.batch_entries:
                await asyncio.sleep(self._settings.linger_ms / 1000)

    async def step(self) -> int:
        """Take one batch through to its acknowledgement; returns its entries."""
        if self._batch is None:
            self._batch = await self._functions.claim(self._settings.batch_entries)
        batch = self._batch
        if batch.token != self._token:
            await self.reload()
            self._token = batch.token
        if batch.id:
            await self._store(batch)
            try:
                await self._functions.complete(batch.id)
            except (NotFoundError, InvalidError) as error:
                # Redis lost the batch: what is still queued comes again, known to the disk queues.
                _LOG.warning("batch %s: %s; its entries come again", batch.id, error)
            ms, seq = batch.entries[-1].id
            self._last = f"{ms}-{seq}"
        self._batch = None
        return len(batch.entries)

    async def reload(self) -> None:
        """Bring networks and routes to what Redis holds now."""
        async with self._reloading:
            await self._reload()

    async def _reload(self) -> None:
        networks, problems = await self._functions.all_networks()
        routes, more = await self._functions.all_routes()
        self.left_out = problems + more
        for problem in self.left_out:
            _LOG.error("%s", problem)
        await self._networks.apply(networks)
        models = await self._functions.models_by_point() if routes else {}
        self.router = Router(networks, routes, models)

    async def _store(self, batch: Batch) -> None:
        found: dict[str, list[tuple[EntryId, list[Message]]]] = {}
        for entry in batch.entries:
            try:
                samples = samples_of(entry)
            except InvalidError as error:
                self.unreadable += 1
                _LOG.error("queue entry %d-%d of channel %s: %s", *entry.id, entry.channel, error)
                continue
            for network, messages in self.router.write(samples, entry.image).items():
                found.setdefault(network, []).append((entry.id, messages))
        for network, entries in found.items():
            if queue := self._networks.queue(network):
                await queue.take(entries)
