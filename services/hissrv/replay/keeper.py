"""Takes the replay log out of Redis into hourly files, with a checkpoint each hour.

An entry leaves Redis once it is on disk. The files know how far they go, so a keeper that was killed
goes on where they end; what it wrote twice at most is one frame, and that is noticed by its ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

from libs.errors import UnavailableError, VoltageError
from libs.redis import keys
from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.reports import information
from services.hissrv.replay import files, snapshot
from services.hissrv.replay.entries import Entry, StreamId, of_fields
from services.hissrv.troubles import used_percent

_LOG = logging.getLogger(__name__)
LOOK_S: Final = 1.0
# A frame is written when so much waits, or after so long.
FRAME_BYTES: Final = 1 << 19
FRAME_S: Final = 5.0
READ: Final = 200
KEEP_S: Final = 60.0
HOUR_MS: Final = 3_600_000
# A checkpoint that failed is tried again after so long.
AGAIN_S: Final = 60.0
# Redis forgets two seconds when it crashes; what is further back was something else.
FORGETS_MS: Final = 60_000
# The log may take this share of the memory Redis has, and at most so much.
SHARE: Final = 0.1
MOST_BYTES: Final = 64 << 20


class Options(NamedTuple):
    """What is kept."""

    days: float = 7
    most_bytes: int = 4 << 30
    checkpoint_ms: int = HOUR_MS
    # A fuller disk takes no more of it, before it stops history and control.
    max_disk_percent: float = 90


class Keeper:
    """Keeps the log while it runs."""

    def __init__(self, functions: Functions, redis_url: str, folder: Path, options: Options) -> None:
        """Keep what it works with."""
        self._functions = functions
        self._url = redis_url
        self._folder = folder
        self._options = options
        self._stream = functions.key(keys.key("replay"))
        self._writer: files.Writer | None = None
        self._last = StreamId(0, 0)
        self._recent: deque[tuple[int, int]] = deque()
        self._image: int | None = None
        self._at_ms = 0
        self._digest = ""
        # Calls that went because the log was full, ever.
        self.dropped = 0
        self._kept_s = self._written_s = self._tried_s = float("-inf")
        self._checkpoint_ms: int | None = None
        self._turn = asyncio.Lock()
        self.problem: str | None = None
        self.entries = 0

    async def run(self) -> None:
        """Keep the log until cancelled; without days to keep, say that nobody does, and end."""
        while True:
            try:
                if self._options.days <= 0:
                    await self._functions.call("replay_keep", None, {"bytes": 0})
                    return
                await self.turn()
                self.problem = None
            except (VoltageError, OSError) as error:
                if self.problem is None:
                    _LOG.warning("the replay log waits: %s", error)
                self.problem = str(error)
            await asyncio.sleep(LOOK_S)

    async def turn(self, *, now: bool = False) -> None:
        """Write what waits where it is time to, or `now`."""
        async with self._turn:
            await self._begin()
            clock = asyncio.get_running_loop().time()
            size = await execute(self._functions.client, "HGET", self._functions.key(keys.key("replay_size")), "bytes")
            if now or int(size or 0) >= FRAME_BYTES or clock - self._written_s >= FRAME_S:
                self._written_s = clock
                if (percent := await asyncio.to_thread(used_percent, self._folder)) >= self._options.max_disk_percent:
                    raise UnavailableError(f"the disk of {self._folder} is {percent:.0f} % full")
                while await self._write():
                    pass
                if self._checkpoint_due() and clock - self._tried_s >= AGAIN_S:
                    self._tried_s = clock
                    await self.checkpoint()

    async def _begin(self) -> None:
        clock = asyncio.get_running_loop().time()
        if self._writer is None:
            self._writer = await asyncio.to_thread(files.Writer, self._folder)
            await asyncio.to_thread(self._go_on, self._writer.last)
            known = await asyncio.to_thread(files.checkpoints, self._folder)
            # Without a frame nobody knows what followed a checkpoint.
            self._checkpoint_ms = known[-1].at_ms if known and self._writer.last else None
        if clock - self._kept_s >= KEEP_S:
            reply = await self._functions.json("replay_keep", None, {"bytes": await self._cap()})
            self._kept_s = clock
            if reply["began"] and self._last != StreamId(0, 0):
                await self._gap(self._last, self._at_ms, "nobody kept the log")

    def _go_on(self, frame: files.Frame | None) -> None:
        """Know what the files end with."""
        if frame is None:
            return
        self._last, self._at_ms = frame.last, frame.last_ms
        for entry in (files.entries(frame) or []) if frame.kind == files.ENTRIES else []:
            self._digest = entry.digest
            if entry.after is not None:
                self._image = entry.after
                self._recent.append((entry.after, entry.at_ms))

    async def _cap(self) -> int:
        most = int((await information(self._functions.client, "memory")).get("maxmemory", 0))
        return min(MOST_BYTES, int(most * SHARE)) if most else MOST_BYTES

    async def _write(self) -> bool:
        """Write the next entries; False when none wait."""
        assert self._writer is not None  # noqa: S101 - _begin came first
        reply = await execute(self._functions.client, "XRANGE", self._stream, f"({self._last}", "+", "COUNT", READ)
        if not reply:
            return False
        found, bytes_ = [], 0
        for entry_id, fields in reply:
            entry, size = of_fields(entry_id, fields)
            found.append(entry)
            bytes_ += size
        await self._write_in_order(found)
        self._last, self._at_ms = found[-1].id, found[-1].at_ms
        self.entries += len(found)
        kept = await self._functions.json("replay_kept", None, {"id": str(self._last), "bytes": bytes_})
        if int(kept["dropped"]) != self.dropped:
            self.dropped = int(kept["dropped"])
            if self.dropped:
                _LOG.warning("the replay log was full: %d calls are not in it", self.dropped)
        return len(reply) == READ

    async def _write_in_order(self, found: list[Entry]) -> None:
        """Write entries, with a mark where they do not follow one another."""
        assert self._writer is not None  # noqa: S101 - _begin came first
        start = 0
        for number, entry in enumerate(found):
            if self._digest and entry.digest != self._digest:
                self._checkpoint_ms = None
            self._digest = entry.digest
            if entry.before is None:
                continue
            if self._image is not None and entry.before != self._image:
                if number > start:
                    await asyncio.to_thread(self._writer.append, found[start:number])
                    start = number
                await self._broke_off(found[number - 1] if number else None, entry)
            self._image = entry.after
            self._recent.append((entry.after or 0, entry.at_ms))
            while self._recent and self._recent[0][1] < entry.at_ms - FORGETS_MS:
                self._recent.popleft()
        await asyncio.to_thread(self._writer.append, found[start:])

    async def _broke_off(self, before: Entry | None, entry: Entry) -> None:
        last = before.id if before else self._last
        last_ms = before.at_ms if before else self._at_ms
        first = self._recent[0][0] if self._recent else None
        if first is not None and self._image is not None and first <= (entry.before or 0) < self._image:
            await self._back(last, entry)
            return
        await self._gap(last, last_ms, "calls are missing", entry.at_ms)
        self._recent.clear()

    async def _back(self, last: StreamId, entry: Entry) -> None:
        """Redis came back without its last calls."""
        assert self._writer is not None and entry.before is not None  # noqa: S101, PT018 - as above
        since = next(at for image, at in reversed(self._recent) if image <= entry.before)
        mark = files.Mark("back", last, since, entry.at_ms, entry.before, "Redis came back without its last calls")
        await asyncio.to_thread(self._writer.mark, mark)
        # A checkpoint from in between holds what Redis forgot.
        await asyncio.to_thread(files.forget_from, self._folder, since)
        self._checkpoint_ms = None
        while self._recent and self._recent[-1][0] > entry.before:
            self._recent.pop()

    async def _gap(self, last: StreamId, from_ms: int, why: str, until_ms: int | None = None) -> None:
        assert self._writer is not None  # noqa: S101 - _begin came first
        mark = files.Mark("gap", last, from_ms, until_ms or from_ms, 0, why)
        await asyncio.to_thread(self._writer.mark, mark)
        self._image = None
        self._checkpoint_ms = None

    def _checkpoint_due(self) -> bool:
        last = self._checkpoint_ms
        return last is None or self._at_ms - last >= self._options.checkpoint_ms or self._at_ms < last

    async def checkpoint(self) -> Path:
        """Take a checkpoint, and let go of what is too old.

        Raises:
            UnavailableError: Redis gives none.
        """
        part = self._folder / "taken.new"
        await asyncio.to_thread(snapshot.take, self._url, part)
        last = await execute(self._functions.client, "HGET", self._functions.key(keys.key("clock")), "last")
        if last is None:
            await asyncio.to_thread(part.unlink)
            raise UnavailableError("nothing was called yet")
        at_ms = int(last)
        path = files.checkpoint_file(self._folder, at_ms)
        await asyncio.to_thread(files.put, part, path)
        self._checkpoint_ms = at_ms
        gone = await asyncio.to_thread(files.retain, self._folder, self._options.days, self._options.most_bytes)
        size = (await asyncio.to_thread(path.stat)).st_size
        _LOG.info("checkpoint %s: %d bytes; %d old files went", path.name, size, len(gone))
        return path
