"""The routes of the journal."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.http import Page, Reply, Routes
from services.alarmsrv.journal import export
from services.alarmsrv.journal.journal import Journal
from services.alarmsrv.schemas import JournalQuery, JournalVerified

JOURNAL: Final = web.AppKey("journal", Journal)
ROUTES: Final = Routes()
CHUNK: Final = 200


@ROUTES.get("/api/alarms/journal", query=JournalQuery, reply=Page)
async def list_journal(request: web.Request, query: JournalQuery) -> Reply:
    """List the transitions of alarms, newest first."""
    return await request.app[JOURNAL].page(query.wanted(), query.limit, query.cursor)


@ROUTES.get("/api/alarms/journal/verify", reply=JournalVerified)
async def verify_journal(request: web.Request) -> Reply:
    """Walk the chain of the whole journal and name its first break."""
    found = await request.app[JOURNAL].verify()
    broken = found.broken._asdict() if found.broken else None
    return JournalVerified(**{**found._asdict(), "broken": broken}, whole=broken is None)


@ROUTES.get("/api/alarms/journal/export", query=JournalQuery, media="text/csv")
async def export_journal(request: web.Request, query: JournalQuery) -> Reply:
    """Return all wanted transitions as CSV, oldest first; `limit` and `cursor` do not count."""
    wanted = query.wanted()
    headers = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": 'attachment; filename="journal.csv"'}
    reply = web.StreamResponse(headers=headers)
    await reply.prepare(request)
    rows = [export.header()]
    async for _, entry in request.app[JOURNAL].oldest_first():
        if wanted.fits(entry):
            rows.append(export.row(entry))
        if len(rows) == CHUNK:
            await reply.write("".join(rows).encode())
            rows.clear()
    await reply.write("".join(rows).encode())
    await reply.write_eof()
    return reply
