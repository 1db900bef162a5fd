"""Pulses that were begun and not ended, on disk: after a crash they are switched off before anything else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from libs.errors import UnavailableError


class Pulses:
    """A file of `channel point` lines, written through to the disk at each change, by any thread."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier process left switched on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Channels share the file, and each writes on a thread.
        self._lock = threading.Lock()
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        self._open = {line for line in lines if len(line.split()) == 2}

    def of(self, channel: int) -> list[str]:
        """Return the points ("C:1") of a channel that are switched on."""
        return sorted(line.split()[1] for line in self._open if line.split()[0] == str(channel))

    def begin(self, channel: int, point: str) -> None:
        """Note a pulse before it is sent.

        Raises:
            UnavailableError: the disk does not take it, so the pulse must not begin.
        """
        with self._lock:
            self._write(self._open | {f"{channel} {point}"})

    def end(self, channel: int, point: str) -> None:
        """Note that a point is switched off; a disk that does not take it costs one more switching off."""
        with self._lock:
            lines = self._open - {f"{channel} {point}"}
            try:
                self._write(lines)
            except UnavailableError:
                self._open = lines

    def _write(self, lines: set[str]) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in sorted(lines))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise UnavailableError(f"{self._path} can't be written: {error.strerror}") from error
        self._open = lines
