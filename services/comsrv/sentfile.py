"""The ids of the commands that were sent, on disk before their bytes leave.

A command whose id stands here is never sent again, whatever Redis says after a crash or
a power cut of either side.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, TextIO

from libs.clock import now_ms

# No command lives longer than 10 minutes; ids of two days are more than enough.
KEPT_MS: Final = 2 * 24 * 3_600_000
# Lines after which a file that is mostly old ids is written anew.
LONGEST: Final = 10_000


class SentFile:
    """An append-only file of `instant id` lines, written through to the disk."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier process sent, and leave out what is too old to matter."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Id -> instant, oldest first.
        self._ids: dict[str, int] = {}
        self._file: TextIO | None = None
        self._lines = 0
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            instant, _, command_id = line.partition(" ")
            # A line that a power cut left half written has no id.
            if instant.isdecimal() and command_id:
                self._ids[command_id] = int(instant)
        self._rewrite()
        self._lock = asyncio.Lock()

    def __contains__(self, command_id: str) -> bool:
        """Say whether the command was sent."""
        return command_id in self._ids

    async def add(self, command_id: str) -> None:
        """Put an id on the disk; its command may leave when this returns."""
        async with self._lock:
            self._ids[command_id] = now_ms()
            await asyncio.to_thread(self._write, command_id)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, command_id: str) -> None:
        if self._file is None or (self._lines > LONGEST and self._lines > 2 * len(self._ids)):
            self._rewrite()
            return
        self._file.write(f"{self._ids[command_id]} {command_id}\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._lines += 1
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
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(f"{at_ms} {command_id}\n" for command_id, at_ms in self._ids.items())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        _sync_folder(self._path.parent)
        self.close()
        self._file = self._path.open("a", encoding="utf-8")
        self._lines = len(self._ids)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries through to the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
