"""What Redis was last told about a block, and the call that tells it what changed.

Comparison is numpy over the whole block; only what changed is formatted.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from libs.numbers import format_values
from services.comsrv.contract import ABSENT, GOOD, QUALITY, Block, Codes, Reading, Section, Values
from services.comsrv.counters import Counters
from services.comsrv.reporting import Report

Flags = NDArray[np.bool_]

# A code no reading has: whatever comes next is a change.
UNSENT: Final = 255
# The type of a section of texts.
TEXT: Final = "X"


class Failure(NamedTuple):
    """A block that could not be read: what its points become, and when."""

    at_ms: int
    quality: str


class Update(NamedTuple):
    """A call for what changed: the sections, the texts to publish, the counters of this reading."""

    sections: list[dict[str, Any]]
    texts: list[str]
    counters: Counters
    reading: Reading
    # Which points are sent, and which of them unchanged, as their heartbeat asks.
    changed: Flags
    again: Flags | None
    # The instant of the block's previous good response, until which unchanged values held.
    previous_at_ms: int | None
    generation: int

    @property
    def empty(self) -> bool:
        """True when nothing is to be sent."""
        return not self.sections

    def document(self, channel: int, block: Block) -> dict[str, Any]:
        """Return the update as `comsrv_ingest` takes it."""
        document: dict[str, Any] = {
            "origin": "poll",
            "channel": channel,
            "block": block.name,
            "at_ms": self.reading.at_ms,
            "sections": self.sections,
        }
        if self.previous_at_ms is not None:
            document["previous_at_ms"] = self.previous_at_ms
        return document


class BlockImage:
    """The image of one block."""

    def __init__(self, block: Block, report: Report | None = None) -> None:
        """Start with everything unsent; `report` says which changes are worth sending."""
        self.block = block
        self._thresholds = block.thresholds if report is None else report.thresholds
        self._heartbeats_ms = None if report is None else report.heartbeats_ms
        self._values: Values = np.zeros(block.size)
        self._quality: Codes = np.full(block.size, UNSENT, np.uint8)
        self._texts: tuple[str, ...] = ()
        self._sent_at_ms = np.zeros(0 if self._heartbeats_ms is None else block.size, np.int64)
        self._exact = not self._thresholds.any()
        self._text = next((section for section in block.sections if section.text), None)
        self._failed: str | None = None
        self._event_at_ms: dict[int, int] = {}
        self._generation = 0
        self.good_at_ms: int | None = None

    def forget(self) -> None:
        """Take nothing for sent: the next call carries every point."""
        self._quality.fill(UNSENT)
        self._failed = None
        self._generation += 1

    def adopt(self, others: Iterable[BlockImage]) -> None:
        """Know what was sent for the same points when other blocks read them; texts are sent again."""
        sent: dict[tuple[str, str], tuple[float, int, int]] = {}
        for other in others:
            sent.update(other._sent())  # noqa: SLF001 - of the same class
            if other.good_at_ms is not None:
                self.good_at_ms = min(self.good_at_ms or other.good_at_ms, other.good_at_ms)
        for kind, start, _, ids, text in self.block.sections:
            for place, point in enumerate(() if text else ids, start):
                self._values[place], self._quality[place], at_ms = sent.get((kind.value, point), (0.0, UNSENT, 0))
                if self._heartbeats_ms is not None:
                    self._sent_at_ms[place] = at_ms

    def _sent(self) -> dict[tuple[str, str], tuple[float, int, int]]:
        """Return value, quality and instant as they were sent, by point."""
        at_ms = self._sent_at_ms.tolist() or [0] * self.block.size
        names = ((kind.value, point) for kind, _, _, ids, _ in self.block.sections for point in ids)
        return dict(zip(names, zip(self._values.tolist(), self._quality.tolist(), at_ms, strict=True), strict=True))

    def tell(self, place: int, value: float, quality: int, at_ms: int) -> None:
        """Take note of an event of a point that Redis was told of.

        One from before what was read last may not have entered the image: the next reading sends the
        point. A block that was marked as failed has a good point now, so its next failure is news.
        """
        before = max(self.good_at_ms or 0, self._event_at_ms.get(place, 0))
        newest = self._failed is None and self.good_at_ms is not None and at_ms >= before
        self._event_at_ms[place] = max(at_ms, self._event_at_ms.get(place, 0))
        self._values[place] = value
        self._quality[place] = quality if newest else UNSENT
        self._failed = None

    def compare(self, reading: Reading) -> Update:
        """Return what is to be sent for a reading."""
        values, quality = reading.values, reading.quality
        good = quality == GOOD
        well = bool(good.all())
        moved = self._moved(values)
        if self._text is not None and reading.texts != self._texts:
            old = self._texts or ("",) * len(reading.texts)
            moved[self._text.start :] = [text != was for text, was in zip(reading.texts, old, strict=True)]
        changed = (quality != self._quality) | (moved if well else good & moved)
        if not well and quality.max(initial=0) >= ABSENT:
            changed |= moved & (quality != ABSENT)
            changed &= quality != ABSENT
        again = None if self._heartbeats_ms is None else self._due(reading, changed, good, self._heartbeats_ms)
        sections: list[dict[str, Any]] = []
        texts: list[str] = []
        self._add(sections, texts, changed, reading)
        sent = changed
        if again is not None and again.any():
            self._add(sections, texts, again, reading, {"again": True})
            sent = changed | again
        number = int(np.count_nonzero(sent))
        size = quality.size
        counters = Counters(size, size - number) if well else self._count(quality, sent, number)
        return Update(sections, texts, counters, reading, changed, again, self.good_at_ms, self._generation)

    def keep(self, update: Update, at_ms: int) -> None:
        """Remember that an update arrived; points within their deadband keep the value that was sent.

        When everything was forgotten while the update was under way, it stays forgotten.
        """
        self.good_at_ms = at_ms
        if update.generation != self._generation:
            return
        reading = update.reading
        if self._exact:
            self._values = reading.values
        elif not update.empty:
            self._values = np.where(update.changed, reading.values, self._values)
        if update.again is not None:
            self._sent_at_ms[update.changed | update.again] = at_ms
        self._quality = reading.quality.copy()
        self._texts = reading.texts
        self._failed = None

    def _due(self, reading: Reading, changed: Flags, good: Flags, heartbeats_ms: NDArray[np.int64]) -> Flags:
        """Return which unchanged points are sent again; one that moved at all counts as changed.

        Sent now are those whose heartbeat would be missed by the next reading.
        """
        since = reading.at_ms - self._sent_at_ms
        step = 0 if self.good_at_ms is None else max(reading.at_ms - self.good_at_ms, 0)
        due: Flags = good & ~changed & (heartbeats_ms != 0) & (since + step > heartbeats_ms)
        moved = due & (reading.values != self._values)
        changed |= moved
        due &= ~moved
        return due

    def _add(
        self,
        sections: list[dict[str, Any]],
        texts: list[str],
        chosen: Flags,
        reading: Reading,
        marks: dict[str, Any] | None = None,
    ) -> None:
        """Add the sections of the chosen points, and what to publish of each."""
        index = np.flatnonzero(chosen)
        if not index.size:
            return
        for own in self.block.sections:
            part = index[(index >= own.start) & (index < own.stop)] if len(self.block.sections) > 1 else index
            if part.size:
                section, text = _text_section(own, part, reading) if own.text else _section(own, part, reading)
                sections.append(section | marks if marks else section)
                texts.append(text)

    def failure_is_news(self, failure: Failure) -> bool:
        """Say whether the points are not known to be in this state."""
        return self._failed != failure.quality

    def keep_failure(self, failure: Failure) -> None:
        """Remember that the points were marked; whatever comes next is a change."""
        self._quality.fill(UNSENT)
        self._failed = failure.quality

    def failed(self, failure: Failure) -> dict[str, Any]:
        """Return the marking of every point of the block, as `comsrv_set_quality` takes it."""
        sections = [{"type": _type(section), "ids": list(section.ids)} for section in self.block.sections]
        return {
            "block": self.block.name, "at_ms": failure.at_ms, "quality": failure.quality, "sections": sections,
        }  # fmt: skip

    def _moved(self, values: Values) -> Flags:
        """Return which values are further from the ones sent than their deadband."""
        moved: Flags = values != self._values if self._exact else np.abs(values - self._values) > self._thresholds
        return moved

    def _count(self, quality: Codes, changed: Flags, sent: int) -> Counters:
        """Count a reading: a sample is sent, or unchanged, or rejected as bad when its badness is no news."""
        if sent == quality.size:
            return Counters(polled=sent)
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


def _type(section: Section) -> str:
    """Return the type of a section in a document: X for texts, which have a hash of their own."""
    return TEXT if section.text else section.kind.value


@lru_cache(4096)
def _template(ids: tuple[str, ...]) -> str:
    """Return what is published of a whole section, with a place for each value."""
    return ",".join([f'"{point}":%s' for point in ids])


def _section(section: Section, index: NDArray[np.intp], reading: Reading) -> tuple[dict[str, Any], str]:
    """Return a section and its text for publishing. A bad sample has a quality only, an uncertain one both."""
    ids, start = section.ids, section.start
    codes = reading.quality[index]
    if not codes.any():
        chosen = list(ids) if index.size == len(ids) else [ids[place - start] for place in index.tolist()]
        texts = format_values(reading.values[index].tolist())
        if index.size == len(ids):
            members = _template(ids) % tuple(texts)
        else:
            members = ",".join([f'"{point}":{text}' for point, text in zip(chosen, texts, strict=True)])
        return {"type": section.kind.value, "ids": chosen, "values": texts}, f'"points":{{{members}}},"quality":{{}}'
    marks, valued = _marks(section, index, codes)
    texts = format_values(reading.values[valued].tolist())
    return _marked(section, valued, texts, texts, marks)


def _text_section(section: Section, index: NDArray[np.intp], reading: Reading) -> tuple[dict[str, Any], str]:
    """Return the section of texts that changed, and its text for publishing."""
    marks, valued = _marks(section, index, reading.quality[index])
    texts = [reading.texts[place - section.start] for place in valued]
    return _marked(section, valued, texts, [orjson.dumps(text).decode() for text in texts], marks)


def _marks(section: Section, index: NDArray[np.intp], codes: Codes) -> tuple[dict[str, str], list[int]]:
    """Return the qualities that are not good, by point, and the places of the points that have a value."""
    marks: dict[str, str] = {}
    valued: list[int] = []
    for place, code in zip(index.tolist(), codes.tolist(), strict=True):
        text = QUALITY[code]
        if text:
            marks[section.ids[place - section.start]] = text
        if not text.startswith("bad:"):
            valued.append(place)
    return marks, valued


def _marked(
    section: Section, valued: list[int], values: list[str], shown: list[str], marks: dict[str, str]
) -> tuple[dict[str, Any], str]:
    chosen = [section.ids[place - section.start] for place in valued]
    members = ",".join(f'"{point}":{text}' for point, text in zip(chosen, shown, strict=True))
    qualities = ",".join(f'"{point}":"{text}"' for point, text in marks.items())
    document = {"type": _type(section), "ids": chosen, "values": values, "quality": marks}
    return document, f'"points":{{{members}}},"quality":{{{qualities}}}'
