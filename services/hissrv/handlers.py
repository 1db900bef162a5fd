"""The routes of hissrv: parse, one call, respond."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgpack
import orjson
from aiohttp import web

from libs import clock
from libs.errors import InvalidError
from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes
from libs.http.bodies import UPLOADS
from libs.http.definitions import DefinitionRoutes
from services.hissrv import aliases
from services.hissrv.consumer import Consumer, Maintenance
from services.hissrv.functions import MAX_LETTERS, DeadLetter, HistoryFunctions
from services.hissrv.recording import Mapping, Recorder, parse_mappings
from services.hissrv.references import References, Source
from services.hissrv.replay import handlers as replay_handlers
from services.hissrv.replay.handlers import JOBS
from services.hissrv.retry import retry
from services.hissrv.schemas import (
    CopyRequest,
    ExportRequest,
    HistoryAnswer,
    HistoryQuery,
    HistoryStatus,
    ImportRequest,
    LatestQuery,
    RetriedLetters,
    RetryLetters,
)
from services.hissrv.store.contract import GOOD, Aggregate, Latest, Points, Query, Store
from services.hissrv.transfer import Transfer

_LOG = logging.getLogger(__name__)
FUNCTIONS: Final = web.AppKey("functions", HistoryFunctions)
REFERENCES: Final = web.AppKey("references", References)
STORE: Final = web.AppKey("store", Store)
CONSUMER: Final = web.AppKey("consumer", Consumer)
MAINTENANCE: Final = web.AppKey("maintenance", Maintenance)

# A larger answer is encoded beside the event loop.
LARGE: Final = 10_000
TRANSFER: Final = web.AppKey("transfer", Transfer)
ROUTES: Final = Routes()
ROUTES.include(replay_handlers.ROUTES)


@ROUTES.post("/api/history/query", role=Role.VIEWER, body=HistoryQuery, reply=HistoryAnswer)
async def query(request: web.Request, body: HistoryQuery) -> Reply:
    """Read points or aggregates of some series."""
    now_ms = clock.now_ms()
    sources = [await request.app[REFERENCES].resolve(ref) for ref in body.series]
    asked = _query(body, sources, now_ms)
    found = await aliases.ask(request.app[STORE], asked, [one.pieces for one in sources])
    if sum(len(points) for points in found) > LARGE:
        return Json(await asyncio.to_thread(_encoded, sources, found, asked))
    return Json(_encoded(sources, found, asked))


def _encoded(sources: list[Source], found: list[Points], asked: Query) -> bytes:
    return orjson.dumps({"series": [_series(*one, asked) for one in zip(sources, found, strict=True)]})


def _query(body: HistoryQuery, sources: list[Source], now_ms: int) -> Query:
    end_ms = now_ms if body.end is None else body.end
    if end_ms <= body.start:
        raise InvalidError(f"start {body.start} is not before end {end_ms}")
    return Query(
        sorted({one.source for one in sources}),
        body.start,
        end_ms,
        now_ms,
        body.interval.ms if body.interval else 0,
        body.aggregate or (Aggregate.MEAN if body.interval else None),
        body.fill,
        body.limit,
        body.order,
        body.zone,
        body.interval.months if body.interval else 0,
        body.counter.counter if body.counter else None,
    )


def _series(source: Source, points: Points, asked: Query) -> dict[str, Any]:
    at_ms, raw = points.at_ms.tolist(), asked.aggregate is None
    reasons = zip(at_ms, points.reason or (), strict=False)
    return {
        "ref": source.ref,
        "source": source.source,
        "unit": source.unit,
        "points": list(zip(at_ms, points.value.tolist(), points.quality.tolist(), strict=True)),  # NaN becomes null
        "reasons": [(at, reason) for at, reason in reasons if reason],
        "shares": [] if raw else points.share.round(6).tolist(),
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


class MappingRoutes(DefinitionRoutes):
    """One that matches none of the present points is warned about."""

    async def shown(self, request: web.Request, document: bytes) -> Json:
        """Return a mapping; the header `Warning` says when its source matches nothing."""
        mapping = parse_mappings([orjson.loads(document)])
        if not Recorder(mapping).unmatched(await request.app[FUNCTIONS].references()):
            return Json(document)
        text = f"source {mapping[0].source} matches none of the points there are"
        if request.method != "GET":
            _LOG.warning("mapping %s: %s", mapping[0].id, text)
        return Json(document, {"Warning": f'199 - "{text}"'})


ROUTES.include(
    MappingRoutes(
        "/api/history/mappings",
        "mapping",
        Mapping,
        lambda app: app[FUNCTIONS].mappings,
        create="Recording follows it from the next batch on. One that matches no point is warned about.",
        change="One that matches no point is warned about.",
        delete="What it recorded stays.",
    ).routes()
)


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
            "mappings": consumer.recorded,
            "unmatched_mappings": Recorder(await request.app[FUNCTIONS].recorded()).unmatched(
                await request.app[FUNCTIONS].references()
            ),
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


@ROUTES.post("/api/history/export", role=Role.OPERATOR, body=ExportRequest, status=202)
async def export(request: web.Request, body: ExportRequest) -> Reply:
    """Write samples to a file: a job; the same one that is not finished is returned instead of another."""
    return Json(await request.app[JOBS].submit("export", body.document(clock.now_ms())))


@ROUTES.get("/api/history/exports/{file}", role=Role.OPERATOR, media="application/octet-stream")
async def exported(request: web.Request) -> Reply:
    """Download the file of an export that is done."""
    transfer = request.app[TRANSFER]
    name = request.match_info["file"]
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.FileResponse(await transfer.file(transfer.exports, name), headers=headers)


@ROUTES.delete("/api/history/exports/{file}", role=Role.OPERATOR, status=204)
async def delete_export(request: web.Request) -> None:
    """Delete the file of an export that is done; without that it goes after a week."""
    transfer = request.app[TRANSFER]
    path = await transfer.file(transfer.exports, request.match_info["file"])
    await asyncio.to_thread(path.unlink, missing_ok=True)


@ROUTES.post("/api/history/import", role=Role.ENGINEER, body=ImportRequest, status=202, uploads=True)
async def import_(request: web.Request, body: ImportRequest | None = None) -> Reply:
    """Read samples from a file: a job; every line is checked before the first one is written.

    The file is the body itself, as text/csv or application/vnd.apache.parquet, or a JSON body names one that is
    in transfer/imports of the data directory.
    """
    transfer = request.app[TRANSFER]
    if body is None:
        form = UPLOADS[request.content_type]
        body = ImportRequest(file=await transfer.uploads.receive(request.content, form, request.content_length))
    await transfer.file(transfer.imports, body.file)
    return Json(await request.app[JOBS].submit("import", body.model_dump()))


@ROUTES.post("/api/history/copy", role=Role.ENGINEER, body=CopyRequest, status=202)
async def copy(request: web.Request, body: CopyRequest) -> Reply:
    """Copy samples from one of two stores to the other: a job."""
    document = body.document(clock.now_ms())
    return Json(await request.app[JOBS].submit("copy", {**document, "from": document.pop("from_")}))


@ROUTES.get("/api/jobs", query=PageQuery, reply=Page)
async def list_jobs(request: web.Request, query: PageQuery) -> Reply:
    """List the jobs, newest first, with state and progress; finished ones for a week."""
    return Json(await request.app[JOBS].page(query.limit, query.cursor))


@ROUTES.get("/api/jobs/{id}")
async def get_job(request: web.Request) -> Reply:
    """Read a job: its state, progress, result or error."""
    return Json(await request.app[JOBS].get(request.match_info["id"]))


@ROUTES.post("/api/jobs/{id}/cancel", role=Role.ENGINEER)
async def cancel_job(request: web.Request) -> Reply:
    """Cancel a job; what it did stays, an unfinished or uploaded file goes."""
    return Json(await request.app[JOBS].cancel(request.match_info["id"], request[USER].name))
