"""What is common to all networks: a link is up or down, fails, pauses and tries again."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

from libs.clock import monotonic_ms, now_ms
from libs.errors import ConfigurationError, Problem, UnavailableError
from services.netsrv.disk_queue import DiskQueue
from services.netsrv.schemas import Network, Tls
from services.netsrv.settings import NetworkSecret

_LOG = logging.getLogger(__name__)
# A link that held so long was no failed attempt.
HELD_MS: Final = 30_000


class LaterError(UnavailableError):
    """The other side asks for a pause."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class Link(ABC):
    """One network: sends what its queue holds, for ever."""

    def __init__(self, network: Network, secret: NetworkSecret, queue: DiskQueue) -> None:
        self.network = network
        self.name = network.id or ""
        self.secret = secret
        self.queue = queue
        self.connected = False
        self.since_ms: int | None = None
        self.last_error: str | None = None
        self.last_error_at_ms: int | None = None
        self._failures = 0

    @abstractmethod
    async def session(self) -> None:
        """Connect and send until something fails.

        Raises:
            UnavailableError: the network is away, or wants a pause.
        """

    async def run(self) -> None:
        """Hold sessions until cancelled."""
        while True:
            began = monotonic_ms()
            try:
                # What is sent can't be taken off a disk that is full: it would be sent again and again.
                await self.queue.check()
                await self.session()
            except (UnavailableError, ConfigurationError) as error:
                held = self.connected and monotonic_ms() - began > HELD_MS
                await self.fault(error)
                self._turn(connected=False)
                if held:
                    self._failures = 0
                await asyncio.sleep(self._pause_s(error))
                self._failures += 1
            finally:
                self._turn(connected=False)

    async def fault(self, error: object) -> None:
        """Note an attempt that did not succeed; secrets in the reason are masked."""
        text = self.secret.masked(str(error))[:500]
        if text != self.last_error or self.connected:
            _LOG.warning("network %s: %s", self.name, text)
        self.last_error, self.last_error_at_ms = text, now_ms()
        with suppress(UnavailableError):
            await self.queue.failed()

    def _pause_s(self, error: Exception) -> float:
        """Return the pause before the next attempt: doubled at each failure, capped, spread at random."""
        retry = self.network.retry
        longest: float = min(retry.max_ms, retry.first_ms * (1 << min(self._failures, 30))) / 1000
        pause = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter
        return max(pause, error.after_s) if isinstance(error, LaterError) else pause

    def up(self) -> None:
        """Note that the network answers."""
        if not self.connected:
            _LOG.info("network %s: connected", self.name)
        self._turn(connected=True)

    def worked(self) -> None:
        """Note that something was sent: the next failure is the first again."""
        self._failures = 0

    def _turn(self, *, connected: bool) -> None:
        if connected != self.connected or self.since_ms is None:
            self.connected, self.since_ms = connected, now_ms()


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name.

    Raises:
        ConfigurationError: a file can't be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file) if file)
        raise ConfigurationError([Problem(files, f"{error}")]) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
