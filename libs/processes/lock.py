"""One `voltage up` a data directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.errors import ConflictError


@contextmanager
def site_lock(data_dir: Path) -> Iterator[None]:
    """Hold the lock of a data directory; the kernel frees it when we die.

    Raises:
        ConflictError: another process holds it; the message names it.
    """
    with (data_dir / "voltage.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConflictError(
                f"voltage up runs already with {data_dir} (process {file.read().strip() or 'unknown'}); "
                "stop it, or set VOLTAGE_DATA_DIR and VOLTAGE_PORT_BASE for another site"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(data_dir: Path) -> int | None:
    """Return the process that runs `voltage up` with a data directory, if one does."""
    try:
        with (data_dir / "voltage.lock").open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0)
    except FileNotFoundError:
        pass
    return None
