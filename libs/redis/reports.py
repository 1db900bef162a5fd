"""What a service knows to be wrong with the system, said to Redis every few seconds: `alarm_system`.

Each report is the whole list, so what is said no more is over; a reporter that died leaves its
alarms uncertain. While Redis is away nothing is said: the services' health says that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from libs.errors import UnavailableError, VoltageError
from libs.redis.client import Client, execute
from libs.redis.functions import Functions

_LOG = logging.getLogger(__name__)
INTERVAL_S: Final = 2.0
MAX_DETAIL: Final = 300


class Trouble(NamedTuple):
    """Something that is wrong: a kind of redis_functions/core/system_alarms.lua, of what, and why."""

    alarm: str
    id: str = ""
    detail: str = ""

    def document(self) -> dict[str, str]:
        """Return it as `alarm_system` takes it."""
        found = {"alarm": self.alarm, "detail": self.detail.encode()[:MAX_DETAIL].decode(errors="ignore")}
        return found | ({"id": self.id} if self.id else {})


Look = Callable[[], Awaitable[Sequence[Trouble]]]


class Reporter:
    """Looks and reports until cancelled."""

    def __init__(self, functions: Functions, name: str, look: Look, *, interval_s: float = INTERVAL_S) -> None:
        """Keep what it works with; `look` returns all that is wrong now."""
        self._functions = functions
        self._name = name
        self._look = look
        self._interval_s = interval_s
        self._happened: list[Trouble] = []
        self._silent = False

    def happened(self, trouble: Trouble) -> None:
        """Report an event with the next report that Redis takes."""
        self._happened.append(trouble)

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            try:
                await self.report()
            except VoltageError as error:
                if not self._silent:
                    _LOG.info("system alarms can't be reported: %s", error)
                self._silent = True
            else:
                self._silent = False
            await asyncio.sleep(self._interval_s)

    async def report(self) -> None:
        """Report once.

        Raises:
            VoltageError: Redis did not take it; what happened is reported again.
        """
        wrong, happened = await self._look(), list(self._happened)
        document = {
            "reporter": self._name,
            "wrong": [trouble.document() for trouble in wrong],
            "happened": [trouble.document() for trouble in happened],
        }
        await self._functions.call("alarm_system", None, document)
        del self._happened[: len(happened)]


async def persistence(client: Client) -> dict[str, str]:
    """Return what Redis says about its files."""
    return await information(client, "persistence")


async def information(client: Client, section: str) -> dict[str, str]:
    """Return a section of what Redis says about itself."""
    found: Any = await execute(client, "INFO", section)
    if isinstance(found, dict):
        return {str(name): str(value) for name, value in found.items()}
    lines = found.decode(errors="replace").splitlines()
    return dict(line.partition(":")[::2] for line in lines if ":" in line)


async def check_persistence(client: Client) -> None:
    """Refuse a Redis that can't write its append-only file: it takes no values and no commands.

    Raises:
        UnavailableError: it can't, or it is away.
    """
    if (await persistence(client)).get("aof_last_write_status", "ok") != "ok":
        raise UnavailableError("Redis can't write to its disk and takes nothing; make room: voltage doctor")
