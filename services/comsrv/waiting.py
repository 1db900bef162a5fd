"""What a channel has read and Redis has not taken yet: bounded, and what waits together leaves together."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from services.comsrv.blockimage import Failure
from services.comsrv.contract import Block, Reading

# Readings that wait while Redis is away, at least; more where a channel has more blocks.
LEAST: Final = 64
# Blocks and points that leave in one call, at most: they share its fixed cost. A call takes 500 points (DESIGN,
# Budget), and one of half of that costs a point hardly more and keeps everybody else waiting half as long.
MOST_BLOCKS: Final = 16
MOST_POINTS: Final = 250
# A poller waits so long for a queue that is half full.
ROOM_S: Final = 1.0

Item = tuple[Block, Reading | Failure]


class Waiting:
    """A queue of readings and failures."""

    def __init__(self) -> None:
        """Start without any."""
        self.most = LEAST
        self._items: deque[Item] = deque()
        self._space = asyncio.Event()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._items)

    @property
    def crowded(self) -> bool:
        """True while it is half full."""
        return 2 * len(self._items) >= self.most

    @property
    def enough(self) -> bool:
        """True when no further block goes into the call of those that wait."""
        if len(self._items) >= MOST_BLOCKS:
            return True
        points = sum(block.size for block, _ in self._items)
        return points + self._items[-1][0].size > MOST_POINTS

    def grow(self, blocks: int) -> None:
        """Hold a few readings of so many blocks."""
        self.most = max(LEAST, 4 * blocks)

    def put(self, block: Block, item: Reading | Failure) -> None:
        """Add what became of a block."""
        self._items.append((block, item))

    def oldest(self) -> Item:
        """Take the oldest."""
        found = self._items.popleft()
        if not self.crowded:
            self.wake()
        return found

    def together(self) -> list[Item]:
        """Take what leaves in one call: the oldest, and with a reading those of other blocks right behind it."""
        block, item = first = self.oldest()
        batch = [first]
        points, names = block.size, {block.name}
        while self._items and isinstance(item, Reading) and len(batch) < MOST_BLOCKS:
            block, item = self._items[0]
            points += block.size
            if block.name in names or points > MOST_POINTS or isinstance(item, Failure):
                break
            names.add(block.name)
            batch.append(self.oldest())
        return batch

    async def space(self) -> None:
        """Wait, shortly, until it is less than half full, or for `wake`."""
        self._space.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(ROOM_S):
                await self._space.wait()

    def wake(self) -> None:
        """Let nobody wait for space."""
        self._space.set()
