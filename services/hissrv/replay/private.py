"""A Redis of the replay's own, from a checkpoint: it holds the site as it was, and nothing reaches out of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import hiredis
import msgpack
import orjson

from libs.errors import InternalError, LimitError, StateError
from libs.redis import bundle, keys, library
from libs.redis.client import connect
from libs.redis.private import started
from libs.redis.resp import Connection, ReplyError, information
from libs.redis.server import Binary
from services.hissrv.replay import snapshot
from services.hissrv.replay.entries import StreamId

CALL_S: Final = 300.0
# What a replay needs nothing of.
_LEFT_OUT: Final = ("replay", "replay_size", "replay_kept", "history_queue", "history_size", "dead_letters")

# Calls that went another way, by number from 0: what they wrote, and their refusal or "".
Differ = dict[int, tuple[bytes, str]]


class Private(Connection):
    """The replay's Redis; calls may be sent before the answer to the last ones is read."""

    def __init__(self, url: str, namespace: str) -> None:
        """Connect."""
        super().__init__(url, CALL_S)
        self.prefix = keys.prefix(namespace)
        self.digest = ""
        self.same_library = True
        self.image = 0
        self.position = StreamId(0, 0)
        self.at_ms = 0

    def key(self, name: str, **parts: str) -> str:
        """Return the full name of a key."""
        return self.prefix + keys.key(name, **parts)

    def function(self, name: str, key: str | None, *arguments: str | bytes) -> Any:
        """Call a function."""
        full = [self.prefix + (key or "")] if key or self.prefix else []
        try:
            return self.call("FCALL", name, len(full), *full, *arguments)
        except ReplyError as error:
            raise InternalError(f"the replay's Redis refused {name}: {error}") from None

    def send(self, calls: list[list[bytes]]) -> None:
        """Have recorded calls made again; `receive` follows."""
        full = [self.prefix] if self.prefix else []
        words = ("FCALL", "replay_apply", len(full), *full, msgpack.packb(calls, use_bin_type=False))
        self._socket.settimeout(CALL_S)
        self._socket.sendall(hiredis.pack_command(words))

    def receive(self) -> Differ:
        """Return the calls that went another way."""
        reply = self.next(CALL_S)
        if isinstance(reply, ReplyError):
            raise InternalError(f"the replay's Redis refused calls: {reply}")
        return {int(number) - 1: (bytes(outputs), problem.decode()) for number, outputs, problem in reply}

    def keep(self, definition: str) -> None:
        """Let a definition stay as it is put next, whatever the calls say of it."""
        self.call("SET", self.key("replay_private"), definition)

    def refuse_large(self, most_bytes: int) -> None:
        """Refuse to go on where it took too much memory.

        Raises:
            LimitError: it did.
        """
        used = int(information(self, "memory").get("used_memory", 0))
        if used > most_bytes:
            raise LimitError(f"the replay takes {used >> 20} MB of memory, {most_bytes >> 20} MB are allowed")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one replay run at a time on a site.

    Raises:
        StateError: one runs.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "replay.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError("a replay of this site runs already; one at a time") from None
        for left in folder.glob(".run-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def opened(binary: Binary, checkpoint: Path, folder: Path, namespace: str) -> Iterator[Private]:
    """Start a Redis from a checkpoint, with the library of this program; give its connection.

    Raises:
        UnavailableError: it does not start, as when the checkpoint is of a Redis that is newer than this one.
    """
    with tempfile.TemporaryDirectory(prefix=".run-", dir=folder, ignore_cleanup_errors=True) as stage:
        snapshot.unpack(checkpoint, Path(stage) / "dump.rdb")
        options = ["--dbfilename", "dump.rdb", "--appendonly", "no"]
        with (
            started("the replay's Redis", binary, Path(stage), *options) as running,
            Private(running.url, namespace) as private,
        ):
            _prepare(private, running.url, namespace)
            yield private


def _prepare(private: Private, url: str, namespace: str) -> None:
    try:
        version = orjson.loads(private.call("FCALL_RO", "voltage_version", 0))
        private.digest = version["digest"]
    except ReplyError:
        private.digest = ""
    private.same_library = private.digest in {"", bundle.bundle().digest}
    private.image = int(private.call("GET", private.key("image")) or 0)
    private.at_ms = int(private.call("HGET", private.key("clock"), "last") or 0)
    if private.call("EXISTS", private.key("replay")):
        stream = private.call("XINFO", "STREAM", private.key("replay"))
        facts = dict(zip(stream[::2], stream[1::2], strict=True))
        private.position = StreamId.parse(facts[b"last-generated-id"].decode())
    private.call("UNLINK", *(private.key(name) for name in _LEFT_OUT))
    asyncio.run(_load(url, namespace))
    private.call("SET", private.key("replay_private"), os.getpid())


async def _load(url: str, namespace: str) -> None:
    client = connect(url, connections=1)
    try:
        await library.load(client, namespace)
    finally:
        await client.aclose()
