"""The routes of hissrv: parse, one call, respond."""

from __future__ import annotations

from typing import Any, Final

import msgpack
import orjson
from aiohttp import web

from libs import clock
from libs.errors import InvalidError, LimitError
from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes
from services.hissrv.consumer import Consumer, Maintenance
from services.hissrv.functions import MAX_LETTERS, DeadLetter, HistoryFunctions
from services.hissrv.recording import Mapping
from services.hissrv.references import References, Source
from services.hissrv.retry import retry
from services.hissrv.schemas import (
    HistoryAnswer,
    HistoryQuery,
    HistoryStatus,
    LatestQuery,
    RetriedLetters,
    RetryLetters,
)
from services.hissrv.store.contract import GOOD, Aggregate, Latest, Point, Query, Store

FUNCTIONS: Final = web.AppKey("functions", HistoryFunctions)
REFERENCES: Final = web.AppKey("references", References)
STORE: Final = web.AppKey("store", Store)
CONSUMER: Final = web.AppKey("consumer", Consumer)
MAINTENANCE: Final = web.AppKey("maintenance", Maintenance)

MAX_INTERVALS: Final = 100_000
ROUTES: Final = Routes()


@ROUTES.post("/api/history/query", role=Role.VIEWER, body=HistoryQuery, reply=HistoryAnswer)
async def query(request: web.Request, body: HistoryQuery) -> Reply:
    """Read points or aggregates of some series."""
    now_ms = clock.now_ms()
    sources = [await request.app[REFERENCES].resolve(ref) for ref in body.series]
    asked = _query(body, sources, now_ms)
    found = await request.app[STORE].query(asked)
    return Json(orjson.dumps({"series": [_series(one, found[one.source], asked) for one in sources]}))


def _query(body: HistoryQuery, sources: list[Source], now_ms: int) -> Query:
    end_ms = now_ms if body.end is None else body.end
    if end_ms <= body.start:
        raise InvalidError(f"start {body.start} is not before end {end_ms}")
    interval_ms = body.interval or 0
    if interval_ms and (end_ms - body.start) // interval_ms * len(sources) > MAX_INTERVALS:
        raise LimitError(f"more than {MAX_INTERVALS} intervals; take a longer interval or a shorter range")
    aggregate = body.aggregate or (Aggregate.MEAN if interval_ms else None)
    return Query(
        sorted({one.source for one in sources}),
        body.start,
        end_ms,
        now_ms,
        interval_ms,
        aggregate,
        body.fill,
        body.limit,
        body.order,
    )


def _series(source: Source, points: list[Point], asked: Query) -> dict[str, Any]:
    raw = asked.aggregate is None
    return {
        "ref": source.ref,
        "source": source.source,
        "unit": source.unit,
        "points": [(point.at_ms, point.value, point.quality) for point in points],
        "reasons": [(point.at_ms, point.reason) for point in points if point.reason],
        "shares": [] if raw else [round(point.share, 6) for point in points],
    }


@ROUTES.get("/api/history/latest", query=LatestQuery, reply=Page)
async def latest(request: web.Request, query: LatestQuery) -> Reply:
    """Read the newest sample of the series named, or of all."""
    sources = [await request.app[REFERENCES].resolve(ref) for ref in query.ref]
    named = sorted({one.source for one in sources}) if query.ref else None
    found = await request.app[STORE].latest(named, limit=query.limit, after=query.cursor or "")
    cursor = found[-1].series if len(found) == query.limit else None
    refs = {one.source: one.ref for one in sources}
    return {"items": [await _latest(request, refs.get(one.series, one.series), one) for one in found], "cursor": cursor}


async def _latest(request: web.Request, ref: str, found: Latest) -> dict[str, Any]:
    source = await request.app[REFERENCES].resolve(found.series)
    point = found.point
    return {
        "ref": ref,
        "source": found.series,
        "unit": source.unit,
        "at_ms": point.at_ms,
        "value": point.value,
        "quality": point.quality,
        "reason": point.reason or ("good" if point.quality == GOOD else ""),
    }


@ROUTES.get("/api/history/mappings", query=PageQuery, reply=Page)
async def list_mappings(request: web.Request, query: PageQuery) -> Reply:
    """List the mappings by id."""
    return Json(await request.app[FUNCTIONS].mappings.page(query.arguments()))


@ROUTES.post("/api/history/mappings", role=Role.ENGINEER, body=Mapping, reply=Mapping, status=201)
async def create_mapping(request: web.Request, body: Mapping) -> Reply:
    """Create a mapping; recording follows it from the next batch on."""
    return Json(await request.app[FUNCTIONS].mappings.create(body, request[USER].name))


@ROUTES.get("/api/history/mappings/{id}", reply=Mapping)
async def get_mapping(request: web.Request) -> Reply:
    """Read a mapping."""
    return Json(await request.app[FUNCTIONS].mappings.get(request.match_info["id"]))


@ROUTES.put("/api/history/mappings/{id}", role=Role.ENGINEER, body=Mapping, reply=Mapping)
async def change_mapping(request: web.Request, body: Mapping) -> Reply:
    """Change a mapping."""
    return Json(await request.app[FUNCTIONS].mappings.change(request.match_info["id"], body, request[USER].name))


@ROUTES.delete("/api/history/mappings/{id}", role=Role.ENGINEER)
async def delete_mapping(request: web.Request) -> Reply:
    """Delete a mapping; what it recorded stays."""
    return Json(await request.app[FUNCTIONS].mappings.delete(request.match_info["id"]))


@ROUTES.get("/api/history/status", reply=HistoryStatus)
async def status(request: web.Request) -> Reply:
    """Show the store, the queue and the consumer."""
    consumer = request.app[CONSUMER]
    return HistoryStatus(
        store=(await request.app[STORE].status())._asdict(),
        queue=await request.app[FUNCTIONS].status(),
        consumer={
            "problem": consumer.problem or request.app[MAINTENANCE].problem,
            "samples": consumer.samples,
            "repeated": consumer.repeated,
            "last_write_ms": consumer.last_write_ms,
        },
    )


@ROUTES.get("/api/history/dead-letters", query=PageQuery, reply=Page)
async def dead_letters(request: web.Request, query: PageQuery) -> Reply:
    """List the queue entries that could not be recorded, newest first, with the reason."""
    found = await request.app[FUNCTIONS].dead_letters(query.limit, query.cursor or "")
    cursor = found[-1].id if len(found) == query.limit else None
    return Json(
        orjson.dumps(
            {"items": [_letter(one) for one in found], "cursor": cursor}, default=str, option=orjson.OPT_NON_STR_KEYS
        )
    )


@ROUTES.post("/api/history/dead-letters/retry", role=Role.ENGINEER, body=RetryLetters, reply=RetriedLetters)
async def retry_dead_letters(request: web.Request, body: RetryLetters) -> Reply:
    """Write dead letters once more: those named, else the newest 200."""
    functions = request.app[FUNCTIONS]
    ids = body.ids
    if ids is None:
        ids = [letter.id for letter in await functions.dead_letters(MAX_LETTERS, "")]
    done, failed = await retry(functions, request.app[STORE], ids)
    return RetriedLetters(retried=done, failed=failed)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    numbers = {name: int(letter.fields.get(name) or 0) for name in ("at_ms", "image", "samples")}
    texts = {name: letter.fields.get(name, "") for name in ("entry", "channel", "group", "reason")}
    return {"id": letter.id, **texts, **numbers, "document": _readable(letter.document)}


def _readable(document: bytes) -> Any:
    """Return a document as JSON shows it best: decoded, else as text."""
    for parse in (orjson.loads, msgpack.unpackb):
        try:
            return parse(document)
        except (ValueError, TypeError):
            continue
    return document.decode("latin-1")
