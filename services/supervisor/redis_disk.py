"""Room for Redis on its disk: control goes on when the disk is full.

Redis writes every change to its append-only file, and takes nothing any more once it can't.
So a file of the site's own holds some room in reserve, which is given up the moment Redis can't
write; and a file that grew is rewritten to what is in memory, which
is small. History has stopped by then (`max_disk_percent`), so little is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from libs.errors import VoltageError
from libs.redis.client import Client, execute
from libs.redis.reports import Reporter, Trouble, information, persistence

_LOG = logging.getLogger(__name__)
INTERVAL_S: Final = 1.0
RESERVE_BYTES: Final = 256 << 20
# Of a small disk less is put aside.
RESERVE_SHARE: Final = 0.05
# The reserve is made again once it leaves this much of the disk free.
ROOM_SHARE: Final = 0.15
SHORT_PERCENT: Final = 90.0
# A file is worth a rewrite when it is this much larger than what is in memory.
GROWN: Final = 2
GROWN_BYTES: Final = 1 << 20
REWRITE_EVERY_S: Final = 30.0


class RedisDisk:
    """Looks after the disk of the Redis that we started."""

    def __init__(self, folder: Path, client: Client, say: Callable[[str], None], reporter: Reporter) -> None:
        """Keep what it works with."""
        self._folder = folder
        self._reserve = folder / "reserve"
        self._client = client
        self._say = say
        self._reporter = reporter
        self._rewritten_at = -REWRITE_EVERY_S
        self._failing = False

    async def run(self) -> None:
        """Look until cancelled; a Redis that is away is its keeper's."""
        while True:
            with contextlib.suppress(VoltageError, OSError):
                await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Give room up, or put it aside; let Redis rewrite a file that grew."""
        found = await persistence(self._client)
        usage = await asyncio.to_thread(shutil.disk_usage, self._folder)
        percent = 100 * (1 - usage.free / usage.total)
        self._note(failing=found.get("aof_last_write_status", "ok") != "ok")
        if self._failing and self._reserve.exists():
            size = self._reserve.stat().st_size
            self._reserve.unlink()
            self._say(f"the disk of Redis is full: the {size >> 20} MB kept in reserve are given up; make room")
        elif not self._failing and not self._reserve.exists():
            await asyncio.to_thread(self._put_aside, usage.total, usage.free)
        if percent >= SHORT_PERCENT and _grew(found) and time.monotonic() - self._rewritten_at >= REWRITE_EVERY_S:
            self._rewritten_at = time.monotonic()
            # The new file stands beside the old one for a while; half of one would take the last room.
            used = int((await information(self._client, "memory")).get("used_memory", 0))
            if usage.free > used:
                await execute(self._client, "BGREWRITEAOF")

    def _note(self, *, failing: bool) -> None:
        if failing and not self._failing:
            self._say("Redis can't write to its disk: no values and no commands until there is room")
        elif self._failing and not failing:
            self._say("Redis can write to its disk again")
            # While it could not, no alarm could be raised either.
            self._reporter.happened(Trouble("persistence", detail="it could not for a while"))
        self._failing = failing

    def _put_aside(self, total: int, free: int) -> None:
        size = min(RESERVE_BYTES, int(total * RESERVE_SHARE))
        if free - size < total * ROOM_SHARE:
            return
        descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError:
            self._reserve.unlink()
            raise
        finally:
            os.close(descriptor)


def _grew(found: dict[str, str]) -> bool:
    current, base = int(found.get("aof_current_size", 0)), int(found.get("aof_base_size", 0))
    return found.get("aof_rewrite_in_progress") == "0" and current > GROWN * base + GROWN_BYTES
