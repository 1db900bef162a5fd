"""The queue `hissrv:queue` from a reader's side: its entries, their samples, and the loop that takes them.

Each group of readers (hissrv, netsrv) takes batches by functions of its own; what
the entries hold and how a reader waits, pauses and goes on stands here once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterator
from typing import Any, Final, NamedTuple

import msgpack
import orjson

from libs.errors import InvalidError, NotFoundError, VoltageError
from libs.instants import MAX_MS
from libs.redis.client import Client, execute

_LOG = logging.getLogger(__name__)
WAIT_MS: Final = 1000
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
# A document names its producer only where that is not comsrv.
_SERVICE: Final = "comsrv"
_JSON_START: Final = b"{"
_KINDS: Final = frozenset("TSCA")


class EntryId(NamedTuple):
    """Id of a queue entry: `1718000000000-3`. It never comes twice, even after Redis lost its last seconds."""

    ms: int
    seq: int

    def __str__(self) -> str:
        """Return Redis' text form."""
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> EntryId:
        """Parse Redis' text form; a missing sequence is 0."""
        head, _, tail = text.partition("-")
        return cls(int(head), int(tail or 0))


class QueueEntry(NamedTuple):
    """An entry of the queue: image number, channel, samples it was counted with, the document."""

    id: EntryId
    image: int
    channel: str
    samples: int
    document: bytes

    @classmethod
    def parse(cls, entry_id: bytes, fields: Any) -> QueueEntry:
        """Parse an entry as Redis replies it."""
        found = dict(pairs(fields))
        return cls(
            EntryId.parse(entry_id.decode()),
            int(found.get(b"i", 0)),
            found.get(b"c", b"").decode(errors="replace"),
            int(found.get(b"n", 0)),
            found.get(b"d", b""),
        )


class Sample(NamedTuple):
    """A point at an instant; quality "" is good. Without a value only the quality changed."""

    ref: str
    at_ms: int
    value: float | None
    quality: str = ""


def pairs(fields: Any) -> list[tuple[bytes, bytes]]:
    """Return a stream entry's fields, which come as a map or as a flat list."""
    if isinstance(fields, dict):
        return list(fields.items())
    return list(zip(fields[::2], fields[1::2], strict=True))


def samples_of(entry: QueueEntry) -> list[Sample]:
    """Return an entry's samples in the order they happened; what comsrv_ingest took, msgpack or JSON.

    Raises:
        InvalidError: the document can't be read; the message is a dead letter's reason.
    """
    try:
        raw = entry.document
        document = orjson.loads(raw) if raw.startswith(_JSON_START) else msgpack.unpackb(raw)
        return list(_samples(document, entry.channel))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidError(f"unreadable document: {type(error).__name__}: {error}"[:500]) from error


def _samples(document: dict[str, Any], channel: str) -> Iterator[Sample]:
    """Yield sections at the document's instant, then events at their own."""
    owner = f"{document.get('service') or _SERVICE}:{document.get('channel', channel)}:"
    for section in document.get("sections") or ():
        if (kind := section["type"]) not in _KINDS:
            continue
        at_ms = _instant(document["at_ms"])
        prefix = f"{owner}{kind}:"
        # Redis writes an empty table as a list or as an object.
        quality = dict(section.get("quality") or {})
        for point, text in zip(section.get("ids") or (), section.get("values") or (), strict=True):
            yield Sample(f"{prefix}{point}", at_ms, _value(text), str(quality.pop(str(point), "")))
        for point, said in quality.items():
            yield Sample(f"{prefix}{point}", at_ms, None, str(said))
    for kind, point, at_ms, text, *rest in document.get("events") or ():
        if kind in _KINDS:
            said = str(rest[0] or "") if rest else ""
            yield Sample(f"{owner}{kind}:{point}", _instant(at_ms), _event_value(text, said), said)


def _instant(value: Any) -> int:
    if isinstance(value, bool) or not 0 <= (at_ms := int(value)) <= MAX_MS:
        raise ValueError(f"no instant: {value!r}")
    return at_ms


def _value(text: Any) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"value {text!r} is not finite")
    return value


def _event_value(text: Any, quality: str) -> float | None:
    """Return an event's value; a bad one has none, whatever stands in its place."""
    value = _value(text)
    return None if quality.startswith("bad:") else value


class QueueReader(ABC):
    """Takes batches one at a time to where they go. `problem` is None while all goes well.

    Args:
        what: what goes on or waits, for the log: `history`.
        blocking: a connection that may wait at the server.
        queue: the queue's full key.
        batch_entries: how many entries a full batch has.
        linger_ms: the pause after a smaller one, for fewer and larger commits.
    """

    def __init__(self, what: str, blocking: Client, queue: str, *, batch_entries: int, linger_ms: int) -> None:
        self._what = what
        self._blocking = blocking
        self._queue = queue
        self._batch_entries = batch_entries
        self._linger_ms = linger_ms
        self._last = "$"
        self.problem: str | None = None

    async def run(self) -> None:
        """Take until cancelled; what goes wrong is shown, tried again, and never ends the loop."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                taken = await self.step()
                if not taken:
                    await self._wait()
            except VoltageError as error:
                if self.problem is None:
                    _LOG.warning("%s waits: %s", self._what, error)
                self.problem = str(error)
                await asyncio.sleep(pause_s * random.uniform(0.7, 1.3))  # noqa: S311 - spreads retries
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if self.problem is not None:
                _LOG.info("%s goes on", self._what)
            self.problem, pause_s = None, FIRST_PAUSE_S
            if taken < self._batch_entries:
                await asyncio.sleep(self._linger_ms / 1000)

    @abstractmethod
    async def step(self) -> int:
        """Take one batch through to its acknowledgement; returns its entries.

        A batch whose target is away stays in hand, and the next step tries it again.

        Raises:
            VoltageError: the target or Redis is away.
        """

    def taken(self, entries: list[QueueEntry]) -> None:
        """Remember where the queue was read to: the next wait is for what comes after."""
        if entries:
            self._last = str(max(entry.id for entry in entries))

    async def _wait(self) -> None:
        """Return when the queue has a newer entry, or after a time-out."""
        await execute(self._blocking, "XREAD", "BLOCK", WAIT_MS, "COUNT", 1, "STREAMS", self._queue, self._last)


async def acknowledged(batch: str, call: Awaitable[Any]) -> None:
    """Await the call that ends a batch; one that Redis forgot is no error.

    Redis lost it by a restart or a lost reply: what is still queued comes again, known to its target.
    """
    try:
        await call
    except (NotFoundError, InvalidError) as error:
        _LOG.warning("batch %s: %s; its entries come again", batch, error)
