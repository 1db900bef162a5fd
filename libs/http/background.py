"""Background work of a service: one group of tasks, cancelled and awaited at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

from aiohttp import web

from libs.tasks import cancel


class Background:
    """Tasks that live as long as the service; one that fails ends the service.

    A service that goes on without its loop would look healthy and do nothing,
    so a failure is handed to whoever runs the service, which exits; its
    supervisor starts it again.
    """

    def __init__(self) -> None:
        """Start without tasks; needs a running loop."""
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run a coroutine until it ends, or until the service does."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self.failure.done():
            return
        if (error := task.exception()) is not None:
            self.failure.set_result(error)

    async def stop(self) -> None:
        """Cancel all tasks and wait until each has ended."""
        # Again, for one that was started meanwhile.
        while self._tasks:
            await cancel(*self._tasks)


BACKGROUND: Final = web.AppKey("background", Background)


async def background_context(app: web.Application) -> AsyncIterator[None]:
    """Hold the service's background work while it runs."""
    app[BACKGROUND] = Background()
    yield
    await app[BACKGROUND].stop()
