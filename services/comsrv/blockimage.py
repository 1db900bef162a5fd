"""What Redis was last told about a block, and the call that tells it what changed.

Comparison is numpy over the whole block; only what changed is formatted.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.numbers import format_values
from services.comsrv.contract import ABSENT, GOOD, QUALITY, Block, Codes, Reading, Values
from services.comsrv.counters import Counters

Flags = NDArray[np.bool_]

# A code no reading has: whatever comes next is a change.
UNSENT: Final = 255


class Failure(NamedTuple):
    """A block that could not be read: what its points become, and when."""

    at_ms: int
    quality: str


class Update(NamedTuple):
    """A call for what changed: the sections, the texts to publish, the counters of this reading."""

    sections: list[dict[str, Any]]
    texts: list[str]
    counters: Counters
    values: Values
    quality: Codes
    # The instant of the block's previous good response, until which unchanged values held.
    previous_at_ms: int | None
    generation: int

    @property
    def empty(self) -> bool:
        """True when nothing changed."""
        return not self.sections


class BlockImage:
    """The image of one block."""

    def __init__(self, block: Block) -> None:
        """Start with everything unsent."""
        self.block = block
        self._values: Values = np.zeros(block.size)
        self._quality: Codes = np.full(block.size, UNSENT, np.uint8)
        self._exact = not block.thresholds.any()
        self._failed: str | None = None
        self._generation = 0
        self.good_at_ms: int | None = None

    def forget(self) -> None:
        """Take nothing for sent: the next call carries every point."""
        self._quality.fill(UNSENT)
        self._failed = None
        self._generation += 1

    def compare(self, reading: Reading) -> Update:
        """Return what is to be sent for a reading."""
        values, quality = reading.values, reading.quality
        good = quality == GOOD
        moved = self._moved(values)
        changed = (quality != self._quality) | (good & moved)
        if quality.max(initial=0) >= ABSENT:
            changed |= moved & (quality != ABSENT)
            changed &= quality != ABSENT
        sections: list[dict[str, Any]] = []
        texts: list[str] = []
        count = np.count_nonzero(changed)
        if count:
            index = np.flatnonzero(changed)
            for kind, start, stop, ids in self.block.sections:
                part = index[(index >= start) & (index < stop)] if len(self.block.sections) > 1 else index
                if part.size:
                    section, text = _section(kind.value, ids, start, part, values, quality)
                    sections.append(section)
                    texts.append(text)
        counters = self._count(quality, changed, int(count))
        return Update(sections, texts, counters, values, quality, self.good_at_ms, self._generation)

    def keep(self, update: Update, at_ms: int) -> None:
        """Remember that an update arrived; points within their deadband keep the value that was sent.

        When everything was forgotten while the update was under way, it stays forgotten.
        """
        self.good_at_ms = at_ms
        if update.generation != self._generation:
            return
        if self._exact:
            self._values = update.values
        elif not update.empty:
            fresh = self._moved(update.values) | (update.quality != self._quality)
            self._values = np.where(fresh, update.values, self._values)
        self._quality = update.quality.copy()
        self._failed = None

    def failure_is_news(self, failure: Failure) -> bool:
        """Say whether the points are not known to be in this state."""
        return self._failed != failure.quality

    def keep_failure(self, failure: Failure) -> None:
        """Remember that the points were marked; whatever comes next is a change."""
        self._quality.fill(UNSENT)
        self._failed = failure.quality

    def failed_sections(self) -> list[dict[str, Any]]:
        """Return every point of the block, as comsrv_set_quality takes them."""
        return [{"type": kind.value, "ids": list(ids)} for kind, _, _, ids in self.block.sections]

    def _moved(self, values: Values) -> Flags:
        """Return which values are further from the ones sent than their deadband."""
        moved: Flags = values != self._values if self._exact else np.abs(values - self._values) > self.block.thresholds
        return moved

    def _count(self, quality: Codes, changed: Flags, sent: int) -> Counters:
        """Count a reading: a sample is sent, or unchanged, or rejected as bad when its badness is no news."""
        codes, numbers = np.unique(quality[~changed], return_counts=True)
        counters = Counters(polled=sent)
        for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
            if code == ABSENT:
                continue
            counters.polled += number
            if QUALITY[code].startswith("bad:"):
                counters.reject(QUALITY[code].removeprefix("bad:"), number)
            else:
                counters.unchanged += number
        return counters


def _section(
    kind: str,
    ids: tuple[str, ...],
    start: int,
    index: NDArray[np.intp],
    values: Values,
    quality: Codes,
) -> tuple[dict[str, Any], str]:
    """Return a section and its text for publishing. A bad sample has a quality only, an uncertain one both."""
    codes = quality[index]
    if not codes.any():
        chosen = list(ids) if index.size == len(ids) else [ids[place - start] for place in index.tolist()]
        texts = format_values(values[index].tolist())
        members = ",".join(['"%s":%s'] * len(chosen)) % tuple(
            item for pair in zip(chosen, texts, strict=True) for item in pair
        )
        return {"type": kind, "ids": chosen, "values": texts}, f'"points":{{{members}}},"quality":{{}}'
    marks: dict[str, str] = {}
    valued: list[int] = []
    for place, code in zip(index.tolist(), codes.tolist(), strict=True):
        text = QUALITY[code]
        if text:
            marks[ids[place - start]] = text
        if not text.startswith("bad:"):
            valued.append(place)
    chosen = [ids[place - start] for place in valued]
    texts = format_values(values[valued].tolist())
    members = ",".join(f'"{point}":{text}' for point, text in zip(chosen, texts, strict=True))
    qualities = ",".join(f'"{point}":"{text}"' for point, text in marks.items())
    section = {"type": kind, "ids": chosen, "values": texts, "quality": marks}
    return section, f'"points":{{{members}}},"quality":{{{qualities}}}'
