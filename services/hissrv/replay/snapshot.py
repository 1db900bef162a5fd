"""A checkpoint: all keys and functions of the site's Redis at one instant.

It asks for what a replica is given: the server forks, and the child writes its memory as an RDB file.
That holds the server up for the fork alone (some milliseconds a gigabyte), whatever the size of the
site; copying keys by DUMP would hold it up for all of them. It needs no access to the server's files.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pyarrow as pa

from libs.errors import UnavailableError
from libs.redis.resp import Connection, ReplyError

CHUNK: Final = 1 << 16
TIMEOUT_S: Final = 60.0
_MARK_BYTES: Final = 40


class Source(Connection):
    """A connection that takes the server's RDB file."""

    def dump(self, file: pa.NativeFile) -> None:
        """Write it to a stream.

        Raises:
            UnavailableError: the server gives none, or broke off.
        """
        try:
            self.call("REPLCONF", "capa", "eof")
            self.call("REPLCONF", "rdb-only", "1")
            self._socket.settimeout(TIMEOUT_S)
            self._socket.sendall(b"SYNC\r\n")
            head, rest = self._head()
            if head.startswith(b"$EOF:"):
                self._until(head[5:], rest, file)
            elif head.startswith(b"$"):
                self._exactly(int(head[1:]), rest, file)
            else:
                raise UnavailableError(f"Redis gives no snapshot: {head.decode(errors='replace').lstrip('-')}")
        except ReplyError as error:
            raise UnavailableError(f"Redis gives no snapshot: {error}") from None
        except OSError as error:
            raise UnavailableError(f"Redis gives no snapshot: {error.strerror or error}") from None

    def _head(self) -> tuple[bytes, bytes]:
        data = b""
        while True:
            # Until the child is there the server sends empty lines.
            data = data.lstrip(b"\r\n")
            line, found, rest = data.partition(b"\r\n")
            if found:
                return line, rest
            data += self._piece()

    def _piece(self) -> bytes:
        piece = self._socket.recv(CHUNK)
        if not piece:
            raise UnavailableError("Redis broke off a snapshot")
        return piece

    def _exactly(self, size: int, data: bytes, file: pa.NativeFile) -> None:
        file.write(data[:size])
        left = size - len(data)
        while left > 0:
            piece = self._piece()
            file.write(piece[:left])
            left -= len(piece)

    def _until(self, mark: bytes, data: bytes, file: pa.NativeFile) -> None:
        while not data.endswith(mark):
            # The end may be the mark, or a part of it.
            if len(data) > _MARK_BYTES:
                file.write(data[:-_MARK_BYTES])
                data = data[-_MARK_BYTES:]
            data += self._piece()
        file.write(data[: -len(mark)])


def take(url: str, target: Path) -> int:
    """Write a snapshot, compressed, beside `target`, and give it its name once it is whole; return its bytes.

    Raises:
        UnavailableError: the server gives none.
    """
    part = target.with_name(target.name + ".new")
    try:
        with Source(url, TIMEOUT_S) as source, pa.CompressedOutputStream(pa.OSFile(str(part), "wb"), "zstd") as file:
            source.dump(file)
        with part.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.rename(target)
    return target.stat().st_size


def unpack(source: Path, target: Path) -> None:
    """Write the RDB file of a checkpoint."""
    with pa.CompressedInputStream(pa.OSFile(str(source), "rb"), "zstd") as packed, target.open("wb") as file:
        while piece := packed.read(1 << 20):
            file.write(piece)
