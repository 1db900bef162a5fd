"""What a crash of Redis takes: the last calls it had taken, which its file did not have yet.

Redis loses the end of what it did, never the middle. So the calls it took lately are kept
here in order; after it was away, those after the last one it still knows are lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from libs.clock import monotonic_ms

# The append-only file is written every second; a disk that is slow may make it some more.
KEPT_MS: Final = 30_000


class _Taken(NamedTuple):
    at_ms: int
    samples: int
    sequence: int = 0
    # A renewal has no sequence number: a block, and its instant that came with it.
    block: str = ""
    seen_ms: int = 0


class Survived(NamedTuple):
    """What Redis knows of a channel now."""

    epoch: int
    sequence: int
    seen: Mapping[str, int]


class Reckoning:
    """The calls of one lease that Redis took lately."""

    def __init__(self) -> None:
        """Start without any."""
        self._taken: deque[_Taken] = deque()

    def ingested(self, sequence: int, samples: int) -> None:
        """Note a block that was taken, and how many samples its counters had."""
        self._note(_Taken(monotonic_ms(), samples, sequence))

    def renewed(self, seen: Mapping[str, int], samples: int) -> None:
        """Note a renewal that was taken; one without instants has no samples."""
        if seen and samples:
            block = max(seen, key=seen.__getitem__)
            self._note(_Taken(monotonic_ms(), samples, 0, block, seen[block]))

    def _note(self, taken: _Taken) -> None:
        self._taken.append(taken)
        while self._taken[0].at_ms < taken.at_ms - KEPT_MS:
            self._taken.popleft()

    def lost(self, epoch: int, now: Survived) -> int:
        """Return the samples of the calls that Redis has forgotten, and forget them too.

        Where another comsrv has taken the channel since, nobody can tell, and nothing is counted.
        """
        if now.epoch > epoch:
            return 0
        gone = [one for one in self._taken if now.epoch < epoch or _forgotten(one, now)]
        for one in gone:
            self._taken.remove(one)
        return sum(one.samples for one in gone)

    def clear(self) -> None:
        """Begin anew, with a new lease."""
        self._taken.clear()


def _forgotten(one: _Taken, now: Survived) -> bool:
    return one.sequence > now.sequence if one.sequence else now.seen.get(one.block, 0) < one.seen_ms
