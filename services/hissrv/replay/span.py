"""A span of time that is replayed: what a replay from the log and one from history have in common."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from libs.errors import LimitError, error_of
from libs.redis.server import Binary
from services.hissrv.replay.entries import Entry, Output, made
from services.hissrv.replay.private import Differ, Private, alone, opened

# Calls that go to Redis together.
BATCH: Final = 500
BATCH_BYTES: Final = 1 << 20
# So often, in batches, memory is looked at.
LOOK_EVERY: Final = 20
# Windows of conditions are read from a checkpoint as after a restart: not to the last sample. So a replay begins
# earlier, where there is a checkpoint, and those windows are full again when it counts.
WARM_UP_MS: Final = 300_000


class Limits(NamedTuple):
    """What a replay may take."""

    memory_bytes: int = 1 << 30
    seconds: float = 6 * 3600

    def refuse(self, servers: Iterable[Private], end: float) -> None:
        """Refuse to go on where it took too much memory, or goes on past an instant of the monotonic clock.

        Raises:
            LimitError: it did.
        """
        for one in servers:
            one.refuse_large(self.memory_bytes)
        if time.monotonic() > end:
            raise LimitError(f"the replay took {self.seconds:g} s and is not over; ask for a shorter span")


class Change(NamedTuple):
    """A definition that stands in place of what was live, whatever was done about it then."""

    function: str
    kind: str
    id: str
    document: bytes

    def put(self, private: Private, at_ms: int) -> None:
        """Put it there.

        Raises:
            VoltageError: what the functions say of it.
        """
        private.keep(f"{self.kind}:{self.id}")
        private.send([made(self.function, self.id, self.document, at_ms)])
        for _, problem in private.receive().values():
            if problem:
                code, _, text = problem.partition(" ")
                raise error_of(code, text)


class Outcome(NamedTuple):
    """A call that wrote to a journal, then or now, or was refused once and not twice."""

    entry: Entry
    then: list[Output]
    now: list[Output]
    problem: str
    refused_then: bool

    @property
    def same(self) -> bool:
        """Whether the call did what it did then."""
        return self.then == self.now and bool(self.problem) == self.refused_then


Told = Callable[[float, str], None]


class Lead(Protocol):
    """Who wants to know what was before the span that is asked for."""

    def stands(self, private: Private, *, changed: bool) -> None:
        """Look at the state a replay begins with, before and after a definition is changed."""

    def lead(self, then: list[Output], now: list[Output]) -> None:
        """Take what a call before the span wrote."""


class Replayed(ABC):
    """A span of time, replayed; iterate over `run` once, then ask what it was."""

    def __init__(
        self, folder: Path, binary: Binary, namespace: str, start_ms: int, end_ms: int, limits: Limits | None = None
    ) -> None:
        """Keep what it needs."""
        self._folder = folder
        self._binary = binary
        self._namespace = namespace
        self._limits = limits or Limits()
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.last_ms = end_ms
        self.calls = 0
        self.reasons: list[str] = []
        self._told: Told | None = None
        self._lead: Lead | None = None
        self._until = 0.0

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether all calls of the span were made again, by the functions that made them."""

    def run(
        self, change: Change | None = None, told: Told | None = None, lead: Lead | None = None
    ) -> Iterator[Outcome]:
        """Yield what the calls wrote from the start on; those before only lead there, and are told to `lead`.

        Raises:
            LimitError: it took too much.
            UnavailableError: its Redis does not start.
        """
        self._told, self._lead = told, lead
        self._until = time.monotonic() + self._limits.seconds
        with alone(self._folder):
            for outcome in self._outcomes(change):
                if outcome.entry.at_ms >= self.start_ms:
                    yield outcome
                elif lead is not None:
                    lead.lead(outcome.then, outcome.now)

    @abstractmethod
    def _outcomes(self, change: Change | None) -> Iterator[Outcome]:
        """Yield what the calls wrote, those before the start too."""

    def _opened(self, checkpoint: Path) -> AbstractContextManager[Private]:
        return opened(self._binary, checkpoint, self._folder, self._namespace)

    def _made(self, entries: Iterable[Entry], *sides: Private) -> Iterator[tuple[list[Entry], list[Differ]]]:
        """Make calls again on each side, the next while the last are looked at; yield them with what differed."""
        waiting: list[Entry] = []
        for number, batch in enumerate(_batches(entries)):
            if waiting:
                yield waiting, [one.receive() for one in sides]
            for one in sides:
                one.send([entry.packed() for entry in batch])
            waiting = batch
            self.calls += len(batch)
            if self._told is not None:
                begin_ms = self.start_ms - WARM_UP_MS
                done = (batch[-1].at_ms - begin_ms) / (self.end_ms - begin_ms)
                self._told(max(0.0, done), f"{self.calls} calls")
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                yield waiting, [one.receive() for one in sides]
                waiting = []
                self._limits.refuse(sides, self._until)
        if waiting:
            yield waiting, [one.receive() for one in sides]


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.one) + len(entry.many) + len(entry.outputs)
        if len(batch) == BATCH or size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
