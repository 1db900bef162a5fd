"""Two stores at once: every entry goes to both, questions go to the first."""

from __future__ import annotations

from collections.abc import Callable

from libs.influx.lines import Label
from libs.redis.queue import EntryId
from services.hissrv.store.contract import Entry, Latest, Points, Query, Refused, Samples, Store, StoreStatus, Written


class PairStore:
    """A `Store` of two. An entry counts once both have it; while either is away, the queue waits for it.

    What one has already, a repeat does not change, so a batch that reached only one of them is simply written again.
    """

    def __init__(self, first: Store, second: Store) -> None:
        """Keep them; the first one answers."""
        self.first = first
        self.second = second
        self._open = 0

    @property
    def names(self) -> tuple[str, ...]:
        """See `Store.names`."""
        return (*self.first.names, *self.second.names)

    async def open(self) -> None:
        """See `Store.open`; one that is open already stays so while the other is waited for."""
        for number, store in enumerate((self.first, self.second)):
            if self._open <= number:
                await store.open()
                self._open = number + 1

    def label(self, of: Callable[[str], Label]) -> None:
        """See `Store.label`."""
        self.first.label(of)
        self.second.label(of)

    async def write(self, entries: list[Entry], *, forget_before: EntryId | None = None) -> Written:
        """See `Store.write`; what either refuses is refused, and may be tried again."""
        first = await self.first.write(entries, forget_before=forget_before)
        second = await self.second.write(entries, forget_before=forget_before)
        refused: dict[tuple[EntryId, str, int], Refused] = {}
        for store, written in ((self.first, first), (self.second, second)):
            for one in written.refused:
                known = refused.setdefault((one.entry, one.series, one.at_ms), one)
                refused[one.entry, one.series, one.at_ms] = known._replace(stores=(*known.stores, *store.names))
        more = len(refused) - len(first.refused)
        return Written(max(0, first.samples - more), first.repeated, list(refused.values()))

    async def load(self, samples: Samples) -> None:
        """See `Store.load`."""
        await self.first.load(samples)
        await self.second.load(samples)

    async def query(self, query: Query) -> dict[str, Points]:
        """See `Store.query`."""
        return await self.first.query(query)

    async def latest(self, series: list[str] | None, *, limit: int, after: str = "") -> list[Latest]:
        """See `Store.latest`."""
        return await self.first.latest(series, limit=limit, after=after)

    async def maintain(self, now_ms: int) -> None:
        """See `Store.maintain`."""
        await self.first.maintain(now_ms)
        await self.second.maintain(now_ms)

    async def status(self) -> StoreStatus:
        """See `Store.status`: the first one's, with the names of both."""
        first, second = await self.first.status(), await self.second.status()
        return first._replace(kind=f"{first.kind} and {second.kind}")

    async def close(self) -> None:
        """See `Store.close`."""
        self._open = 0
        await self.first.close()
        await self.second.close()
