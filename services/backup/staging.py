"""Restored beside, then renamed: a restore that fails, or is killed, leaves nothing of itself in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libs.errors import StateError, UnavailableError, VoltageError
from libs.redis.resp import Connection
from libs.redis.server import Binary

START_S: Final = 30.0
STOP_S: Final = 60.0


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """Give a private folder on the file system of a folder that is not there or empty.

    It is beside it where that can be, else inside: a mount point can't be replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    inside = target.is_mount() or not os.access(target.parent, os.W_OK)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.restore-", dir=target if inside else target.parent))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def is_empty(folder: Path) -> bool:
    """Say whether a folder is not there or has nothing in it."""
    return not folder.exists() or not any(folder.iterdir())


def apply(staged: Path, target: Path) -> None:
    """Put a staged folder in the place of an empty one, in one step where the file system allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target not in staged.parents:
            # A rename takes the place of an empty folder, and of nothing else.
            staged.rename(target)
            return
        for path in sorted(staged.iterdir()):
            path.rename(target / path.name)
    except OSError as error:
        raise UnavailableError(f"{target} can't be put in place: {error.strerror or error}") from None


def same_files(one: Path, other: Path) -> bool:
    """Say whether two folders hold the same files with the same content."""
    names = _names(one)
    return names == _names(other) and all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def _names(folder: Path) -> set[Path]:
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip


@contextmanager
def private_redis(binary: Binary, folder: Path, maxmemory: str) -> Iterator[str]:
    """Run a server of our own over a staged folder, on a socket nobody else finds; give its address.

    What it holds at the end is on disk when this returns.
    """
    folder.mkdir(mode=0o700, parents=True)
    with tempfile.TemporaryDirectory(prefix="voltage-") as place:
        # The path of a socket is at most 107 bytes, that of a data directory may be longer.
        address = f"unix://{place}/redis.sock"
        command = [
            str(binary.path), "--port", "0", "--unixsocket", f"{place}/redis.sock", "--dir", str(folder),
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory", maxmemory,
            "--maxmemory-policy", "noeviction", "--hash-max-listpack-entries", "32", "--daemonize", "no",
        ]  # fmt: skip
        log = Path(place) / "redis.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _wait(address, process, log)
            yield address
            process.terminate()
            if process.wait(STOP_S) != 0:
                raise UnavailableError(f"the restored Redis does not stop cleanly:\n{_end(log)}")
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"the restored Redis does not stop in {STOP_S:g} s:\n{_end(log)}") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            with Connection(address) as connection:
                connection.call("PING")
                return
        except VoltageError:
            if process.poll() is not None or time.monotonic() > end:
                raise UnavailableError(f"Redis does not start over the restored folder:\n{_end(log)}") from None
            time.sleep(0.02)


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-8:])


def refuse_full(folder: Path, remedy: str) -> None:
    """Refuse a folder that has something in it.

    Raises:
        StateError: which, and what to do.
    """
    if not is_empty(folder):
        raise StateError(f"{folder} is not empty; a restore replaces nothing: {remedy}")
