"""The store in a VictoriaMetrics: lines out as to an InfluxDB, samples back by its export.

A field of a measurement is a metric there: `telemetry_value` and `telemetry_quality`.
What differs from InfluxDB: it answers 204 to anything, so a line it can't read is
not known to be refused; what was written is to be read about a second later; and of
two values of a series at one instant either may come back.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any, Final

import numpy as np
import orjson

from libs.errors import InvalidError, LimitError, UnavailableError
from libs.influx.client import QueryError
from libs.influx.lines import DEFAULT, Label, clean, tags_of
from services.hissrv.store import influx_read
from services.hissrv.store.answer import Samples, of_samples, reason_of
from services.hissrv.store.contract import GOOD, Aggregate, Latest, Point, Points, Query
from services.hissrv.store.influx import InfluxStore
from services.hissrv.store.stats import Floats, Integers

# How far back what held before a range is looked for: an hour first, then a day, then for ever.
_BACK_MS: Final = (3_600_000, 86_400_000, 40 * 86_400_000, 2**42)
_NEWEST: Final = "10y"
# Its instants are int64 milliseconds, but it fails on those it can't print.
_LAST_MS: Final = 9_223_372_036_000


class VictoriaStore(InfluxStore):
    """A `Store` on a VictoriaMetrics server."""

    async def query(self, query: Query) -> dict[str, Points]:
        """See `Store.query`; every answer is computed here, from the samples."""
        found = await self._each(query, self._range)
        return await asyncio.to_thread(lambda: {ref: of_samples(query, *samples) for ref, samples in found})

    async def _range(self, query: Query, ref: str) -> tuple[Samples, Samples]:
        """Return the samples in the range, and those before it that it starts from."""
        inside = await self._export(ref, query.start_ms, query.end_ms)
        before = Samples.of([])
        if query.carries:
            for back in _BACK_MS:
                before = await self._export(ref, max(0, query.start_ms - back), query.start_ms)
                if (~np.isnan(before.good)).any() or (query.aggregate is not Aggregate.DELTA and len(before.at_ms)):
                    break
        return inside, before

    async def _export(self, ref: str, low: int, high: int) -> Samples:
        """Return the samples of a series in low <= instant < high."""
        label = self._label(ref)
        where = _selector(label, tags_of(ref, label))
        low, high = max(0, low), min(high, _LAST_MS)
        text = await self._post("/api/v1/export", {"match[]": where, "start": _seconds(low), "end": _seconds(high - 1)})
        found: dict[str, list[tuple[Integers, Floats]]] = {}
        for line in text.splitlines():
            one = orjson.loads(line)
            at_ms = np.array(one["timestamps"], np.int64)
            values = np.array(one["values"], np.float64)
            keep = (at_ms >= low) & (at_ms < high)
            found.setdefault(one["metric"]["__name__"], []).append((at_ms[keep], values[keep]))
        parts = [_sorted(found.get(_metric(label, name), [])) for name in (label.field, "quality")]
        instants = np.union1d(parts[0][0], parts[1][0])
        if len(instants) > influx_read.MAX_SAMPLES:
            raise LimitError(f"{ref} has more than {influx_read.MAX_SAMPLES} samples there; ask for a shorter range")
        value, quality = (_at(instants, *part) for part in parts)
        return Samples(instants, value, np.where(np.isnan(quality), GOOD, quality).astype(np.uint8))

    async def _post(self, path: str, params: dict[str, str]) -> str:
        async with self._requests:
            try:
                return await self._influx.ask(path, {**params, "nocache": "1", "latency_offset": "1ms"})
            except QueryError as error:
                raise InvalidError(f"VictoriaMetrics refuses the query: {error}") from error

    async def latest(self, series: list[str] | None, *, limit: int, after: str = "") -> list[Latest]:
        """See `Store.latest`; nothing older than ten years is found."""
        labels = {DEFAULT, *(self._label(ref) for ref in (series if series is not None else self._heads))}
        found: dict[str, Point] = {}
        for label in sorted(labels):
            for ref, point in (await self._newest(label)).items():
                if ref not in found or found[ref].at_ms < point.at_ms:
                    found[ref] = point
        wanted = sorted(ref for ref in (found if series is None else set(series)) if ref > after and ref in found)
        return [Latest(ref, found[ref]) for ref in wanted[:limit]]

    async def _newest(self, label: Label) -> dict[str, Point]:
        """Return the newest sample of every series of a measurement."""
        value, quality = (f'{{__name__="{_quoted(_metric(label, name))}"}}' for name in (label.field, "quality"))
        at_value, at_quality, values, numbers = [
            await self._instants(f"{what}({metric}[{_NEWEST}])")
            for metric, what in (
                (value, "tlast_over_time"), (quality, "tlast_over_time"),
                (value, "last_over_time"), (quality, "last_over_time"),
            )
        ]  # fmt: skip
        found = {}
        for ref, seconds in {**at_value, **at_quality}.items():
            at_ms, number = round(seconds * 1000), int(numbers.get(ref, GOOD))
            there = math.isclose(at_value.get(ref, -1), seconds, rel_tol=0, abs_tol=5e-4)
            found[ref] = Point(at_ms, values.get(ref) if there else None, number, reason_of(number))
        return found

    async def _instants(self, question: str) -> dict[str, float]:
        """Return the value of each series of an instant query."""
        answer = orjson.loads(await self._post("/api/v1/query", {"query": question}))
        try:
            results: list[dict[str, Any]] = answer["data"]["result"]
        except (KeyError, TypeError) as error:
            raise UnavailableError(f"{self._influx.server.url}: unreadable answer") from error
        named = ((influx_read.reference(one["metric"]), float(one["value"][1])) for one in results)
        return {ref: value for ref, value in named if ref is not None}


def _sorted(parts: list[tuple[Integers, Floats]]) -> tuple[Integers, Floats]:
    """Return samples in time order, one an instant."""
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0)
    at_ms, value = np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])
    order = np.argsort(at_ms, kind="stable")
    at_ms, value = at_ms[order], value[order]
    last = np.append(at_ms[1:] != at_ms[:-1], [True])
    return at_ms[last], value[last]


def _at(instants: Integers, at_ms: Integers, value: Floats) -> Floats:
    """Return the values at some instants, NaN where there is none."""
    found = np.full(len(instants), math.nan)
    found[np.searchsorted(instants, at_ms)] = value
    return found


def _seconds(at_ms: int) -> str:
    return f"{at_ms // 1000}.{at_ms % 1000:03d}"


def _metric(label: Label, field: str) -> str:
    return f"{clean(label.measurement)}_{clean(field)}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _selector(label: Label, tags: dict[str, str]) -> str:
    """Return the selector of a series' two metrics."""
    names = "|".join(_quoted(re.escape(_metric(label, name))) for name in (label.field, "quality"))
    known = [f'{tag}="{_quoted(tags[tag])}"' for tag in influx_read.IDENTITY if tag in tags]
    return "{" + ",".join([f'__name__=~"{names}"', *known]) + "}"
