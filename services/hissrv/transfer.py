"""Exports, imports and copies: all samples of some series, in parts, the same whether done once or twice."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from fnmatch import translate
from pathlib import Path
from typing import Any, Final

import numpy as np

from libs import clock
from libs.errors import InvalidError, NotFoundError
from services.hissrv import tables
from services.hissrv.jobs import Progress
from services.hissrv.settings import TransferSettings
from services.hissrv.store.contract import Points, Query, Samples, Store
from services.hissrv.tables import Columns
from services.hissrv.uploads import UPLOADED, Uploads

PAGE: Final = 200_000
SERIES_A_PAGE: Final = 1000
DAY_S: Final = 86_400
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}\.(csv|parquet)")


class Transfer:
    """Works on the stores of this hissrv; files are in folders of their own.

    stores: by name, `main` among them. Exports are kept until they are deleted, or are old.
    """

    def __init__(
        self, stores: Callable[[], dict[str, Store]], folder: Path, settings: TransferSettings | None = None
    ) -> None:
        """Keep them."""
        self._stores = stores
        self._settings = settings or TransferSettings()
        self.exports = folder / "exports"
        self.imports = folder / "imports"
        self.uploads = Uploads(self.imports, self._settings.max_upload_bytes)

    async def file(self, folder: Path, name: str) -> Path:
        """Return the path of a file by its name.

        Raises:
            InvalidError: no name of a file of ours.
            NotFoundError: there is none.
        """
        if not _NAME.fullmatch(name):
            raise InvalidError(f"{name[:80]!r} is no file's name; it ends with .csv or .parquet and has no folder")
        path = folder / name
        if not await asyncio.to_thread(path.is_file):
            raise NotFoundError(f"file {path}")
        return path

    def tidy(self) -> None:
        """Remove what is old: exports, files that were uploaded and whose import never ended, parts of files."""
        old_s = time.time() - self._settings.keep_days * DAY_S
        for folder in (self.exports, self.imports):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                ours = folder == self.exports or path.name.startswith(UPLOADED)
                with suppress(FileNotFoundError):
                    if ours and path.is_file() and path.stat().st_mtime < old_s:
                        path.unlink()

    async def export(self, body: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Write all samples of the series that match to a file."""
        store = self._store("main")
        await asyncio.to_thread(self.tidy)
        path = self.exports / f"{body['job']}.{body['format']}"
        found = [ref async for ref in _series(store, body.get("series") or ["*"])]
        writer = await asyncio.to_thread(tables.Writer, path)
        try:
            for number, ref in enumerate(found):
                async for page, share in _pages(store, ref, body["start"], body["end"]):
                    await progress((number + share) / len(found), f"{writer.rows} samples, at {ref}")
                    columns = page.at_ms, page.value, page.quality, page.reason or [""] * len(page)
                    await asyncio.to_thread(writer.add, ref, *columns)
            size = await asyncio.to_thread(writer.finish)
        except BaseException:
            await asyncio.to_thread(writer.abandon)
            raise
        return {"file": path.name, "path": str(path), "series": len(found), "samples": writer.rows, "bytes": size}

    async def import_(self, body: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Write all samples of a file to the store: it is read once to check every line, then to write."""
        store, rows = self._store("main"), 0
        path = await self.file(self.imports, body["file"])
        size = max(1, (await asyncio.to_thread(path.stat)).st_size)
        for writing in (False, True):
            done, parts = 0, tables.read(path)
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                columns, read = part
                done += read
                share = min(1.0, done / size) / 2
                await progress(0.5 + share if writing else share, f"{rows} samples written" if writing else "checking")
                if writing:
                    await store.load(_samples(columns))
                    rows += len(columns.series)
        return {"file": path.name, "samples": rows}

    async def copy(self, body: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Write all samples of one store to another."""
        source, target = self._store(body["from"]), self._store(body["to"])
        found = [ref async for ref in _series(source, body.get("series") or ["*"])]
        rows = 0
        for number, ref in enumerate(found):
            async for page, share in _pages(source, ref, body["start"], body["end"]):
                await progress((number + share) / len(found), f"{rows} samples, at {ref}")
                series = [ref] * len(page)
                image = np.zeros(len(page), np.int64)
                await target.load(Samples(series, page.at_ms, page.value, page.reason or [""] * len(page), image))
                rows += len(page)
        return {"series": len(found), "samples": rows}

    def _store(self, name: str) -> Store:
        stores = self._stores()
        if name not in stores:
            raise InvalidError(f"there is no store {name!r}; there are {', '.join(sorted(stores))}")
        return stores[name]


def _samples(columns: Columns) -> Samples:
    return Samples(*columns)


async def _series(store: Store, patterns: list[str]) -> AsyncIterator[str]:
    """Yield the series of a store that match any of the patterns."""
    wanted = [re.compile(translate(pattern)) for pattern in patterns]
    after = ""
    while page := await store.latest(None, limit=SERIES_A_PAGE, after=after):
        for one in page:
            if any(pattern.match(one.series) for pattern in wanted):
                yield one.series
        after = page[-1].series


async def _pages(store: Store, ref: str, start: int, end: int) -> AsyncIterator[tuple[Points, float]]:
    """Yield the samples of a series in order, with the share of the range that is done."""
    at = start
    while at < end:
        points = (await store.query(Query([ref], at, end, clock.now_ms(), limit=PAGE)))[ref]
        if not len(points):
            return
        at = int(points.at_ms[-1]) + 1
        yield points, (at - start) / (end - start)
        if len(points) < PAGE:
            return
