"""The calls of the replay log, made again in a Redis of the replay's own, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from libs.errors import NotFoundError
from libs.redis.server import Binary
from services.hissrv.replay import files
from services.hissrv.replay.entries import Entry, StreamId, outputs_of
from services.hissrv.replay.private import Differ, Private
from services.hissrv.replay.span import WARM_UP_MS, Change, Limits, Outcome, Replayed

# An hour's file may hold instants out of order, where a clock went back.
SLACK_MS: Final = 3_600_000


class Replay(Replayed):
    """A replay from the log, which begins at a checkpoint."""

    def __init__(
        self, folder: Path, binary: Binary, namespace: str, start_ms: int, end_ms: int, limits: Limits | None = None
    ) -> None:
        """Choose where it begins.

        Raises:
            NotFoundError: there is no log that far back.
        """
        super().__init__(folder, binary, namespace, start_ms, end_ms, limits)
        self._checkpoints = _chosen(folder, start_ms, end_ms)
        self._frames, self._forgotten = _frames(folder)
        self._image: int | None = None
        # Where the log breaks off.
        self._broken: StreamId | None = None

    @property
    def exact(self) -> bool:
        """Whether all calls of the span were made again, by the functions that made them."""
        return not self.reasons

    def _outcomes(self, change: Change | None) -> Iterator[Outcome]:
        position = StreamId(0, 0)
        while self._checkpoints:
            with self._opened(self._checkpoints.pop(0).path) as private:
                if private.position < position:
                    continue
                self._begin(private, change)
                for batch, (other,) in self._made(self._entries(private.position), private):
                    yield from _outcomes(batch, other)
            if self._broken is None:
                return
            position = self._broken
        self.reasons.append("no checkpoint follows the gap: the rest was not replayed")

    def _begin(self, private: Private, change: Change | None) -> None:
        self._image, self.last_ms, self._broken = private.image, private.at_ms, None
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

    def _entries(self, position: StreamId) -> Iterator[Entry]:
        """Yield the calls that follow the position, until the log breaks off or the span is over."""
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
                if entry.at_ms > self.end_ms:
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


def _outcomes(batch: list[Entry], other: Differ) -> Iterator[Outcome]:
    for number, entry in enumerate(batch):
        if number in other:
            outputs, problem = other[number]
            yield Outcome(entry, outputs_of(entry.outputs), outputs_of(outputs), problem, entry.refused)
        elif entry.outputs:
            then = outputs_of(entry.outputs)
            yield Outcome(entry, then, then, "refused" if entry.refused else "", entry.refused)


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
