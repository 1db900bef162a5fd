"""The replay log on disk: a file an hour, of frames; and the checkpoints beside them.

A frame is a header and one zstd block. Only whole frames count: what a crash tore is cut off when the
keeper starts. A frame holds entries, or one mark: a gap, or that Redis came back without its last calls.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack
import pyarrow as pa

from services.hissrv.replay.entries import Entry, StreamId, of_stored

MAGIC: Final = b"VRL1"
# magic, kind, crc of the rest, compressed and plain size, entries, first and last instant, first and last id.
_HEADER: Final = struct.Struct("<4sBIIIIQQQIQI")
ENTRIES: Final = 0
MARK: Final = 1
LOG: Final = ".log"
CHECKPOINT: Final = ".rdb.zst"
_HOUR: Final = "%Y%m%dT%H"
_INSTANT: Final = re.compile(r"(\d{8}T\d{6})\.(\d{3})\.rdb\.zst\Z")


class Frame(NamedTuple):
    """Where a frame is, and what its header says."""

    path: Path
    offset: int
    kind: int
    crc: int
    size: int
    plain: int
    entries: int
    first_ms: int
    last_ms: int
    first: StreamId
    last: StreamId

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + _HEADER.size + self.size


class Mark(NamedTuple):
    """Something about the log itself: `gap`, or `back` with the image number Redis came back with."""

    kind: str
    id: StreamId
    from_ms: int
    until_ms: int
    image: int
    why: str


class Checkpoint(NamedTuple):
    """A checkpoint: the site's state at an instant that is not after `at_ms`."""

    path: Path
    at_ms: int


def said(at_ms: int) -> str:
    """Return an instant as people read it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hour_file(folder: Path, at_ms: int) -> Path:
    """Return the file of an instant."""
    return folder / (datetime.fromtimestamp(at_ms / 1000, UTC).strftime(_HOUR) + LOG)


def checkpoint_file(folder: Path, at_ms: int) -> Path:
    """Return the file of a checkpoint."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC)
    return folder / f"{moment:%Y%m%dT%H%M%S}.{at_ms % 1000:03d}{CHECKPOINT}"


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints, oldest first."""
    found = []
    for path in folder.glob("*" + CHECKPOINT):
        if match := _INSTANT.search(path.name):
            moment = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            found.append(Checkpoint(path, int(moment.timestamp()) * 1000 + int(match[2])))
    return sorted(found, key=lambda one: one.at_ms)


def put(part: Path, path: Path) -> None:
    """Give a file that is whole its name."""
    part.rename(path)
    sync_folder(path.parent)


def forget_from(folder: Path, at_ms: int) -> None:
    """Delete the checkpoints from an instant on."""
    for one in checkpoints(folder):
        if one.at_ms >= at_ms:
            one.path.unlink()


def logs(folder: Path) -> list[Path]:
    """Return the hourly files, oldest first."""
    return sorted(folder.glob("*" + LOG))


def frames(path: Path) -> Iterator[Frame]:
    """Yield the whole frames of a file, reading their headers alone."""
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset + _HEADER.size <= size:
            file.seek(offset)
            magic, kind, crc, packed, plain, count, first_ms, last_ms, *ids = _HEADER.unpack(file.read(_HEADER.size))
            if magic != MAGIC or offset + _HEADER.size + packed > size:
                return
            first, last = StreamId(ids[0], ids[1]), StreamId(ids[2], ids[3])
            frame = Frame(path, offset, kind, crc, packed, plain, count, first_ms, last_ms, first, last)
            yield frame
            offset = frame.end


def content(frame: Frame) -> bytes | None:
    """Return what a frame holds, None where it is damaged."""
    with frame.path.open("rb") as file:
        file.seek(frame.offset + _HEADER.size)
        packed = file.read(frame.size)
    if zlib.crc32(packed) != frame.crc:
        return None
    plain: bytes = pa.decompress(packed, decompressed_size=frame.plain, codec="zstd", asbytes=True)
    return plain


def entries(frame: Frame) -> list[Entry] | None:
    """Return the entries of a frame, None where it is damaged."""
    plain = content(frame)
    if plain is None:
        return None
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=1 << 30)
    unpacker.feed(plain)
    return [of_stored(parts) for parts in unpacker]


def mark_of(frame: Frame) -> Mark | None:
    """Return the mark a frame holds, None where it is damaged."""
    plain = content(frame)
    if plain is None:
        return None
    found: dict[str, Any] = msgpack.unpackb(plain)
    return Mark(found["kind"], frame.last, found["from_ms"], found["until_ms"], found["image"], found["why"])


class Writer:
    """Appends frames to the hourly files; what it returned is on disk."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, and cut off what a crash tore."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.path: Path | None = None
        self.last: Frame | None = None
        for stray in folder.glob("*.new"):
            stray.unlink()
        files = logs(folder)
        if files:
            self.path = files[-1]
            end = 0
            for frame in frames(self.path):
                self.last, end = frame, frame.end
            if end < self.path.stat().st_size:
                os.truncate(self.path, end)
            for older in reversed(files[:-1]):
                if self.last is not None:
                    break
                for frame in frames(older):
                    self.last = frame

    def append(self, found: list[Entry]) -> None:
        """Write entries."""
        plain = b"".join(msgpack.packb(one.stored(), use_bin_type=False) for one in found)
        instants = [one.at_ms for one in found]
        self._write(ENTRIES, plain, len(found), (min(instants), max(instants)), (found[0].id, found[-1].id))

    def mark(self, mark: Mark) -> None:
        """Write a mark."""
        told = {"kind": mark.kind, "from_ms": mark.from_ms, "until_ms": mark.until_ms, "image": mark.image}
        plain = msgpack.packb(told | {"why": mark.why})
        self._write(MARK, plain, 0, (mark.from_ms, mark.until_ms), (mark.id, mark.id))

    def _write(
        self, kind: int, plain: bytes, count: int, instants: tuple[int, int], ids: tuple[StreamId, StreamId]
    ) -> None:
        packed = pa.compress(plain, codec="zstd", asbytes=True)
        crc = zlib.crc32(packed)
        header = _HEADER.pack(MAGIC, kind, crc, len(packed), len(plain), count, *instants, *ids[0], *ids[1])
        wanted = hour_file(self.folder, instants[1])
        # A clock that went back stays in the file it is in.
        if self.path is None or wanted > self.path:
            self.path = wanted
        new = not self.path.exists()
        with self.path.open("ab") as file:
            offset = file.tell()
            try:
                file.write(header + packed)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                # What a full disk took of it would hide all that follows.
                os.truncate(self.path, offset)
                raise
        if new:
            sync_folder(self.folder)
        self.last = Frame(self.path, offset, kind, crc, len(packed), len(plain), count, *instants, *ids)


def sync_folder(folder: Path) -> None:
    """Let a new name in a folder be on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def retain(folder: Path, days: float, most_bytes: int) -> list[Path]:
    """Delete what is too old or too much, never the newest hour; return what went.

    A checkpoint goes when every call that follows it, until the next one, is gone.
    """
    files, known = logs(folder), checkpoints(folder)
    sizes = {path: path.stat().st_size for path in [*files, *(one.path for one in known)]}
    gone: list[Path] = []
    while files:
        first_ms = _begins_ms(files[0])
        while len(known) > 1 and known[1].at_ms <= first_ms:
            gone.append(known.pop(0).path)
        total = sum(sizes.values()) - sum(sizes[path] for path in gone)
        young = _begins_ms(files[-1]) - first_ms <= days * 86_400_000
        if len(files) == 1 or (young and total <= most_bytes):
            break
        gone.append(files.pop(0))
    for path in gone:
        path.unlink()
    return gone


def _begins_ms(log: Path) -> float:
    """Return when the hour of a file begins."""
    return datetime.strptime(log.stem, _HOUR).replace(tzinfo=UTC).timestamp() * 1000
