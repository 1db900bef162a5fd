"""The units behind a channel's connection, and the blocks as the poller sees them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from services.comsrv.contract import Block, Cost, Span
from services.comsrv.costs import CostModel
from services.comsrv.isolation import Search
from services.comsrv.quarantine import Entry

# Answers after which a unit's pace is known.
KNOWN: Final = 10
# The slowest answer counts less with each quicker one: by half in 700.
FADING: Final = 0.999
# A unit that has neighbors is waited for so many times its slowest answer before it is their turn again.
PATIENCE: Final = 4.0


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
        self.failures = 0
        self.since_ms = 0
        self.next_ms = 0.0
        self.doubted_ms = 0.0
        self.requests = 0
        self.timeouts = 0
        self.exceptions: Counter[int] = Counter()
        self.answers = 0
        self.slowest_ms = 0.0
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
        if milliseconds > self.slowest_ms:
            self.slowest_ms = milliseconds
            return True
        self.slowest_ms *= FADING
        return not self.answers & 63

    def hurried(self, floor_ms: float, longest_ms: float) -> None:
        """Set how long the unit is waited for while others wait for their turn."""
        wait_ms = max(PATIENCE * self.slowest_ms, floor_ms)
        self.timeout_ms = int(wait_ms) + 1 if self.answers >= KNOWN and wait_ms < longest_ms else None

    def doubted(self, task: Task, now: float) -> None:
        """Note that a block had no answer in the time that its neighbors could spare."""
        self.health, self.doubted_ms, self.owed = Health.DOUBTED, now, [task]

    def recovered(self) -> None:
        """Take it for well again."""
        self.health, self.problem, self.failures = Health.RUNNING, "", 0

    def document(self) -> dict[str, Any]:
        """Return its state for the channel's status."""
        return {"state": "down" if self.problem else "running", "problem": self.problem}

    def diagnostics(self) -> dict[str, Any]:
        """Return all there is to say."""
        return self.document() | {
            "failures": self.failures,
            "since_ms": self.since_ms,
            "requests": self.requests,
            "timeouts": self.timeouts,
            "exceptions": {str(code): number for code, number in sorted(self.exceptions.items())},
            "slowest_ms": round(self.slowest_ms, 3),
            "timeout_ms": self.timeout_ms,
            "cost": self.cost.document(),
            "last_error": self.last_error,
            "last_error_at_ms": self.last_error_at_ms,
        }


@dataclass(eq=False, slots=True)
class Task:
    """A block with what the poller knows about it. `length` is what its request reads, in registers."""

    block: Block
    unit: Unit
    length: float
    span: Span | None
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

    @property
    def group(self) -> str:
        """The poll group."""
        return self.block.group

    @property
    def name(self) -> str:
        """The block's name."""
        return self.block.name
