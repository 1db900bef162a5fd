"""The networks that are defined: each has its disk queue, each enabled one a link that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from libs.errors import NotFoundError
from libs.tasks import cancel
from services.netsrv.commands import Commands
from services.netsrv.disk_queue import DiskQueue
from services.netsrv.functions import NetworkFunctions
from services.netsrv.http_link import HttpLink
from services.netsrv.link import Link
from services.netsrv.mqtt_link import MqttLink
from services.netsrv.schemas import Network, NetworkStatus
from services.netsrv.settings import NetworkSecret

_LOG = logging.getLogger(__name__)
DROPPED: Final = "dropped:"
STOP_AGAIN_S: Final = 5.0


class Running:
    """A network, its queue, and its link while it runs."""

    def __init__(self, network: Network, queue: DiskQueue, link: Link) -> None:
        self.network = network
        self.queue = queue
        self.link = link
        self.task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """End the link; the queue stays open."""
        if self.task is not None:
            # It says goodbye first, which may take four seconds.
            await cancel(self.task, again_s=STOP_AGAIN_S)
            self.task = None

    async def status(self) -> NetworkStatus:
        """Return how the network is doing."""
        size, counters = await self.queue.size(), self.queue.counters()
        return NetworkStatus(
            id=self.link.name,
            type=self.network.type,
            enabled=self.network.enabled,
            connected=self.link.connected,
            since_ms=self.link.since_ms,
            last_error=self.link.last_error,
            last_error_at_ms=self.link.last_error_at_ms,
            queue={
                "messages": size.messages,
                "bytes": size.bytes,
                "max_bytes": self.queue.max_bytes,
                "oldest_at_ms": size.oldest_at_ms,
            },
            sent=counters.get("sent", 0),
            failed=counters.get("failed", 0),
            dropped={name.removeprefix(DROPPED): n for name, n in counters.items() if name.startswith(DROPPED)},
            dead_letters=size.dead_letters,
        )


class Networks:
    """Starts, changes and stops networks as their definitions say."""

    def __init__(self, folder: Path, functions: NetworkFunctions, secrets: Mapping[str, NetworkSecret]) -> None:
        self._folder = folder
        self._functions = functions
        self._secrets = secrets
        self._running: dict[str, Running] = {}

    def __iter__(self) -> Any:
        """Iterate over the networks that are known."""
        return iter(list(self._running.values()))

    def queue(self, network: str) -> DiskQueue | None:
        """Return a network's queue, where the network is known."""
        found = self._running.get(network)
        return found.queue if found else None

    def get(self, network: str) -> Running:
        """Return a network, or raise NotFoundError."""
        if network not in self._running:
            raise NotFoundError(f"network {network}")
        return self._running[network]

    async def apply(self, networks: list[Network]) -> None:
        """Bring what runs to what is defined; a network that did not change goes on undisturbed."""
        wanted = {network.id or "": network for network in networks}
        for name in [name for name in self._running if name not in wanted]:
            await self._close(name)
        for name, network in wanted.items():
            known = self._running.get(name)
            if known is None or known.network.said() != network.said():
                await self._start(name, network)

    async def _start(self, name: str, network: Network) -> None:
        known = self._running.get(name)
        if known:
            await known.stop()
            queue = known.queue
            queue.max_bytes = network.queue.max_bytes
        else:
            queue = DiskQueue(self._folder / f"{name}.db", network.queue.max_bytes)
            await queue.open()
        running = self._running[name] = Running(network, queue, self._link(name, network, queue))
        if network.secret and network.secret not in self._secrets:
            # Secrets come with a restart; without this one nothing is tried.
            await running.link.fault(f"there is no secret {network.secret} in the configuration")
        elif network.enabled:
            running.task = asyncio.create_task(running.link.run(), name=f"network {name}")

    def _link(self, name: str, network: Network, queue: DiskQueue) -> Link:
        secret = self._secrets.get(network.secret or "", NetworkSecret())
        if network.type == "http":
            return HttpLink(network, secret, queue)
        commands = Commands(name, network.commands, self._functions, queue) if network.commands else None
        return MqttLink(network, secret, queue, commands)

    async def _close(self, name: str) -> None:
        running = self._running.pop(name)
        await running.stop()
        await running.queue.close()
        _LOG.warning("network %s is gone; what waited for it stays in %s", name, running.queue.path)

    def check(self) -> None:
        """Raise what ended a link; a link ends by a defect only."""
        for running in self._running.values():
            if running.task is not None and running.task.done() and not running.task.cancelled():
                running.task.result()

    async def stop(self) -> None:
        """Stop all and close the files."""
        await asyncio.gather(*(running.stop() for running in self._running.values()))
        for running in self._running.values():
            await running.queue.close()
        self._running.clear()
