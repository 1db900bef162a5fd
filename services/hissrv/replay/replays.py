"""Replays and backtests as jobs: each in a process of its own, which is killed when the job is cancelled.

hissrv itself goes on taking history; what a replay costs is another process' time, below everybody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import orjson

from libs import clock
from libs.errors import NotFoundError, UnavailableError, error_of
from libs.processes.launch import tied
from libs.redis import keys
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.reports import information
from libs.redis.server import find_binary, version_of
from services.hissrv.replay import files, snapshot
from services.hissrv.replay.history import History
from services.hissrv.replay.past import Recorded
from services.hissrv.replay.run import reaches
from services.hissrv.replay.span import WARM_UP_MS
from services.hissrv.replay.work import Request

DAY_S: Final = 86_400
# A line of progress or of a result.
LINE: Final = 1 << 20
LOOK_S: Final = 0.5
REPORTS: Final = "reports"

Told = Callable[[float, str], Awaitable[None]]


class Replays:
    """Runs them, and keeps their reports for a week."""

    def __init__(
        self,
        functions: Functions,
        redis_url: str,
        history: History,
        folder: Path,
        namespace: str,
        *,
        memory_bytes: int,
        server: Path | None,
    ) -> None:
        """Keep what they need; `server` is the Redis to start, where one is set."""
        self._redis_url = redis_url
        self._history = history
        self._namespace = namespace
        self._functions = functions
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._server = server

    async def perform(self, body: dict[str, Any], progress: Told) -> dict[str, Any]:
        """Replay a span of time, with a definition changed where there is one; a job of hissrv.

        Where the log does not go back that far, it is made from history.
        """
        stage = await asyncio.to_thread(self._stage)
        try:
            found = None
            if not await asyncio.to_thread(reaches, self._folder, body["start"]):
                body = body | {"end": min(body["end"], clock.now_ms())}
                found = await self._recorded(body, stage, progress)
            return await self._run(body, found, progress)
        finally:
            await asyncio.to_thread(shutil.rmtree, stage, ignore_errors=True)

    async def _recorded(self, body: dict[str, Any], stage: Path, progress: Told) -> Recorded:
        samples, snapshot_file = stage / "samples.parquet", stage / f"now{files.CHECKPOINT}"
        from_ms = body["start"] - WARM_UP_MS
        reasons = await self._history.gather(body.get("definition"), from_ms, body["end"] + 1, samples, progress)
        await asyncio.to_thread(snapshot.take, self._redis_url, snapshot_file)
        return Recorded(samples=samples, snapshot=snapshot_file, reasons=reasons)

    async def _run(self, body: dict[str, Any], found: Recorded | None, progress: Told) -> dict[str, Any]:
        request = Request(
            folder=self._folder,
            server=await self._binary(),
            namespace=self._namespace,
            start=body["start"],
            end=body["end"],
            memory_bytes=self._memory_bytes,
            report=self._report(body["job"]),
            of=body.get("of"),
            definition=body.get("definition"),
            history=found,
        )
        return {**await _run(request, progress), "report": f"/api/replays/{body['job']}"}

    async def report(self, job: str) -> Path:
        """Return the file of a report.

        Raises:
            NotFoundError: there is none.
        """
        path = self._report(job)
        if not await asyncio.to_thread(path.is_file):
            raise NotFoundError(f"report of job {job}")
        return path

    def _report(self, job: str) -> Path:
        return self._folder / REPORTS / f"{job}.json"

    def _stage(self) -> Path:
        """Remove what is old, and make a folder for one run."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a crash left; one job of hissrv runs at a time.
        for left in self._folder.glob(".history-*"):
            shutil.rmtree(left, ignore_errors=True)
        old_s = time.time() - 7 * DAY_S
        for path in (self._folder / REPORTS).glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < old_s:
                    path.unlink()
        return Path(tempfile.mkdtemp(prefix=".history-", dir=self._folder))

    async def _binary(self) -> Path:
        """Return the server to start: the one set, else the site's own, which can read its own files."""
        if self._server is not None:
            return (await asyncio.to_thread(find_binary, self._server)).path
        facts = await information(self._functions.client, "server")
        own = Path(str(facts.get("executable", "")))
        version = str(facts.get("valkey_version") or facts.get("redis_version"))
        if own.is_absolute() and await asyncio.to_thread(version_of, own) == version:
            return own
        return (await asyncio.to_thread(find_binary)).path

    async def log(self) -> dict[str, Any]:
        """Return what there is to replay, what waits in Redis, and what went because that was full."""
        size = self._functions.key(keys.key("replay_size"))
        waiting, dropped = await execute(self._functions.client, "HMGET", size, "bytes", "dropped")
        found = await asyncio.to_thread(self._log)
        return found | {"waiting_bytes": int(waiting or 0), "dropped": int(dropped or 0)}

    def _log(self) -> dict[str, Any]:
        paths = files.logs(self._folder)
        found = [frame for path in paths for frame in files.frames(path)]
        checkpoints = files.checkpoints(self._folder)
        entries = [frame for frame in found if frame.kind == files.ENTRIES]
        marks = [mark for frame in found if frame.kind == files.MARK and (mark := files.mark_of(frame))]
        from_ms = checkpoints[0].at_ms if checkpoints else None
        return {
            "from_ms": from_ms,
            "until_ms": max((frame.last_ms for frame in entries), default=None),
            "calls": sum(frame.entries for frame in entries),
            "bytes": sum(path.stat().st_size for path in [*paths, *(one.path for one in checkpoints)]),
            "checkpoints": [one.at_ms for one in checkpoints],
            "gaps": [
                {"from_ms": one.from_ms, "until_ms": one.until_ms, "why": one.why} for one in marks if one.kind == "gap"
            ],
        }


async def _run(request: Request, progress: Told) -> dict[str, Any]:
    command = ["nice", "-n", "10", sys.executable, "-m", "services.hissrv.replay"]
    process = await asyncio.create_subprocess_exec(
        *tied(command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes were asked for
    try:
        process.stdin.write(request.model_dump_json().encode())
        process.stdin.close()
        said: dict[str, Any] = {"done": 0.0, "message": "starting"}
        while not {"result", "error"} & said.keys():
            await progress(said["done"], said["message"])
            try:
                line = await asyncio.wait_for(process.stdout.readline(), LOOK_S)
            except TimeoutError:
                continue
            if not line:
                raise UnavailableError(f"the replay ended with {await process.wait()} and said nothing")
            said = orjson.loads(line)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()
    if "error" in said:
        raise error_of(said["code"], said["error"])
    result: dict[str, Any] = said["result"]
    return result
