"""How a service that lives on Redis starts: it waits for Redis, checks the library, applies its files."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from libs.config import Settings
from libs.config.desired import Entry
from libs.definitions import Change
from libs.errors import UnavailableError
from libs.http import BACKGROUND, Routes, service_app
from libs.http.configuration import Planned
from libs.http.health import Check
from libs.redis import library
from libs.redis.client import connect, execute
from libs.redis.definitions import FROM_FILE, Definitions, Names, Step, apply_desired, look
from libs.redis.functions import Functions
from libs.redis.reports import check_persistence

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0

Work = Callable[[], Coroutine[Any, Any, None]]


def functions_of(settings: Settings) -> Functions:
    """Return the gate to a service's Redis; nothing connects before the first call."""
    return Functions(connect(settings.redis_url), settings.namespace)


@dataclass
class Startup:
    """What a service needs before it is ready.

    It serves at once and is healthy once Redis answers, its library fits and
    the files are applied. A library that does not fit, or a file that Redis
    refuses, ends the service with the reason.
    """

    functions: Functions
    namespace: str
    kinds: Mapping[str, Names]
    """The kinds of definitions that the service's files hold, by section."""
    read: Callable[[], list[Entry]]
    """Reads what the files say; asked again when files are planned or applied."""
    reread: Callable[[], list[Entry]] | None = None
    """Asked instead of `read` then, where a part of it stands in the service's settings, which `read` has."""
    work: Mapping[str, Work] = field(default_factory=dict)
    """Background work that starts when the service is ready, by name."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    """What else must be well for the service to be healthy, by name."""
    problem: str = "starting"
    desired: list[Entry] = field(init=False)
    """What the files said at the start."""
    _definitions: dict[str, Definitions] = field(init=False)

    def __post_init__(self) -> None:
        """Read the files; raises ConfigurationError for every problem in them."""
        self._definitions = {section: Definitions(self.functions, names) for section, names in self.kinds.items()}
        self.desired = self.read()

    async def plan(self) -> Planned:
        """Return what the files would change now, and the calls that would do it."""
        steps = await self._look()
        calls = [call for step in steps if (call := step.trial(Change(FROM_FILE))) is not None]
        return Planned(_planned(steps), calls, [(kind.list, kind.upsert) for kind in self.kinds.values()])

    async def apply(self, author: str, reason: str | None) -> list[dict[str, Any]]:
        """Bring Redis in line with the files, and return what that changed."""
        steps = await self._look()
        await apply_desired(self.functions, steps, Change(f"{FROM_FILE}:{author}", reason))
        changes = _planned(steps)
        logger.info("files applied by %s (%s): %d changes", author, reason or "no reason", len(changes))
        return changes

    async def _look(self) -> list[Step]:
        return await look(self.functions, self._definitions, await asyncio.to_thread(self.reread or self.read))

    def app(self, settings: Settings, name: str, routes: Routes) -> web.Application:
        """Return the service's application."""
        checks = {"redis": self.check_redis, "functions": self.check_functions, "configuration": self.check_applied}
        app = service_app(settings, name, routes, checks={**checks, **self.checks}, configuration=self)
        app.cleanup_ctx.append(self._context)
        return app

    async def check_redis(self) -> None:
        """Ask Redis for an answer, and whether it can write."""
        await execute(self.functions.client, "PING")
        await check_persistence(self.functions.client)

    async def check_functions(self) -> str:
        """Return the digest of the library, when it fits."""
        return (await library.check(self.functions.client, self.namespace)).digest

    async def check_applied(self) -> None:
        """Say why the files are not applied yet."""
        if self.problem:
            raise UnavailableError(self.problem)

    async def _context(self, app: web.Application) -> AsyncIterator[None]:
        app[BACKGROUND].start(self._start(app), "start")
        yield
        await app[BACKGROUND].stop()
        await self.functions.client.aclose()

    async def _start(self, app: web.Application) -> None:
        pause_s = FIRST_PAUSE_S
        while not await self._ready():
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - jitter
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        for name, run in self.work.items():
            app[BACKGROUND].start(run(), name)

    async def _ready(self) -> bool:
        try:
            await self.check_functions()
            steps = await look(self.functions, self._definitions, self.desired, gone=False)
            changed = await apply_desired(self.functions, steps, Change(FROM_FILE))
        except UnavailableError as error:
            self.problem = f"waiting for Redis: {error}"
            logger.warning("%s", self.problem)
            return False
        self.problem = ""
        logger.info("ready: %d definitions in files, %d of them applied now", len(self.desired), changed)
        return True


def _planned(steps: list[Step]) -> list[dict[str, Any]]:
    return [change for step in steps if (change := step.difference()) is not None]
