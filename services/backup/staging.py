"""Restored beside, then renamed: a restore that fails, or is killed, leaves nothing of itself in use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.errors import StateError, UnavailableError
from libs.redis.private import started
from libs.redis.server import Binary


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
    """Run a server of our own over a staged folder; give its address.

    What it holds at the end is on disk when this returns.
    """
    folder.mkdir(mode=0o700, parents=True)
    options = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory", maxmemory]
    with started("the restored Redis", binary, folder, *options) as running:
        yield running.url
        running.stop()


def refuse_full(folder: Path, remedy: str) -> None:
    """Refuse a folder that has something in it.

    Raises:
        StateError: which, and what to do.
    """
    if not is_empty(folder):
        raise StateError(f"{folder} is not empty; a restore replaces nothing: {remedy}")
