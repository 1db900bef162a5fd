"""Mappings decide which points are recorded, and how."""

from __future__ import annotations

import logging
import re
from fnmatch import translate
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field, ValidationError

from libs.definitions import Definition
from libs.influx.lines import DEFAULT, Label
from libs.validation import Model, Pattern

_LOG = logging.getLogger(__name__)


class Transform(Model):
    """recorded = value * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0


class Mapping(Definition):
    """What is recorded and how; of those whose source matches a point, the first enabled one by id decides."""

    source: Pattern = Field(description="pattern over references: comsrv:1001:T:*")
    measurement: str = Field("telemetry", min_length=1, max_length=64)
    tags: dict[str, str] = Field({}, description="tag -> text with {service}, {channel}, {model}, {type}, {point}")
    fields: dict[str, str] = Field({}, description="point or reference -> field name; if given, only these points")
    transform: Transform = Transform()
    sampling: Literal["on_change", "interval"] = "on_change"
    interval_ms: int = Field(1000, ge=1, le=86_400_000, description="sampling by interval: at most one sample in it")
    deadband: float = Field(0, ge=0, description="a value that moved by less since the recorded one is left out")
    retention_days: int = Field(0, ge=0, le=36_500, description="0: the store's own")
    enabled: bool = True
    description: str = Field("", max_length=1000)


class Recording(NamedTuple):
    """How one point is recorded. `every_ms` 0: each change."""

    ref: str
    scale: float = 1.0
    offset: float = 0.0
    every_ms: int = 0
    retention_days: int = 0
    label: Label = DEFAULT
    deadband: float = 0.0
    mapping: str = ""


class _Sample(Protocol):
    @property
    def at_ms(self) -> int: ...
    @property
    def value(self) -> float: ...
    @property
    def ref(self) -> str: ...
    @property
    def quality(self) -> str: ...
    @property
    def recording(self) -> Recording: ...


class Recorder:
    """Answers for each reference whether and how it is recorded; the answers are kept."""

    def __init__(self, mappings: list[Mapping]) -> None:
        self._mappings = [
            (re.compile(translate(mapping.source)), mapping)
            for mapping in sorted(mappings, key=lambda mapping: mapping.id or "")
            if mapping.enabled
        ]
        # Disabling the only mapping stops recording; having none at all records everything.
        self._everything = not mappings
        self._known: dict[str, Recording | None] = {}
        self._taken: dict[str, tuple[int, bool, float]] = {}

    def of(self, ref: str) -> Recording | None:
        """Return how a point is recorded, or None."""
        try:
            return self._known[ref]
        except KeyError:
            recording = self._known[ref] = self._decide(ref)
            return recording

    def _decide(self, ref: str) -> Recording | None:
        _, _, kind, point = (ref.split(":") + [""] * 4)[:4]
        if self._everything:
            return Recording(ref) if kind in {"T", "S"} else None
        for pattern, mapping in self._mappings:
            if pattern.match(ref):
                if mapping.fields and not {ref, point} & mapping.fields.keys():
                    return None
                return Recording(
                    ref,
                    mapping.transform.scale,
                    mapping.transform.offset,
                    mapping.interval_ms if mapping.sampling == "interval" else 0,
                    mapping.retention_days,
                    Label(
                        mapping.measurement,
                        tuple(sorted(mapping.tags.items())),
                        mapping.fields.get(ref) or mapping.fields.get(point) or "value",
                    ),
                    mapping.deadband,
                    mapping.id or "",
                )
        return None

    def label(self, ref: str) -> Label:
        """Return the measurement, tags and field a point is recorded under."""
        recording = self.of(ref)
        return recording.label if recording else DEFAULT

    def due(self, sample: _Sample) -> bool:
        """Say whether sampling takes a sample.

        By interval: one good one an interval. By deadband: one that moved far enough from the one
        that was recorded. Every change to or from good is taken.
        """
        every_ms, deadband = sample.recording.every_ms, sample.recording.deadband
        if not every_ms and not deadband:
            return True
        interval, good = sample.at_ms // every_ms if every_ms else 0, not sample.quality
        known = self._taken.get(sample.ref)
        due = (
            known is None
            or known[1] != good
            or (bool(every_ms) and known[0] != interval)
            or (bool(deadband) and not abs(sample.value - known[2]) < deadband)
        )
        if due:
            self._taken[sample.ref] = (interval, good, sample.value)
        return due

    def unmatched(self, refs: list[str]) -> list[str]:
        """Return the ids of the mappings that match none of some references."""
        return [mapping.id or "" for pattern, mapping in self._mappings if not any(map(pattern.match, refs))]


def parse_mappings(documents: list[dict[str, Any]]) -> list[Mapping]:
    """Parse stored mappings; one that does not parse is logged and left out, it stops no recording."""
    found = []
    for document in documents:
        try:
            found.append(Mapping.model_validate(document))
        except ValidationError as error:
            _LOG.error("mapping %s is left out: %s", document.get("id"), error)
    return found
