"""Queue entries become entries of the store: the samples that are recorded, by instant and retention."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from libs.errors import InvalidError
from libs.redis.queue import QueueEntry, samples_of
from services.hissrv.recording import Recorder, Recording
from services.hissrv.store.contract import Entry, Part


class Decoded(NamedTuple):
    """What to write, how many samples the mappings left out, and how many each took ("" without any)."""

    entry: Entry
    filtered: int
    recorded: Counter[str]


class _Recorded(NamedTuple):
    at_ms: int
    ref: str
    value: float
    quality: str
    recording: Recording


def decode(entry: QueueEntry, recorder: Recorder) -> Decoded:
    """Return the samples of an entry that are to be recorded.

    Raises:
        InvalidError: the document can't be read; the message is the dead letter's reason.
    """
    samples = [sample for sample in _recorded(entry, recorder) if recorder.due(sample)]
    by_mapping = Counter(sample.recording.mapping for sample in samples)
    return Decoded(Entry(entry.id, _parts(samples), entry.image), max(0, entry.samples - len(samples)), by_mapping)


def _recorded(entry: QueueEntry, recorder: Recorder) -> Iterator[_Recorded]:
    for ref, at_ms, value, quality in samples_of(entry):
        if recording := recorder.of(ref):
            yield _Recorded(at_ms, recording.ref, _value(value, recording), quality, recording)


def _value(raw: float | None, recording: Recording) -> float:
    if raw is None:
        return math.nan
    value = raw * recording.scale + recording.offset
    if not math.isfinite(value):
        raise InvalidError(f"value {raw!r} of {recording.ref} is not finite after its mapping's transform")
    return value


def _parts(samples: list[_Recorded]) -> list[Part]:
    """Group samples by instant and retention; a series that comes twice at an instant opens another part."""
    groups: dict[tuple[int, int, int], list[_Recorded]] = {}
    seen: dict[tuple[int, str], int] = {}
    for sample in samples:
        turn = seen.get((sample.at_ms, sample.ref), 0)
        seen[sample.at_ms, sample.ref] = turn + 1
        groups.setdefault((sample.at_ms, sample.recording.retention_days, turn), []).append(sample)
    return [
        Part(
            at_ms,
            [sample.ref for sample in group],
            np.array([sample.value for sample in group]),
            [sample.quality for sample in group] if any(sample.quality for sample in group) else None,
            retention_days,
        )
        for (at_ms, retention_days, _), group in groups.items()
    ]
