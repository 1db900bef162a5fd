"""From the history queue to the networks' disk queues, acknowledged once the messages are on disk.

An entry that comes again (a crash in between, a lost reply) is known to the disk queues. While a
disk or Redis is away the batch stays in hand and is tried again; the queue in Redis holds the rest.
"""

from __future__ import annotations

import asyncio
import logging

from libs.errors import InvalidError
from libs.redis.client import Client
from libs.redis.queue import EntryId, QueueReader, acknowledged, samples_of
from services.netsrv.functions import Batch, NetworkFunctions
from services.netsrv.networks import Networks
from services.netsrv.router import Message, Router
from services.netsrv.settings import ForwardSettings

_LOG = logging.getLogger(__name__)


class Forwarder(QueueReader):
    """Takes batches to the networks' disk queues."""

    def __init__(
        self, functions: NetworkFunctions, blocking: Client, networks: Networks, settings: ForwardSettings
    ) -> None:
        super().__init__(
            "forwarding",
            blocking,
            functions.queue,
            batch_entries=settings.batch_entries,
            linger_ms=settings.linger_ms,
        )
        self._functions = functions
        self._networks = networks
        self._settings = settings
        self._batch: Batch | None = None
        self._token: str | None = None
        self._reloading = asyncio.Lock()
        self.router = Router([], [])
        self.left_out: list[str] = []
        self.unreadable = 0

    async def step(self) -> int:
        """Take one batch through to its acknowledgement; returns its entries."""
        self._networks.check()
        if self._batch is None:
            self._batch = await self._functions.claim(self._settings.batch_entries)
        batch = self._batch
        if batch.token != self._token:
            await self.reload()
            self._token = batch.token
        if batch.id:
            await self._store(batch)
            await acknowledged(batch.id, self._functions.complete(batch.id))
            self.taken(batch.entries)
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
                _LOG.error("queue entry %s of channel %s: %s", entry.id, entry.channel, error)
                continue
            for network, messages in self.router.write(samples, entry.image).items():
                found.setdefault(network, []).append((entry.id, messages))
        for network, entries in found.items():
            if queue := self._networks.queue(network):
                await queue.take(entries)
