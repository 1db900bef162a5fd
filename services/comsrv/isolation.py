"""Find out what a device refuses of a block that it refuses as a whole.

A search without I/O: it yields what to ask for, and is told whether it was answered. In
some 2 * log2(n) requests it finds a single address that the device does not have, among n;
where both halves are answered and the whole is not, it finds the border or the length that
the device can't pass. A device that refuses everything, as while it restarts, teaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

# What to ask for: the pieces from the first to before the second. Told: whether it was answered.
Search = Generator[tuple[int, int], bool, "Finding"]


@dataclass
class Finding:
    """What was found.

    Attributes:
        refused: pieces that the device refuses alone.
        borders: pieces before which a request must end.
        longest: the length of the longest request that is answered; None where length is not the reason.
        everything: nothing that was tried was answered, and not all was tried.
    """

    refused: list[int] = field(default_factory=list)
    borders: list[int] = field(default_factory=list)
    longest: int | None = None
    everything: bool = False

    @property
    def empty(self) -> bool:
        """True when there is nothing to learn from it: the device refused for a while only."""
        return not self.refused and not self.borders and self.longest is None


def isolate(count: int, length: Callable[[int, int], int], *, thorough: bool) -> Search:
    """Search a refused block of `count` pieces.

    Args:
        count: number of pieces.
        length: the length of the request for the pieces from the first to before the second.
        thorough: try every piece of a block of which nothing is answered.
    """
    finding = Finding()
    if count == 1:
        finding.refused = [] if (yield 0, 1) else [0]
        return finding
    if not thorough and not (yield from _anything(count)):
        finding.everything = True
        return finding
    refused = [(0, count)]
    while refused:
        first, stop = refused.pop()
        if stop - first == 1:
            finding.refused.append(first)
            continue
        middle = (first + stop) // 2
        too_long = finding.longest is not None and length(first, stop) > finding.longest
        left = yield first, middle
        right = yield middle, stop
        if not right:
            refused.append((middle, stop))
        if not left:
            refused.append((first, middle))
        if left and right and not too_long:
            yield from _edge(first, middle, stop, length, finding)
    finding.refused.sort()
    finding.borders.sort()
    return finding


def _anything(count: int) -> Generator[tuple[int, int], bool, bool]:
    """Ask for both halves, then for single pieces; say whether any was answered."""
    middle = (count + 1) // 2
    for first, stop in ((0, middle), (middle, count), (0, 1), (count // 2, count // 2 + 1), (count - 1, count)):
        if (yield first, stop):
            return True
    return False


def _edge(
    first: int, middle: int, stop: int, length: Callable[[int, int], int], finding: Finding
) -> Generator[tuple[int, int], bool, None]:
    """Find what can't be passed between two ranges that are answered, each alone."""
    if (yield first, stop):
        # It was a passing refusal.
        return
    answered, refused = middle, stop
    while refused - answered > 1:
        between = (answered + refused) // 2
        if (yield first, between):
            answered = between
        else:
            refused = between
    # As long a request, one piece further on: it passes the place, so the length is what counts.
    if first + 1 < answered and length(first + 1, refused) <= length(first, answered) and (yield first + 1, refused):
        finding.longest = max(length(first, answered), finding.longest or 0)
    else:
        finding.borders.append(answered)
