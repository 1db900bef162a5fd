"""Queue entries become samples: what comsrv_ingest took, msgpack or JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgpack
import orjson

from libs.errors import InvalidError
from libs.instants import MAX_MS

GOOD: Final = "good"
_KINDS: Final = frozenset("TSCA")


class Sample(NamedTuple):
    """A point at an instant. `kind` is empty for a model's point; without a value the last good one stands."""

    service: str
    owner: str
    kind: str
    point: str
    at_ms: int
    value: float | None
    quality: str = GOOD

    @property
    def ref(self) -> str:
        """The point's reference."""
        return ":".join(part for part in self[:4] if part)


class QueueEntry(NamedTuple):
    """An entry of hissrv:queue: its id, image number, channel, and the document as it came."""

    id: tuple[int, int]
    image: int
    channel: str
    document: bytes


def samples_of(entry: QueueEntry) -> list[Sample]:
    """Return an entry's samples in the order they happened.

    Raises:
        InvalidError: the document can't be read.
    """
    try:
        raw = entry.document
        document = orjson.loads(raw) if raw.startswith(b"{") else msgpack.unpackb(raw)
        return list(_samples(document, entry.channel))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidError(f"unreadable document: {type(error).__name__}: {error}"[:500]) from error


def _samples(document: dict[str, Any], channel: str) -> Iterator[Sample]:
    service, owner = str(document.get("service") or "comsrv"), str(document.get("channel", channel))
    for section in document.get("sections") or ():
        kind = section["type"]
        if kind not in _KINDS:
            continue
        at_ms = _instant(document["at_ms"])
        # Redis writes an empty table as a list or as an object.
        quality = dict(section.get("quality") or {})
        for point, text in zip(section.get("ids") or (), section.get("values") or (), strict=True):
            said = str(quality.pop(str(point), GOOD))
            yield Sample(service, owner, kind, str(point), at_ms, _value(text), said)
        for point, said in quality.items():
            yield Sample(service, owner, kind, str(point), at_ms, None, str(said))
    for kind, point, at_ms, text, *rest in document.get("events") or ():
        if kind in _KINDS:
            said = str(rest[0] or GOOD) if rest else GOOD
            yield Sample(service, owner, kind, str(point), _instant(at_ms), _value(text), said)


def _instant(value: Any) -> int:
    if not 0 <= (at_ms := int(value)) <= MAX_MS:
        raise ValueError(f"no instant: {value!r}")
    return at_ms


def _value(text: Any) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"value {text!r} is not finite")
    return value
