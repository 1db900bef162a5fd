"""What is done to files by the thread of an event loop, as Python's audit events tell."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "shutil.rmtree", "subprocess.Popen"}
_watched: list[tuple[Path, list[str]]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watched and event in EVENTS and asyncio._get_running_loop() is not None:
        folder, found = _watched[-1]
        if str(args[0]).startswith(str(folder)):
            found.append(f"{event} {args[0]}")


@cache
def _install() -> None:
    """Install the hook once: it can't be taken away again."""
    sys.addaudithook(_hook)


@contextmanager
def files_on_the_loop(folder: Path) -> Iterator[list[str]]:
    """Note what the thread of a running loop does to files of a folder."""
    _install()
    _watched.append((folder, []))
    try:
        yield _watched[-1][1]
    finally:
        _watched.pop()
