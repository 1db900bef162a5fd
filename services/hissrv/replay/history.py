"""Samples from the history store for a time that no replay log reaches: which series, written to one file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from libs import clock
from libs.errors import LimitError, NotFoundError
from services.hissrv import tables
from services.hissrv.references import References
from services.hissrv.replay.files import said
from services.hissrv.store.contract import Fill, Points, Query, Store

PAGE: Final = 100_000
SERIES_A_PAGE: Final = 500
# What a process of a replay takes into memory, at some 30 bytes each.
MOST: Final = 20_000_000
_POINTS: Final = re.compile(r"\b(?:comsrv:\d+:[TS]:\d+|modsrv:[\w-]+:[\w-]+)\b")
# A definition that looks at the state of others needs what those look at.
_STATES: Final = re.compile(r'"(?:alarm|rule|command):')
_NOT_THERE: Final = (
    "commands and their outcomes, what operators did, texts, C and A points are not in history: conditions on them "
    "are unknown, and nobody acknowledges"
)
_RECORDED: Final = re.compile(r"comsrv:\d+:[TS]:\d+")

Told = Callable[[float, str], Awaitable[None]]


class _Stretch(NamedTuple):
    """A stretch of time of a series, and the point that its samples are replayed as."""

    series: str
    start_ms: int
    end_ms: int
    point: str


class History:
    """Reads the store as a replay needs it."""

    def __init__(self, store: Store, references: References) -> None:
        """Keep the store, and what references mean."""
        self._store = store
        self._references = references

    async def gather(
        self, definition: Mapping[str, Any] | None, start_ms: int, end_ms: int, path: Path, told: Told
    ) -> list[str]:
        """Write the samples of a span to a file, each series with the value it held at its start.

        Returns what makes the replay less than exact.

        Raises:
            NotFoundError: there are none.
            LimitError: there are too many.
        """
        wanted = await self._wanted(definition, start_ms, end_ms)
        writer = await asyncio.to_thread(tables.Writer, path)
        found: set[str] = set()
        try:
            for number, one in enumerate(wanted):
                async for page in self._pages(one):
                    await told(number / len(wanted), f"{writer.rows} samples of history, at {one.series}")
                    found.add(one.point)
                    reasons = page.reason or [""] * len(page)
                    await asyncio.to_thread(writer.add, one.point, page.at_ms, page.value, page.quality, reasons)
                    _refuse(writer.rows)
        finally:
            await asyncio.to_thread(writer.finish)
        if not writer.rows:
            raise NotFoundError(f"neither a replay log nor history from {said(start_ms)} until {said(end_ms)}")
        missing = sorted({one.point for one in wanted} - found)
        return _reasons(definition, len(found), missing)

    async def _wanted(self, definition: Mapping[str, Any] | None, start_ms: int, end_ms: int) -> list[_Stretch]:
        text = "" if definition is None else orjson.dumps(definition).decode()
        if definition is None or _STATES.search(text):
            found = [ref async for ref in self._recorded()]
            return [_Stretch(ref, start_ms, end_ms, ref) for ref in found]
        stretches = []
        for ref in sorted(set(_POINTS.findall(text))):
            source = await self._references.resolve(ref)
            for piece in source.pieces:
                start, end = max(start_ms, piece.low), min(end_ms, piece.high)
                if start < end:
                    stretches.append(_Stretch(piece.source, start, end, source.source))
        return stretches

    async def _recorded(self) -> AsyncIterator[str]:
        after = ""
        while page := await self._store.latest(None, limit=SERIES_A_PAGE, after=after):
            for one in page:
                if _RECORDED.fullmatch(one.series):
                    yield one.series
            after = page[-1].series

    async def _pages(self, one: _Stretch) -> AsyncIterator[Points]:
        at, fill = one.start_ms, Fill.PREVIOUS
        while at < one.end_ms:
            query = Query([one.series], at, one.end_ms, clock.now_ms(), fill=fill, limit=PAGE)
            points = (await self._store.query(query))[one.series]
            if not len(points):
                return
            yield points
            at, fill = int(points.at_ms[-1]) + 1, Fill.NONE
            if len(points) < PAGE:
                return


def _refuse(samples: int) -> None:
    if samples > MOST:
        raise LimitError(f"the time has more than {MOST:,} samples; ask for a shorter one")


def _reasons(definition: Mapping[str, Any] | None, series: int, missing: list[str]) -> list[str]:
    found = [
        "made from history: the replay log does not go back that far",
        "devices, models and other definitions are those of now",
        "changes that a dead band, a heartbeat or a mapping left out are not in history",
        _NOT_THERE,
        "calls are made by instant and channel: the order within one is not known",
    ]
    if definition is not None:
        found.append(f"{series} series were read: what the definition looks at")
    return [*found, *(f"there is no history of {ref} in that time: conditions on it are unknown" for ref in missing)]
