"""The routes of the replay log."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.http import Json, Reply, Role, Routes
from libs.redis.backtests import Span
from services.hissrv.jobs import Jobs
from services.hissrv.replay.keeper import Keeper
from services.hissrv.replay.replays import Replays

JOBS: Final = web.AppKey("jobs", Jobs)
REPLAYS: Final = web.AppKey("replays", Replays)
KEEPER: Final = web.AppKey("keeper", Keeper)
ROUTES: Final = Routes()


@ROUTES.get("/api/replays")
async def replay_log(request: web.Request) -> Reply:
    """Show what there is to replay: from when until when, the gaps, what waits, and why where it does."""
    return await request.app[REPLAYS].log() | {"problem": request.app[KEEPER].problem}


@ROUTES.post("/api/replays", role=Role.ENGINEER, body=Span, status=202)
async def replay(request: web.Request, body: Span) -> Reply:
    """Make all calls of a time again, beside the site, and compare the journals: a job."""
    return Json(await request.app[JOBS].submit("replay", body.document()))


@ROUTES.get("/api/replays/{id}", role=Role.ENGINEER, media="application/json")
async def report(request: web.Request) -> Reply:
    """Read the whole report of a replay or a backtest by its job; it is kept for a week."""
    path = await request.app[REPLAYS].report(request.match_info["id"])
    return web.FileResponse(path, headers={"Content-Type": "application/json"})
