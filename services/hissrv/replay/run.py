"""The calls of a span of time, made again in a Redis of the replay's own, in their order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from libs.errors import LimitError, NotFoundError, error_of
from libs.redis.server import Binary
from services.hissrv.replay import files
from services.hissrv.replay.entries import Entry, Output, StreamId, made, outputs_of
from services.hissrv.replay.private import Private, alone, opened

# Calls that go to Redis together.
BATCH: Final = 500
BATCH_BYTES: Final = 1 << 20
# So often, in batches, memory is looked at.
LOOK_EVERY: Final = 20
# An hour's file may hold instants out of order, where a clock went back.
SLACK_MS: Final = 3_600_000
# Windows of conditions are read from a checkpoint as after a restart: not to the last sample. So a replay begins
# earlier, where there is a checkpoint, and those windows are full again when it counts.
WARM_UP_MS: Final = 300_000


class Limits(NamedTuple):
    """What a replay may take."""

    memory_bytes: int = 1 << 30
    seconds: float = 6 * 3600

    def refuse(self, servers: list[Private], end: float) -> None:
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
        for _, _, problem in private.receive():
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


class Replay:
    """A replay of a span of time; iterate over it once, then ask what it was."""

    def __init__(
        self, folder: Path, binary: Binary, namespace: str, start_ms: int, end_ms: int, limits: Limits | None = None
    ) -> None:
        """Choose where it begins.

        Raises:
            NotFoundError: there is no log that far back.
        """
        self._folder = folder
        self._binary = binary
        self._namespace = namespace
        self._limits = limits or Limits()
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.calls = 0
        self.reasons: list[str] = []
        self._checkpoints = _chosen(folder, start_ms, end_ms)
        self._frames, self._forgotten = _frames(folder)
        self._image: int | None = None
        self.last_ms = 0
        self._lead: Lead | None = None
        # Where the log breaks off.
        self._broken: StreamId | None = None

    @property
    def exact(self) -> bool:
        """Whether all calls of the span were made again, by the functions that made them."""
        return not self.reasons

    def run(
        self, change: Change | None = None, told: Told | None = None, lead: Lead | None = None
    ) -> Iterator[Outcome]:
        """Yield what the calls wrote from the start on; those before only lead there, and are told to `lead`.

        Raises:
            LimitError: it took too much.
            UnavailableError: its Redis does not start.
        """
        end = time.monotonic() + self._limits.seconds
        self._lead = lead
        position = StreamId(0, 0)
        with alone(self._folder):
            while self._checkpoints:
                checkpoint = self._checkpoints.pop(0)
                with opened(self._binary, checkpoint.path, self._folder, self._namespace) as private:
                    if private.position < position:
                        continue
                    self._begin(private, change)
                    yield from self._stretch(private, told, end)
                if self._broken is None:
                    return
                position = self._broken
            self.reasons.append("no checkpoint follows the gap: the rest was not replayed")

    def _begin(self, private: Private, change: Change | None) -> None:
        self._image, self.last_ms = private.image, private.at_ms
        self._note_library(private)
        if self._lead is not None:
            self._lead.stands(private, changed=False)
        if change is not None:
            change.put(private, private.at_ms)
        if self._lead is not None:
            self._lead.stands(private, changed=True)

    def _note_library(self, private: Private) -> None:
        text = f"recorded by functions {private.digest[:12]}, replayed by those of this program"
        if not private.same_library and text not in self.reasons:
            self.reasons.append(text)

    def _stretch(self, private: Private, told: Told | None, end: float) -> Iterator[Outcome]:
        waiting: list[Entry] = []
        for number, batch in enumerate(self._batches(private.position)):
            if waiting:
                yield from self._outcomes(waiting, private.receive())
            private.send([one.packed() for one in batch])
            waiting = batch
            self.calls += len(batch)
            if told is not None:
                span = max(1, self.end_ms - private.at_ms)
                told((batch[-1].at_ms - private.at_ms) / span, f"{self.calls} calls")
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                yield from self._outcomes(waiting, private.receive())
                waiting = []
                self._limits.refuse([private], end)
        if waiting:
            yield from self._outcomes(waiting, private.receive())

    def _outcomes(self, batch: list[Entry], differ: list[tuple[int, bytes, str]]) -> Iterator[Outcome]:
        other = {number: (outputs, problem) for number, outputs, problem in differ}
        for number, entry in enumerate(batch):
            if number in other:
                outputs, problem = other[number]
                outcome = Outcome(entry, outputs_of(entry.outputs), outputs_of(outputs), problem, entry.refused)
            elif entry.outputs:
                then = outputs_of(entry.outputs)
                outcome = Outcome(entry, then, then, "refused" if entry.refused else "", entry.refused)
            else:
                continue
            if entry.at_ms >= self.start_ms:
                yield outcome
            elif self._lead is not None:
                self._lead.lead(outcome.then, outcome.now)

    def _batches(self, position: StreamId) -> Iterator[list[Entry]]:
        """Yield the calls that follow the position, until the log breaks off or the span is over."""
        self._broken = None
        batch: list[Entry] = []
        size = 0
        for entry in self._entries(position):
            if entry.at_ms > self.end_ms:
                break
            batch.append(entry)
            size += len(entry.one) + len(entry.many) + len(entry.outputs)
            if len(batch) == BATCH or size > BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _entries(self, position: StreamId) -> Iterator[Entry]:
        for frame, forgotten in zip(self._frames, self._forgotten, strict=True):
            if frame.last <= position or frame.first_ms > self.end_ms + SLACK_MS:
                continue
            if frame.kind == files.MARK:
                mark = files.mark_of(frame)
                if mark is None or mark.kind == "gap":
                    self._break(frame.last, frame.first_ms, frame.last_ms, mark.why if mark else "damaged")
                    return
                continue
            found = files.entries(frame)
            if found is None:
                self._break(frame.last, frame.first_ms, frame.last_ms, f"{frame.path.name} is damaged")
                return
            for entry in _remembered(found, position, forgotten):
                if not self._follows(entry):
                    self._break(entry.id, self.last_ms, entry.at_ms, "calls are missing")
                    return
                yield entry

    def _follows(self, entry: Entry) -> bool:
        """Say whether a call is the next one; calls that ask for no image number can't be told."""
        if entry.before is not None:
            if self._image is not None and entry.before != self._image:
                return False
            self._image = entry.after
        self.last_ms = entry.at_ms
        return True

    def _break(self, position: StreamId, from_ms: int, until_ms: int, why: str) -> None:
        self.reasons.append(f"a gap from {files.said(from_ms)} until {files.said(until_ms)}: {why}")
        self._broken = position


def _remembered(found: list[Entry], position: StreamId, forgotten: float) -> Iterator[Entry]:
    """Yield the calls after a position, without those that Redis forgot when it crashed."""
    skipped = False
    for entry in found:
        skipped = skipped if entry.after is None else entry.after > forgotten
        if entry.id > position and not skipped:
            yield entry


def reaches(folder: Path, start_ms: int) -> bool:
    """Say whether the log goes back to an instant."""
    return any(one.at_ms <= start_ms for one in files.checkpoints(folder))


def _chosen(folder: Path, start_ms: int, end_ms: int) -> list[files.Checkpoint]:
    """Return the checkpoints to go through: one some time before the start, and those after it."""
    found = files.checkpoints(folder)
    if not found:
        raise NotFoundError(f"there is no replay log in {folder}")
    first = max((number for number, one in enumerate(found) if one.at_ms <= start_ms - WARM_UP_MS), default=None)
    if first is None:
        first = min((number for number, one in enumerate(found) if one.at_ms <= start_ms), default=None)
    if first is None:
        raise NotFoundError(f"the replay log goes back to {files.said(found[0].at_ms)}, not to {files.said(start_ms)}")
    return [found[first], *(one for one in found[first + 1 :] if one.at_ms <= end_ms)]


def _frames(folder: Path) -> tuple[list[files.Frame], list[float]]:
    """Return all frames in order, and for each the image number past which Redis forgot its calls."""
    found = [frame for path in files.logs(folder) for frame in files.frames(path)]
    forgotten: list[float] = []
    limit = float("inf")
    for frame in reversed(found):
        if frame.kind == files.MARK:
            mark = files.mark_of(frame)
            limit = float(mark.image) if mark is not None and mark.kind == "back" else float("inf")
        forgotten.append(limit)
    return found, forgotten[::-1]
