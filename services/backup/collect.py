"""What belongs to a site besides Redis: history, users, keys, what waits for networks, configuration."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from libs.errors import UnavailableError
from services.backup.archive import Source

HISTORY_DATABASE: Final = "open.sqlite"
ATTEMPTS: Final = 5
# Redis is copied through its connection; logs, locks and what a process holds while it lives stay behind.
LEFT_BEHIND: Final = frozenset({"redis", "logs", "voltage.lock"})
LEFT_SUFFIXES: Final = (".owner", "-wal", "-shm", ".lock", ".new", ".tmp")


def history(folder: Path, staging: Path) -> list[Source]:
    """Copy the history store while hissrv writes it: the database by its backup call, Parquet by hard links.

    The database names the files. Where a compaction took one of them away
    between the copy and the link, both are done again.
    """
    database = folder / HISTORY_DATABASE
    if not database.exists():
        return []
    for attempt in range(ATTEMPTS):
        target = staging / f"history-{attempt}"
        (target / "parquet").mkdir(parents=True)
        copy = target / HISTORY_DATABASE
        copy_database(database, copy)
        with closing(sqlite3.connect(copy)) as db:
            names = [str(name) for (name,) in db.execute("SELECT name FROM files ORDER BY name")]
        try:
            for name in names:
                _link(folder / "parquet" / name, target / "parquet" / name)
        except FileNotFoundError:
            continue
        files = [Source(f"history/parquet/{name}", target / "parquet" / name) for name in names]
        return [Source(f"history/{HISTORY_DATABASE}", copy), *files]
    raise UnavailableError(f"{ATTEMPTS} times a history file was merged while it was copied; try again")


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, target)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database that others write, as of one instant, by SQLite's online backup."""
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as db:
            target.touch(mode=0o600)
            with closing(sqlite3.connect(target)) as copy:
                db.backup(copy)
                # One file is the whole copy.
                copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise UnavailableError(f"{source} can't be copied: {error}") from None


def data(data_dir: Path, staging: Path, *, without: list[Path]) -> list[Source]:
    """Copy what the services keep in the data directory: databases as of one instant, other files as they are."""
    sources = []
    for path in _files(data_dir, without):
        name = path.relative_to(data_dir)
        if name.parts[0] in LEFT_BEHIND or path.name.startswith(".") or path.name.endswith(LEFT_SUFFIXES):
            continue
        target = staging / "data" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            is_database = file.read(16) == b"SQLite format 3\0"
        if is_database:
            copy_database(path, target)
        else:
            shutil.copyfile(path, target)
        sources.append(Source(f"data/{name.as_posix()}", target))
    return sources


def configuration(folder: Path, staging: Path, *, without: list[Path]) -> list[Source]:
    """Copy the configuration directory."""
    sources = []
    for path in _files(folder, without):
        name = path.relative_to(folder)
        target = staging / "config" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        sources.append(Source(f"config/{name.as_posix()}", target))
    return sources


def _files(folder: Path, without: list[Path]) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(one for one in folders if here / one not in without and one != "__pycache__")
        for name in sorted(names):
            path = here / name
            if path.is_file() and path not in without:
                yield path
