"""Queue entries become samples: what comsrv_ingest took, msgpack or JSON, to parts of a store's entry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack
import numpy as np
import orjson

from libs.errors import InvalidError
from services.hissrv.recording import Recorder, Recording
from services.hissrv.store.contract import Entry, EntryId, Part

MAX_INSTANT: Final = 2**53
# A document names its producer only where that is not comsrv.
_SERVICE: Final = "comsrv"
_JSON_START: Final = b"{"
_KINDS: Final = frozenset("TSCA")


class QueueEntry(NamedTuple):
    """An entry of hissrv:queue: image number, channel, samples it was counted with, the document."""

    id: EntryId
    image: int
    channel: str
    samples: int
    document: bytes


class Decoded(NamedTuple):
    """What to write, and how many samples the mappings left out."""

    entry: Entry
    filtered: int


class _Sample(NamedTuple):
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
    try:
        document = _parse(entry.document)
        service = str(document.get("service") or _SERVICE)
        prefix = f"{service}:{document.get('channel', entry.channel)}:"
        samples = [sample for sample in _samples(document, prefix, recorder) if recorder.due(sample)]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidError(f"unreadable document: {type(error).__name__}: {error}"[:500]) from error
    return Decoded(Entry(entry.id, _parts(samples)), max(0, entry.samples - len(samples)))


def _parse(document: bytes) -> dict[str, Any]:
    parsed = orjson.loads(document) if document.startswith(_JSON_START) else msgpack.unpackb(document)
    if not isinstance(parsed, dict):
        raise TypeError(f"a {type(parsed).__name__} instead of an object")
    return parsed


def _instant(value: Any) -> int:
    if isinstance(value, bool) or not 0 <= (at_ms := int(value)) <= MAX_INSTANT:
        raise ValueError(f"no instant: {value!r}")
    return at_ms


def _value(text: Any, recording: Recording) -> float:
    value = float(text) * recording.scale + recording.offset
    if not math.isfinite(value):
        raise ValueError(f"value {text!r} is not finite")
    return value


def _samples(document: dict[str, Any], prefix: str, recorder: Recorder) -> Iterator[_Sample]:
    """Yield the recorded samples: sections at the document's instant, then events at their own."""
    for section in document.get("sections") or ():
        kind = section["type"]
        if kind not in _KINDS:
            continue
        at_ms = _instant(document["at_ms"])
        # Redis writes an empty table as a list or as an object.
        quality = dict(section.get("quality") or {})
        ids = list(section.get("ids") or ())
        for point, text in zip(ids, section.get("values") or (), strict=True):
            if recording := recorder.of(f"{prefix}{kind}:{point}"):
                yield _Sample(
                    at_ms, recording.ref, _value(text, recording), str(quality.pop(str(point), "")), recording
                )
            else:
                quality.pop(str(point), None)
        for point, text in quality.items():
            if recording := recorder.of(f"{prefix}{kind}:{point}"):
                yield _Sample(at_ms, recording.ref, math.nan, str(text), recording)
    for kind, point, at_ms, text, *rest in document.get("events") or ():
        if kind in _KINDS and (recording := recorder.of(f"{prefix}{kind}:{point}")):
            quality_text = str(rest[0] or "") if rest else ""
            yield _Sample(_instant(at_ms), recording.ref, _value(text, recording), quality_text, recording)


def _parts(samples: list[_Sample]) -> list[Part]:
    """Group samples by instant and retention; a series that comes twice at an instant opens another part."""
    groups: dict[tuple[int, int, int], list[_Sample]] = {}
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
