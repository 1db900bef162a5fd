"""Tells systemd that a service's event loop turns; one that hangs is killed and started again.

The protocol is sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names, at least
every `WATCHDOG_USEC`. Where systemd did not ask, nothing is sent. `voltage up` has its own probes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from aiohttp import web

logger = logging.getLogger(__name__)


class Watchdog(NamedTuple):
    """Where to send a sign of life, and how often."""

    address: str
    interval_s: float


def asked(environ: Mapping[str, str] = os.environ) -> Watchdog | None:
    """Return what systemd asks of this process, or None."""
    address, period = environ.get("NOTIFY_SOCKET", ""), environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not address or not period.isdigit() or int(period) == 0:
        return None
    # A third of the period: two may come late.
    return Watchdog("\0" + address[1:] if address.startswith("@") else address, int(period) / 3e6)


async def watched(_: web.Application) -> AsyncIterator[None]:
    """Send signs of life while the application runs."""
    watchdog = asked()
    if watchdog is None:
        yield
        return
    task = asyncio.create_task(_send(watchdog), name="watchdog")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _send(watchdog: Watchdog) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        while True:
            try:
                sender.sendto(b"WATCHDOG=1", watchdog.address)
            except OSError as error:
                logger.warning("systemd does not hear the watchdog: %s", error)
            await asyncio.sleep(watchdog.interval_s)
