"""Counter deltas of samples, carried by the next accepted call and never lost or doubled.

polled = stored + unchanged + rejected(reason); Redis counts `stored` itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counters:
    """Deltas since the last accepted call."""

    polled: int = 0
    unchanged: int = 0
    late: int = 0
    lost: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counters) -> None:
        """Add deltas."""
        self.polled += other.polled
        self.unchanged += other.unchanged
        self.late += other.late
        self.lost += other.lost
        for reason, number in other.rejected.items():
            self.reject(reason, number)

    def subtract(self, other: Counters) -> None:
        """Take away what a call carried."""
        self.polled -= other.polled
        self.unchanged -= other.unchanged
        self.late -= other.late
        self.lost -= other.lost
        for reason, number in other.rejected.items():
            self.reject(reason, -number)

    def reject(self, reason: str, number: int) -> None:
        """Count samples that were not stored for a reason."""
        total = self.rejected.get(reason, 0) + number
        if total:
            self.rejected[reason] = total
        else:
            self.rejected.pop(reason, None)

    def copy(self) -> Counters:
        """Return the deltas as they are now."""
        return Counters(self.polled, self.unchanged, self.late, self.lost, dict(self.rejected))

    def document(self) -> dict[str, Any]:
        """Return the deltas as the functions take them: only what is not zero."""
        found: dict[str, Any] = {name: getattr(self, name) for name in ("polled", "unchanged", "late")}
        return {name: value for name, value in found.items() if value} | (
            ({"rejected": dict(self.rejected)} if self.rejected else {})
            | ({"lost": {"redis_restart": self.lost}} if self.lost else {})
        )
