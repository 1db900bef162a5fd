"""One child process: started, stopped, its output kept in a bounded log file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from libs.processes.launch import tied
from services.supervisor.loglines import readable, reason_of

LOG_BYTES: Final = 5_000_000


class Child:
    """A process that dies with us. Its output goes straight to its log file."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], logs_dir: Path) -> None:
        """Describe it; nothing runs yet."""
        self.name = name
        self.log = logs_dir / f"{name}.log"
        self._command = command
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        # Where in its log its last start begins.
        self._began = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C is ours to pass on."""
        self.rotate()
        with self.log.open("ab") as log:
            self._began = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *tied(self._command),
                env=self._environ, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    async def wait(self) -> int:
        """Wait for its end; return its exit code, negative for a signal."""
        assert self._process is not None, f"{self.name} was not started"  # noqa: S101 - a caller's mistake
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self, grace_s: float) -> None:
        """End it: a request first, force after the grace."""
        if self.pid is None:
            return
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace_s)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.wait()

    def rotate(self) -> None:
        """Keep the log under its bound, and the part before it as one older file.

        The child holds the file open for appending, so it is copied and cut, not renamed.
        """
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)
            self._began = 0

    def last_lines(self, count: int = 8) -> list[str]:
        """Return the end of its log."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
            return [readable(line) for line in lines]
        return []

    def complaint(self) -> str:
        """Return why it ended, as it said it itself since its last start; without that the end of what it said."""
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as file:
            file.seek(max(self._began, self.log.stat().st_size - 65536))
            lines = file.read().decode(errors="replace").splitlines()
            said = [found for line in lines if (found := reason_of(line))]
            return "\n".join(said or [readable(line) for line in lines[-8:]])
        return ""
