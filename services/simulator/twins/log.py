"""What the devices held, saw and did wrong: one JSON document a line, in a file that stays bounded.

A checker compares it with what was stored. `t` is the instant in Unix milliseconds, `e` the event:

    step     {d, n, image}                          a device's memory from now on, in hexadecimal
    request  {d, c, code, address, count, fault}    a request on connection c; fault is 0 when answered well
    write    {d, address, count, data, applied, image}
    connect, closed  {d, c}                         d is the endpoint
    fault    {d, unit, n, kind, from, until, hits}  once it is over: how many answers it spoiled
    cut      {lines}                                so many older lines went to keep the file in bounds
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from libs.clock import now_ms

DEFAULT_MAX_BYTES: Final = 256 * 2**20


class Log:
    """A file and the one before it; together at most `max_bytes`. Without a path it keeps nothing."""

    def __init__(self, path: Path | None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Open it; an older one of the same name goes."""
        self.path = path
        self._half = max_bytes // 2
        self._written = 0
        self._lines = self._older_lines = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.older.unlink(missing_ok=True)
        self._file = None if path is None else path.open("wb", buffering=1 << 16)

    @property
    def older(self) -> Path:
        """Where the first half is, once the file was full."""
        path = self.path or Path()
        return path.with_name(path.name + ".1")

    @property
    def wanted(self) -> bool:
        """False when nobody reads it, so that nothing need be made for it."""
        return self._file is not None

    def write(self, event: str, device: str, **fields: Any) -> None:
        """Add a line with the present instant."""
        if self._file is None:
            return
        line = orjson.dumps({"t": now_ms(), "e": event, "d": device, **fields}, option=orjson.OPT_APPEND_NEWLINE)
        if self._written + len(line) > self._half:
            self._turn()
        self._file.write(line)
        self._written += len(line)
        self._lines += 1

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._file is not None:
            self._file.flush()

    def _turn(self) -> None:
        if self.path is None or self._file is None:
            return
        self._file.close()
        self.path.replace(self.older)
        cut, self._older_lines = self._older_lines, self._lines
        self._written = self._lines = 0
        self._file = self.path.open("wb", buffering=1 << 16)
        if cut:
            self.write("cut", "", lines=cut)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()
            self._file = None
