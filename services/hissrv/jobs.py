"""Jobs of hissrv: exports, imports, copies, replays; one at a time, and claimed again when their process dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from libs import clock
from libs.errors import ConflictError, NotFoundError, StateError, UnavailableError, VoltageError
from libs.redis import jobs
from libs.redis.functions import Functions
from libs.redis.jobs import QUEUE

_LOG = logging.getLogger(__name__)
LEASE_MS: Final = 60_000
POLL_S: Final = 1.0
TELL_MS: Final = 1000
_TEXT: Final = 4000


class Cancelled(Exception):  # noqa: N818 - somebody wants it so
    """The job was cancelled, or another process has it."""


class Progress:
    """Tells how far a job is, at most once a second, and keeps its lease; ends it when it was cancelled."""

    def __init__(self, functions: Functions, job: str, fence: int) -> None:
        self._functions = functions
        self._job = job
        self._fence = fence
        self._told_ms = clock.monotonic_ms()

    async def __call__(self, done: float, message: str = "") -> None:
        """Say that a part from 0 to 1 is done.

        Raises:
            Cancelled: the job is somebody else's, or nobody's any more.
        """
        now = clock.monotonic_ms()
        if now - self._told_ms < TELL_MS:
            return
        self._told_ms = now
        document = {"fence": self._fence, "progress": max(0.0, min(1.0, done)), "message": message or None}
        try:
            await self._functions.call("job_progress", self._job, document)
        except (StateError, ConflictError, NotFoundError) as error:
            raise Cancelled(str(error)) from None


Work = Callable[[dict[str, Any], Progress], Awaitable[dict[str, Any]]]


async def _nothing(_: dict[str, Any]) -> None:
    """Leave what a job was made from where it is."""


class Jobs:
    """Submits, lists, cancels and works off the jobs of the queue `history`."""

    def __init__(
        self,
        functions: Functions,
        owner: str,
        kinds: Mapping[str, Work],
        over: Callable[[dict[str, Any]], Awaitable[None]] = _nothing,
    ) -> None:
        """Keep what each kind of job does; `over` gets the input of one that will not come again."""
        self._over = over
        self._functions = functions
        self._owner = owner
        self._kinds = kinds

    async def submit(self, kind: str, body: dict[str, Any]) -> bytes:
        """Queue a job; the same one that is not finished yet is returned instead."""
        return await jobs.submit(self._functions, kind, body)

    async def page(self, limit: int, cursor: str | None) -> bytes:
        """Return jobs, newest first."""
        number = int(cursor) if cursor and cursor.isdecimal() else None
        return await self._functions.read("job_list", QUEUE, {"limit": limit, "cursor": number})

    async def get(self, job: str) -> bytes:
        """Return a job."""
        return await self._functions.read("job_get", job)

    async def cancel(self, job: str, by: str) -> bytes:
        """Cancel a job; returns it."""
        cancelled = await self._functions.call("job_cancel", job, {"by": by})
        await self._over(orjson.loads(await self.get(job))["input"])
        return cancelled

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                job = await self._functions.json("job_claim", QUEUE, {"owner": self._owner, "lease_ms": LEASE_MS})
                if job is not None:
                    await self._work(job)
                    continue
            except VoltageError as error:
                _LOG.warning("jobs wait: %s", error)
            await asyncio.sleep(POLL_S)

    async def _work(self, job: dict[str, Any]) -> None:
        name, fence = job["id"], job["fence"]
        work = self._kinds.get(job["kind"])
        try:
            if work is None:
                raise StateError(f"this hissrv has no jobs of kind {job['kind']}")
            result = await work(job["input"] | {"job": name}, Progress(self._functions, name, fence))
            await self._functions.call("job_complete", name, {"fence": fence}, orjson.dumps(result))
            await self._over(job["input"])
        except Cancelled as error:
            _LOG.info("job %s: %s", name, error)
        except (VoltageError, OSError) as error:
            _LOG.warning("job %s: %s", name, error)
            # What is away may come back; what is wrong stays wrong.
            document = {"fence": fence, "error": str(error)[:_TEXT], "retry": isinstance(error, UnavailableError)}
            try:
                await self._functions.call("job_fail", name, document)
                if not document["retry"]:
                    await self._over(job["input"])
            except (StateError, ConflictError, NotFoundError) as gone:
                _LOG.info("job %s: %s", name, gone)
