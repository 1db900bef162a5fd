"""The journal on disk: append-only files, one a day, one entry a line as JSON.

The file's day is the UTC day at which the entry was written to Redis. A line is
{"id": stream id, then the fields as the stream has them}; nothing is ever
rewritten but a last line that a crash left half.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from libs.errors import InternalError
from services.alarmsrv.journal.chain import Entry, order_of

PATTERN: Final = "journal-????-??-??.jsonl"
RETIRED: Final = "retired.json"


class Archive:
    """The files of one folder. Blocking: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder; it is made with the first entry."""
        self.folder = folder
        self._last: Entry | None = None
        self._looked = False

    def files(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self.folder.glob(PATTERN))

    def last(self) -> Entry | None:
        """Return the newest entry on disk; a half line after it, which a crash left, is cut off first."""
        if not self._looked:
            for file in reversed(self.files()):
                _cut_half_line(file)
                entries = read_file(file)
                if entries:
                    self._last = entries[-1]
                    break
            self._looked = True
        return self._last

    @property
    def known_number(self) -> int:
        """The number of the newest entry that was read or written; 0 before that."""
        return self._last.number if self._last else 0

    def append(self, entries: list[Entry]) -> None:
        """Write entries that follow the last one; they are on disk when it returns."""
        last = self.last()
        after = last.order if last else (0, 0)
        by_file: dict[Path, list[bytes]] = {}
        for entry in entries:
            if entry.order > after:
                by_file.setdefault(self.folder / file_name(entry.id), []).append(encode(entry))
        for file, lines in by_file.items():
            _append(file, lines)
        if by_file:
            self._last = entries[-1]

    def newest_first(self, before: tuple[int, int] | None = None) -> Iterator[Entry]:
        """Walk back in time from an id, which is left out."""
        for file in reversed(self.files()):
            if before and file.name > file_name(f"{before[0]}-0"):
                continue
            for entry in reversed(read_file(file)):
                if before is None or entry.order < before:
                    yield entry

    def oldest_first(self) -> Iterator[tuple[Path, Entry]]:
        """Walk all entries, each with its file."""
        for file in self.files():
            for entry in read_file(file):
                yield file, entry

    def begins_after(self) -> tuple[int, str]:
        """Return number and hash of the entry before the first file: what retention took was whole until there."""
        try:
            found = orjson.loads((self.folder / RETIRED).read_bytes())
        except FileNotFoundError:
            return 0, ""
        return int(found["number"]), str(found["hash"])

    def retire(self, day: dt.date, open_alarms: frozenset[str]) -> list[Path]:
        """Remove files of before a day, oldest first, until one has an entry of an open alarm; return them."""
        gone: list[Path] = []
        for file in self.files()[:-1]:
            entries = read_file(file)
            if file.name >= file_name_of(day) or any(entry.fields.get("alarm") in open_alarms for entry in entries):
                break
            if entries:
                last = {"id": entries[-1].id, "number": entries[-1].number, "hash": entries[-1].hash}
                _replace(self.folder / RETIRED, orjson.dumps(last))
            file.unlink()
            gone.append(file)
        return gone


def file_name(entry_id: str) -> str:
    """Return the name of the file an entry belongs into."""
    return file_name_of(dt.datetime.fromtimestamp(order_of(entry_id)[0] / 1000, dt.UTC).date())


def file_name_of(day: dt.date) -> str:
    """Return the name of a day's file."""
    return f"journal-{day.isoformat()}.jsonl"


def encode(entry: Entry) -> bytes:
    """Return an entry's line."""
    return orjson.dumps({"id": entry.id, **entry.fields}) + b"\n"


def decode(line: bytes, where: str) -> Entry:
    """Read an entry's line.

    Raises:
        InternalError: it is none; a file of the journal was damaged.
    """
    try:
        fields = orjson.loads(line)
        return Entry(str(fields.pop("id")), {str(name): str(value) for name, value in fields.items()})
    except (ValueError, AttributeError, KeyError):
        raise InternalError(f"{where}: this line is no entry of the journal") from None


def read_file(file: Path) -> list[Entry]:
    """Return a file's entries; a half line at its end is left out."""
    lines = file.read_bytes().split(b"\n")
    return [decode(line, f"{file.name}:{number}") for number, line in enumerate(lines[:-1], 1) if line]


def _cut_half_line(file: Path) -> None:
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file, whole)


def _append(file: Path, lines: list[bytes]) -> None:
    new = not file.exists()
    if new:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(b"".join(lines))
        stream.flush()
        os.fsync(descriptor)
    if new:
        _sync_folder(file.parent)


def _replace(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    new.replace(file)
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
