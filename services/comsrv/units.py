"""The units behind a channel's connection, and the blocks as the poller sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, NamedTuple

from services.comsrv.contract import Block, Cost, Reading, Section, Span
from services.comsrv.costs import CostModel
from services.comsrv.isolation import Search
from services.comsrv.quarantine import Entry

# One comsrv_ingest carries at most so many points (DESIGN, Budget).
MAX_POINTS: Final = 500
# Answers after which a unit's pace is known.
KNOWN: Final = 10
# How fast the mean of the round trips follows, and their mean deviation; and how many deviations above the
# mean an answer is expected within (RFC 6298, 2: what TCP waits for an acknowledgment).
MEAN: Final = 1 / 8
DEVIATION: Final = 1 / 4
PATIENCE: Final = 4.0
OUTLIER_MS: Final = 10.0


class Health(Enum):
    """Whether a unit answers."""

    RUNNING = "running"
    # It was slow once; it is asked again before its points are bad, but behind its neighbors.
    DOUBTED = "doubted"
    SILENT = "down"


class Unit:
    """A device behind the connection: whether it answers, how fast, and when it is asked again."""

    def __init__(self, name: str, learned: Cost | None) -> None:
        """Take it for well."""
        self.name = name
        self.health = Health.RUNNING
        self.problem = ""
        # Set while it answers, and refuses all it is asked.
        self.refusal = ""
        self.failures = 0
        self.since_ms = 0
        self.next_ms = 0.0
        self.doubted_ms = 0.0
        self.requests = 0
        self.timeouts = 0
        self.exceptions: Counter[int] = Counter()
        self.answers = 0
        self.mean_ms = 0.0
        self.deviation_ms = 0.0
        self.last_error = ""
        self.last_error_at_ms = 0
        self.cost = CostModel(learned)
        # How long to wait for an answer among neighbors; None for as long as the plugin does.
        self.timeout_ms: int | None = None
        # What to read once the unit has answered again.
        self.owed: list[Task] = []
        # What was answered last, to tell a silent unit from a silent block.
        self.proven: Task | None = None

    def answered(self, length: float, milliseconds: float) -> bool:
        """Count a good answer; say whether the unit's pace may be another by now."""
        self.answers += 1
        self.cost.add(length, milliseconds)
        if self.answers == 1:
            self.mean_ms, self.deviation_ms = milliseconds, milliseconds / 2
            return True
        # One answer that took very long says little; several in a row raise the pace soon enough.
        off_ms = min(milliseconds, 2 * self.pace_ms + OUTLIER_MS) - self.mean_ms
        self.mean_ms += MEAN * off_ms
        self.deviation_ms += DEVIATION * (abs(off_ms) - self.deviation_ms)
        return not self.answers & 7 or off_ms > self.deviation_ms

    @property
    def pace_ms(self) -> float:
        """Within what time an answer is expected."""
        return max(self.mean_ms + PATIENCE * self.deviation_ms, 2 * self.mean_ms)

    def hurried(self, floor_ms: float, longest_ms: float) -> None:
        """Set how long the unit is waited for while others wait for their turn."""
        wait_ms = max(self.pace_ms, floor_ms)
        self.timeout_ms = int(wait_ms) + 1 if self.answers >= KNOWN and wait_ms < longest_ms else None

    def doubted(self, task: Task, now: float) -> None:
        """Note that a block had no answer in the time that its neighbors could spare."""
        self.health, self.doubted_ms, self.owed = Health.DOUBTED, now, [task]

    def recovered(self) -> None:
        """Take it for well again."""
        self.health, self.problem, self.failures = Health.RUNNING, "", 0

    @property
    def trouble(self) -> str:
        """Why nothing of it can be read; empty where something can."""
        return self.problem or self.refusal

    def document(self) -> dict[str, Any]:
        """Return its state for the channel's status."""
        return {"state": "down" if self.trouble else "running", "problem": self.trouble}

    def diagnostics(self) -> dict[str, Any]:
        """Return all there is to say."""
        return self.document() | {
            "failures": self.failures,
            "since_ms": self.since_ms,
            "requests": self.requests,
            "timeouts": self.timeouts,
            "exceptions": {str(code): number for code, number in sorted(self.exceptions.items())},
            "round_trip_ms": round(self.mean_ms, 3),
            "pace_ms": round(self.pace_ms, 3),
            "timeout_ms": self.timeout_ms,
            "cost": self.cost.document(),
            "last_error": self.last_error,
            "last_error_at_ms": self.last_error_at_ms,
        }


class Slice(NamedTuple):
    """Points of a block that one call takes to Redis: from `start` to before `stop`."""

    block: Block
    start: int
    stop: int

    def of(self, reading: Reading) -> Reading:
        """Return what a reading of the whole block says about these points."""
        texts = reading.texts
        if texts:
            first = reading.values.size - len(texts)
            texts = texts[max(self.start - first, 0) : max(self.stop - first, 0)]
        values, quality = reading.values[self.start : self.stop], reading.quality[self.start : self.stop]
        return Reading(reading.at_ms, values, quality, texts)


def sliced(block: Block, most: int = MAX_POINTS) -> tuple[Slice, ...]:
    """Return the slices of a block; one request may read more points than one call takes."""
    if block.size <= most:
        return (Slice(block, 0, block.size),)
    found = []
    for number, start in enumerate(range(0, block.size, most)):
        stop = min(start + most, block.size)
        sections = tuple(
            Section(
                section.kind,
                max(section.start, start) - start,
                min(section.stop, stop) - start,
                section.ids[max(start - section.start, 0) : stop - section.start],
                section.text,
            )
            for section in block.sections
            if section.start < stop and section.stop > start
        )
        part = replace(
            block, name=f"{block.name}.{number + 1}", sections=sections, thresholds=block.thresholds[start:stop]
        )
        found.append(Slice(part, start, stop))
    return tuple(found)


@dataclass(eq=False, slots=True)
class Task:
    """A block with what the poller knows about it. `length` is what its request reads, in registers."""

    block: Block
    unit: Unit
    length: float
    span: Span | None
    # Counts up with each request of the channel: when it was asked last.
    asked: int = 0
    # True once it was answered as it is.
    answered: bool = False
    # The quality of its points while it can't be read; empty while it can.
    problem: str = ""
    # Set while it is asked alone, with growing pauses.
    entry: Entry | None = None
    # Set while it is found out what of it the device refuses.
    search: Search | None = None
    asks: tuple[int, int] = (0, 0)
    parts: dict[tuple[int, int], Block] = field(default_factory=dict)
    code: int = 0
    searches: int = 0
    search_at_ms: float = 0.0
    slices: tuple[Slice, ...] = ()

    def __post_init__(self) -> None:
        """Cut what is too much for one call."""
        self.slices = sliced(self.block)

    @property
    def group(self) -> str:
        """The poll group."""
        return self.block.group

    @property
    def name(self) -> str:
        """The block's name."""
        return self.block.name
