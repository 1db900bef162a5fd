"""The routes of alarmsrv: parse, one call, respond."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.http import USER, Comment, Json, Page, Reply, Role, Routes
from libs.http.definitions import WarnedRoutes
from libs.http.shadows import ShadowRoutes
from libs.redis import backtests
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.journal import handlers as journal_handlers
from services.alarmsrv.notify import handlers as notify_handlers
from services.alarmsrv.quality import handlers as quality_handlers
from services.alarmsrv.schemas import (
    Acknowledgements,
    Alarm,
    AlarmBacktest,
    AlarmDefinition,
    AlarmQuery,
    Marked,
    NewAlarm,
    Service,
    Shelving,
)

ALARMS: Final = web.AppKey("alarms", AlarmFunctions)
ROUTES: Final = Routes()
# Before the routes with {id}, which would take their paths for ids.
ROUTES.routes += journal_handlers.ROUTES.routes + notify_handlers.ROUTES.routes + quality_handlers.ROUTES.routes


@ROUTES.get("/api/alarms", query=AlarmQuery, reply=Page)
async def list_alarms(request: web.Request, query: AlarmQuery) -> Reply:
    """List alarms, newest first."""
    return Json(await request.app[ALARMS].query(query.filters()))


@ROUTES.post("/api/alarms", role=Role.OPERATOR, body=NewAlarm, reply=Alarm, status=201)
async def create_alarm(request: web.Request, body: NewAlarm) -> Reply:
    """Create an alarm by hand; it is resolved by hand."""
    document = {**body.model_dump(exclude_none=True), "by": request[USER].name}
    return Json(await request.app[ALARMS].store(body.id, document))


@ROUTES.post("/api/alarms/acknowledge", role=Role.OPERATOR, body=Acknowledgements)
async def acknowledge_many(request: web.Request, body: Acknowledgements) -> Reply:
    """Acknowledge several alarms; what can't be is named, the rest is done."""
    return await request.app[ALARMS].acknowledge_many(body.ids, request[USER].name, body.comment)


@ROUTES.get("/api/alarms/marks")
async def list_marks(request: web.Request) -> Reply:
    """List what is shelved, suppressed or out of service, whether an alarm of it is open or not."""
    return Json(await request.app[ALARMS].marks())


@ROUTES.get("/api/alarms/stats")
async def alarm_stats(request: web.Request) -> Reply:
    """Count alarms by level and status."""
    return Json(await request.app[ALARMS].stats())


@ROUTES.get("/api/alarms/{id}", reply=Alarm)
async def get_alarm(request: web.Request) -> Reply:
    """Read an alarm."""
    return Json(await request.app[ALARMS].get(request.match_info["id"]))


@ROUTES.post("/api/alarms/{id}/acknowledge", role=Role.OPERATOR, body=Comment, reply=Alarm)
async def acknowledge_alarm(request: web.Request, body: Comment) -> Reply:
    """Acknowledge an alarm; twice changes nothing. One whose condition has ended is resolved by it."""
    return Json(await request.app[ALARMS].acknowledge(request.match_info["id"], request[USER].name, body.comment))


@ROUTES.post("/api/alarms/{id}/resolve", role=Role.OPERATOR, body=Comment, reply=Alarm)
async def resolve_alarm(request: web.Request, body: Comment) -> Reply:
    """Resolve an alarm by hand; not while its condition stands."""
    return Json(await request.app[ALARMS].resolve(request.match_info["id"], request[USER].name, body.comment))


@ROUTES.post("/api/alarms/{alarm}/shelve", role=Role.OPERATOR, body=Shelving, reply=Marked)
async def shelve_alarm(request: web.Request, body: Shelving) -> Reply:
    """Shelve an alarm: it stands, but asks for no attention until the time is over."""
    return Json(await _operate(request, "alarm_shelve", body))


@ROUTES.post("/api/alarms/{alarm}/unshelve", role=Role.OPERATOR, body=Comment, reply=Marked)
async def unshelve_alarm(request: web.Request, body: Comment) -> Reply:
    """End the shelving of an alarm."""
    return Json(await _operate(request, "alarm_unshelve", body))


@ROUTES.post("/api/alarms/{alarm}/suppress", role=Role.ENGINEER, body=Comment, reply=Marked)
async def suppress_alarm(request: web.Request, body: Comment) -> Reply:
    """Suppress an alarm by design, as while its plant is started up."""
    return Json(await _operate(request, "alarm_suppress", body))


@ROUTES.post("/api/alarms/{alarm}/unsuppress", role=Role.ENGINEER, body=Comment, reply=Marked)
async def unsuppress_alarm(request: web.Request, body: Comment) -> Reply:
    """End the suppression of an alarm."""
    return Json(await _operate(request, "alarm_unsuppress", body))


@ROUTES.post("/api/alarms/{alarm}/out-of-service", role=Role.ENGINEER, body=Service, reply=Marked)
async def take_out_of_service(request: web.Request, body: Service) -> Reply:
    """Take an alarm out of service for maintenance, or return it."""
    return Json(await _operate(request, "alarm_out_of_service", body))


ROUTES.include(
    ShadowRoutes(
        "/api/alarm-definitions", "alarm definition", AlarmDefinition, lambda app: app[ALARMS].shadows
    ).routes()
)
ROUTES.include(
    WarnedRoutes(
        "/api/alarm-definitions",
        "alarm definition",
        AlarmDefinition,
        lambda app: app[ALARMS].definitions,
        create="It is evaluated at once.",
        change="Its alarm stands while the new one still applies.",
        delete="Its alarm returns.",
    ).routes()
)


@ROUTES.post("/api/alarm-definitions/{id}/backtest", role=Role.ENGINEER, body=AlarmBacktest, status=202)
async def backtest_definition(request: web.Request, body: AlarmBacktest) -> Reply:
    """Run an alarm definition over the recorded past, as it is stored or as it is sent: a job of /api/jobs."""
    definitions = request.app[ALARMS].definitions
    return Json(await backtests.submit("alarm", definitions, request.match_info["id"], body, body.definition))


async def _operate(request: web.Request, function: str, body: Comment) -> bytes:
    """Call one of the functions that take {by, comment?, ...}."""
    document = body.model_dump(exclude_none=True)
    return await request.app[ALARMS].operate(function, request.match_info["alarm"], request[USER].name, document)
