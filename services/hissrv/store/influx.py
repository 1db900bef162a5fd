"""The store in an InfluxDB: lines out, InfluxQL back.

A line of the same series and instant replaces itself, so an entry that comes
again doubles nothing without a list of ids. What differs from the embedded store:
of two samples of a series at one instant the later one stays, a quality comes
back as good, uncertain or bad without its reason, and retention is the server's.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from libs.errors import InvalidError, LimitError
from libs.influx.client import Influx, QueryError, RefusedError, Server
from libs.influx.lines import DEFAULT, Head, Label, clean, encode, head
from libs.redis.queue import EntryId
from services.hissrv.store import influx_read
from services.hissrv.store.answer import Carry, answer, of_samples
from services.hissrv.store.answer import Samples as Series
from services.hissrv.store.contract import (
    GOOD,
    Aggregate,
    Entry,
    Latest,
    Order,
    Part,
    Point,
    Points,
    Query,
    Refused,
    Samples,
    StoreStatus,
    Written,
    quality_number,
)
from services.hissrv.store.edges import edges

_PARALLEL: Final = 4
_MAX_HEADS: Final = 200_000


class _Placed(NamedTuple):
    """Where the lines of a part are: the first one's number, and which samples of the part they are."""

    first: int
    entry: EntryId
    part: Part
    positions: Sequence[int]

    def origin(self, number: int, line: str, reason: str) -> Refused:
        """Return the sample of one of the lines as it was to be written."""
        at, part = self.positions[number], self.part
        quality = part.quality[at] if part.quality else ""
        return Refused(self.entry, part.series[at], part.at_ms, float(part.values[at]), quality, line, reason)


class InfluxStore:
    """A `Store` on a server. batch_lines: lines a request has at most."""

    def __init__(self, server: Server, *, batch_lines: int = 5000) -> None:
        self._influx = Influx(server)
        self._batch_lines = batch_lines
        self._label: Callable[[str], Label] = lambda _: DEFAULT
        self._heads: dict[str, Head] = {}
        self._odd: dict[str, str] = {}
        self._newest_ms: int | None = None
        self._requests = asyncio.Semaphore(_PARALLEL)

    @property
    def names(self) -> tuple[str, ...]:
        """See `Store.names`."""
        return ("server",)

    async def open(self) -> None:
        """Reach the server; see `Store.open`."""
        await self._influx.open()

    def label(self, of: Callable[[str], Label]) -> None:
        """See `Store.label`."""
        self._label = of
        self._heads.clear()

    async def write(self, entries: list[Entry], *, forget_before: EntryId | None = None) -> Written:  # noqa: ARG002
        """See `Store.write`; lines the server refuses are named, the others are written."""
        lines: list[str] = []
        placed: list[_Placed] = []
        refused: list[Refused] = []
        for entry in entries:
            for part in entry.parts:
                heads = [self._head(ref) for ref in part.series]
                quality = [quality_number(text) for text in part.quality] if part.quality else [GOOD] * len(heads)
                made = encode(heads, part.values, quality, part.at_ms)
                positions: Sequence[int] = range(len(made))
                if self._odd and (odd := [at for at in positions if part.series[at] in self._odd]):
                    here = _Placed(0, entry.id, part, positions)
                    refused += [here.origin(at, "", self._odd[part.series[at]]) for at in odd]
                    positions = [at for at in positions if part.series[at] not in self._odd]
                    made = [made[at] for at in positions]
                placed.append(_Placed(len(lines), entry.id, part, positions))
                lines += made
                self._newest_ms = max(part.at_ms, self._newest_ms or 0)
        for start in range(0, len(lines), self._batch_lines):
            for at, reason in await self._write(lines, start, min(start + self._batch_lines, len(lines))):
                of = placed[bisect_right(placed, at, key=lambda one: one.first) - 1]
                refused.append(of.origin(at - of.first, lines[at], reason))
        return Written(sum(len(part.series) for entry in entries for part in entry.parts) - len(refused), 0, refused)

    async def load(self, samples: Samples) -> None:
        """See `Store.load`."""
        heads = [self._head(ref) for ref in samples.series]
        lines: list[str] = []
        for at, (found, text) in enumerate(zip(heads, samples.reason, strict=True)):
            if found.bare:
                quality = [quality_number(text)]
                lines += encode([found], samples.value[at : at + 1], quality, int(samples.at_ms[at]))
        for start in range(0, len(lines), self._batch_lines):
            bad = await self._write(lines, start, min(start + self._batch_lines, len(lines)))
            if bad:
                raise InvalidError(f"the server refuses {lines[bad[0][0]]}: {bad[0][1]}")

    def _head(self, ref: str) -> Head:
        known = self._heads.get(ref)
        if known is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            try:
                known = head(ref, self._label(ref))
            except InvalidError as error:
                # One odd reference costs its samples, not the batch.
                known, self._odd[ref] = Head("", ""), str(error)
            self._heads[ref] = known
        return known

    async def _write(self, lines: list[str], start: int, end: int) -> list[tuple[int, str]]:
        """Write a range of lines; halve what is refused until the bad lines stand alone: (position, reason)."""
        try:
            await self._influx.write(lines[start:end])
        except RefusedError as error:
            if end - start == 1:
                return [(start, str(error))]
            middle = (start + end) // 2
            return await self._write(lines, start, middle) + await self._write(lines, middle, end)
        return []

    async def query(self, query: Query) -> dict[str, Points]:
        """See `Store.query`."""
        if influx_read.exact(query):
            return dict(await self._each(query, self._aggregated))
        found = await self._each(query, self._samples)
        return await asyncio.to_thread(
            lambda: {ref: of_samples(query, Series.of(rows[0]), Series.of(rows[1])) for ref, rows in found}
        )

    async def _each(self, query: Query, ask: Callable[[Query, str], Coroutine[Any, Any, Any]]) -> list[tuple[str, Any]]:
        """Ask for each series, some at a time; a statement about one series is one every version understands."""
        answers = await asyncio.gather(*(ask(query, ref) for ref in query.series), return_exceptions=True)
        for one in answers:
            if isinstance(one, BaseException):
                raise one
        return list(zip(query.series, answers, strict=True))

    async def _ask(self, statement: str) -> list[dict[str, Any]]:
        async with self._requests:
            try:
                return await self._influx.query(statement)
            except QueryError as error:
                raise InvalidError(f"InfluxDB refuses the query: {error}") from error

    async def _aggregated(self, query: Query, ref: str) -> Points:
        good, samples = influx_read.buckets(query, ref, self._label(ref))
        found = influx_read.merge(query, await self._ask(good), await self._ask(samples))
        return answer(query, edges(query), found, Carry())

    async def _samples(self, query: Query, ref: str) -> tuple[list[list[Any]], list[list[Any]]]:
        """Return the rows in the range, and those before it that it starts from."""
        label = self._label(ref)
        inside = influx_read.rows(await self._ask(influx_read.raw(query, ref, label)))
        if query.aggregate is None and query.order is Order.DESC:
            inside.reverse()
        if query.aggregate is not None and len(inside) > influx_read.MAX_SAMPLES:
            raise LimitError(f"{ref} has more than {influx_read.MAX_SAMPLES} samples there; ask for a shorter range")
        before = []
        if query.carries:
            before = influx_read.rows(await self._ask(influx_read.before(query, ref, label, good=False)))
            # Only delta asks for the last good value behind a bad one.
            if query.aggregate is Aggregate.DELTA and before and before[0][2] != GOOD:
                before = [*influx_read.rows(await self._ask(influx_read.before(query, ref, label, good=True))), *before]
        return inside, before

    async def latest(self, series: list[str] | None, *, limit: int, after: str = "") -> list[Latest]:
        """See `Store.latest`."""
        if series is None:
            labels = {DEFAULT, *(self._label(ref) for ref in self._heads)}
            found: dict[str, Point] = {}
            for measurement, field in sorted({(clean(label.measurement), label.field) for label in labels}):
                for one in await self._ask(influx_read.newest(measurement, field)):
                    ref = influx_read.reference(one["tags"])
                    if (
                        ref is not None
                        and ref > after
                        and one["values"][0][0] > (found[ref].at_ms if ref in found else -1)
                    ):
                        found[ref] = influx_read.point(one["values"][0])
            return [Latest(ref, found[ref]) for ref in sorted(found)[:limit]]
        latest: list[Latest] = []
        for ref in sorted({ref for ref in series if ref > after}):
            query = Query([ref], -(2**52), 2**52, 2**52, limit=1)._replace(order=Order.DESC)
            if rows := influx_read.rows(await self._ask(influx_read.raw(query, ref, self._label(ref)))):
                latest.append(Latest(ref, influx_read.point(rows[0])))
            if len(latest) == limit:
                break
        return latest

    async def maintain(self, now_ms: int) -> None:
        """Nothing is due here: the server compacts and ends retention by itself."""

    async def status(self) -> StoreStatus:
        """See `Store.status`; series and newest instant are those written since the start."""
        await self._influx.ping()
        return StoreStatus(
            kind="victoriametrics" if self._influx.server.api == "victoria" else f"influxdb {self._influx.server.api}",
            series=len(self._heads),
            open_points=0,
            files=0,
            bytes=0,
            oldest_at_ms=None,
            newest_at_ms=self._newest_ms,
            disk_percent=0.0,
        )

    async def close(self) -> None:
        """Release the connections."""
        await self._influx.close()
