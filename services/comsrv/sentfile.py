"""The ids of the commands that were sent, on disk before their bytes leave.

A command whose id stands here is never sent again, whatever Redis says after a crash or
a power cut of either side. The file has its room from the start, so that commands go on
when the disk is full.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from libs.clock import now_ms
from libs.errors import UnavailableError

log = logging.getLogger(__name__)

# No command lives longer than 10 minutes. Each id takes some 200 bytes of memory, and there may be hundreds a second.
KEPT_MS: Final = 3_600_000
# What a file takes before it is written anew without the old ids: some 20,000 of them.
ROOM_BYTES: Final = 1 << 20
_EMPTY: Final = b"\0"


class SentFile:
    """A file of `instant id` lines, written through to the disk; behind them zeros hold its room."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier process sent, and leave out what is too old to matter."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Id -> instant, oldest first.
        self._ids: dict[str, int] = {}
        self._file = -1
        self._end = self._size = 0
        written = path.read_bytes().partition(_EMPTY)[0] if path.exists() else b""
        for line in written.decode(errors="replace").splitlines():
            instant, _, command_id = line.partition(" ")
            # A line that a power cut left half written has no id.
            if instant.isdecimal() and command_id:
                self._ids[command_id] = int(instant)
        self._start(written.rfind(b"\n") + 1)
        self._lock = asyncio.Lock()

    def __contains__(self, command_id: str) -> bool:
        """Say whether the command was sent."""
        return command_id in self._ids

    async def add(self, *command_ids: str) -> None:
        """Put ids on the disk; their commands may leave when this returns.

        Raises:
            UnavailableError: the disk does not take it, so the command must not leave.
        """
        async with self._lock:
            try:
                await asyncio.to_thread(self._write, command_ids, now_ms())
            except OSError as error:
                raise UnavailableError(f"{self._path} can't be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _start(self, written: int) -> None:
        """Write the file anew; on a full disk go on with the room that the old one has."""
        try:
            self._rewrite()
        except OSError as error:
            log.warning("%s can't be written anew: %s", self._path, error)
            if self._path.exists():
                self._take(written)

    def _take(self, end: int) -> None:
        self.close()
        self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._end, self._size = end, os.fstat(self._file).st_size

    def _write(self, command_ids: tuple[str, ...], at_ms: int) -> None:
        lines = "".join(f"{at_ms} {command_id}\n" for command_id in command_ids).encode()
        if self._file < 0 or self._end + len(lines) > self._size:
            self._rewrite()
        os.pwrite(self._file, lines, self._end)
        os.fsync(self._file)
        self._end += len(lines)
        self._ids |= dict.fromkeys(command_ids, at_ms)
        self._forget_old()

    def _forget_old(self) -> None:
        oldest = now_ms() - KEPT_MS
        while self._ids:
            command_id = next(iter(self._ids))
            if self._ids[command_id] >= oldest:
                return
            del self._ids[command_id]

    def _rewrite(self) -> None:
        """Write the file anew with what still matters; a power cut leaves the old one or the new one."""
        self._forget_old()
        lines = "".join(f"{at_ms} {command_id}\n" for command_id, at_ms in self._ids.items()).encode()
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(ROOM_BYTES, 2 * len(lines)))
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(self._path)
        _sync_folder(self._path.parent)
        self._take(len(lines))


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries through to the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
