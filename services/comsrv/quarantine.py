"""What was learned about a channel's devices, on disk: addresses they refuse, borders, lengths, costs.

An address in quarantine is asked for alone, with growing pauses, until it answers. The file
stands in the data directory and is as good as a cache: without it everything is learned again,
and what belongs to other devices - another endpoint - is left aside.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libs.clock import now_ms
from services.comsrv.backoff import Backoff
from services.comsrv.channel import Channel
from services.comsrv.contract import Cost, Knowledge, NoAnswerError, Span
from services.comsrv.faults import refusal

log = logging.getLogger(__name__)

VERSION: Final = 1
FIRST_PAUSE_MS: Final = 1000
LONGEST_PAUSE_MS: Final = 3_600_000
# In place of an exception code: no answer at all, though the unit answers others.
SILENT: Final = 0


@dataclass
class Entry:
    """A value that the device refuses: the exception code, since when, and when it is asked again."""

    span: Span
    code: int
    since_ms: int
    tries: int = 0
    # Of the monotonic clock.
    next_ms: float = 0.0

    @property
    def quality(self) -> str:
        """What its points are."""
        return NoAnswerError.quality if self.code == SILENT else refusal(self.code)

    def pause(self, now: float) -> None:
        """Wait longer each time, up to an hour."""
        backoff = Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS)
        backoff.attempts = self.tries
        self.tries += 1
        self.next_ms = now + backoff.next_ms()

    def document(self, now: float) -> dict[str, Any]:
        """Return it as the API shows it."""
        place = {"unit": self.span.unit, "table": self.span.table, "address": self.span.address}
        return place | {
            "length": self.span.length,
            "exception": self.code,
            "quality": self.quality,
            "since_ms": self.since_ms,
            "tries": self.tries,
            "next_try_in_ms": max(int(self.next_ms - now), 0),
        }


class Quarantine:
    """What was learned about the devices of one channel."""

    def __init__(self, path: Path | None = None, devices: str = "") -> None:
        """Read what an earlier process learned about the same devices.

        Args:
            path: the file; None to keep nothing.
            devices: says which devices these are, as an endpoint does.
        """
        self.entries: dict[Span, Entry] = {}
        self.borders: set[tuple[str, str, int]] = set()
        self.limits: dict[tuple[str, str], int] = {}
        self.costs: dict[str, Cost] = {}
        self._path = path
        self._devices = devices
        if path is not None and path.exists():
            try:
                self._take(json.loads(path.read_text("utf-8")))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("%s is left aside and learned again: %r", path, error)
                self.entries, self.borders, self.limits, self.costs = {}, set(), {}, {}

    @classmethod
    def of(cls, channel: Channel, data_dir: Path) -> Quarantine:
        """Return what was learned about a channel's devices; other parameters are other devices."""
        return cls(data_dir / "comsrv" / "learned" / f"{channel.id}.json", json.dumps(channel.parameters))

    @property
    def empty(self) -> bool:
        """True where nothing was learned."""
        return not (self.entries or self.borders or self.limits or self.costs)

    @property
    def knowledge(self) -> Knowledge:
        """What matters for planning."""
        illegal = frozenset(span for span, entry in self.entries.items() if entry.code != SILENT)
        return Knowledge(illegal, frozenset(self.borders), dict(self.limits), dict(self.costs))

    def add(self, span: Span, code: int, now: float) -> Entry:
        """Put a value in quarantine."""
        entry = self.entries[span] = Entry(span, code, now_ms())
        entry.pause(now)
        return entry

    def release(self, span: Span, now: float) -> None:
        """Let a value go that answered; those of the same unit are asked soon, as the device has changed."""
        del self.entries[span]
        self.hurry(now, span.unit)

    def hurry(self, now: float, unit: str | None = None) -> None:
        """Ask for everything of a unit, or of all, soon."""
        for entry in self.entries.values():
            if unit is None or entry.span.unit == unit:
                entry.next_ms = min(entry.next_ms, now)

    def limit(self, unit: str, table: str, length: int) -> None:
        """Keep how long a request may be."""
        self.limits[unit, table] = min(length, self.limits.get((unit, table), length))

    def save(self) -> None:
        """Write the file; a power cut leaves the old one or the new one."""
        if self._path is None:
            return
        document = {
            "version": VERSION,
            "devices": self._devices,
            "illegal": [
                [*entry.span, entry.code, entry.since_ms, entry.tries]
                for entry in list(self.entries.values())
                if entry.code != SILENT
            ],
            "borders": sorted(self.borders),
            "limits": [[*place, length] for place, length in sorted(self.limits.items())],
            "costs": dict(self.costs),
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".new")
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            log.warning("%s can't be written; after a restart it is learned again: %s", self._path, error)

    def _take(self, document: Mapping[str, Any]) -> None:
        if (document["version"], document["devices"]) != (VERSION, self._devices):
            return
        for unit, table, address, length, code, since_ms, tries in document["illegal"]:
            span = Span(str(unit), str(table), int(address), int(length))
            # Asked for at once: the device may be another one by now, or mended.
            self.entries[span] = Entry(span, int(code), int(since_ms), int(tries))
        self.borders = {(str(unit), str(table), int(address)) for unit, table, address in document["borders"]}
        self.limits = {(str(unit), str(table)): int(length) for unit, table, length in document["limits"]}
        self.costs = {str(unit): Cost(float(one[0]), float(one[1])) for unit, one in document["costs"].items()}
