"""The routes of notification."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.errors import InvalidError, Problem, UnavailableError, VoltageError
from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes
from libs.validation import dotted
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.notify.dispatcher import Dispatcher
from services.alarmsrv.notify.schemas import AlarmRoute, Letters, OutboxStatus, parse_target
from services.alarmsrv.notify.settings import NotificationSettings

FUNCTIONS: Final = web.AppKey("alarm_functions", AlarmFunctions)
DISPATCHER: Final = web.AppKey("dispatcher", Dispatcher)
ROUTES: Final = Routes()


def problems_of(route: AlarmRoute, settings: NotificationSettings) -> list[Problem]:
    """Return the targets of a route that need something that is not configured."""
    found = []
    for path, text in route.all_targets():
        if missing := settings.missing(*parse_target(text)):
            found.append(Problem(dotted(path), missing))
    return found


def _check(request: web.Request, route: AlarmRoute) -> None:
    if problems := problems_of(route, request.app[DISPATCHER].settings):
        raise InvalidError("; ".join(f"{one.where}: {one.message}" for one in problems), problems)


@ROUTES.get("/api/alarm-routes", query=PageQuery, reply=Page)
async def list_routes(request: web.Request, query: PageQuery) -> Reply:
    """List the routes of notification by id."""
    return Json(await request.app[FUNCTIONS].routes.page(query.arguments()))


@ROUTES.post("/api/alarm-routes", role=Role.ENGINEER, body=AlarmRoute, reply=AlarmRoute, status=201)
async def create_route(request: web.Request, body: AlarmRoute) -> Reply:
    """Create a route of notification; it counts from the next transition on."""
    _check(request, body)
    return Json(await request.app[FUNCTIONS].routes.create(body, request[USER].name))


@ROUTES.get("/api/alarm-routes/{id}", reply=AlarmRoute)
async def get_route(request: web.Request) -> Reply:
    """Read a route of notification."""
    return Json(await request.app[FUNCTIONS].routes.get(request.match_info["id"]))


@ROUTES.put("/api/alarm-routes/{id}", role=Role.ENGINEER, body=AlarmRoute, reply=AlarmRoute)
async def change_route(request: web.Request, body: AlarmRoute) -> Reply:
    """Change a route of notification."""
    _check(request, body)
    return Json(await request.app[FUNCTIONS].routes.change(request.match_info["id"], body, request[USER].name))


@ROUTES.delete("/api/alarm-routes/{id}", role=Role.ENGINEER)
async def delete_route(request: web.Request) -> Reply:
    """Delete a route of notification; what waits for its targets is still sent."""
    return Json(await request.app[FUNCTIONS].routes.delete(request.match_info["id"]))


@ROUTES.post("/api/alarm-routes/{id}/test", role=Role.ENGINEER, status=202)
async def test_route(request: web.Request) -> Reply:
    """Send a test to everyone a route names, escalation included, whatever its schedule says."""
    return Json(await request.app[FUNCTIONS].test_route(request.match_info["id"], request[USER].name))


@ROUTES.get("/api/alarms/outbox", reply=OutboxStatus)
async def outbox_status(request: web.Request) -> Reply:
    """Say what waits to be told, and how each recipient is doing."""
    dispatcher = request.app[DISPATCHER]
    waiting, dead = await dispatcher.outbox.counts()
    return OutboxStatus(waiting=waiting, dead_letters=dead, targets=dispatcher.status())


@ROUTES.get("/api/alarms/outbox/dead-letters", query=PageQuery, reply=Page)
async def list_dead_letters(request: web.Request, query: PageQuery) -> Reply:
    """List messages that were given up, newest first."""
    return await request.app[DISPATCHER].outbox.letters(query.limit, query.cursor)


@ROUTES.post("/api/alarms/outbox/dead-letters/retry", role=Role.ENGINEER, body=Letters)
async def retry_dead_letters(request: web.Request, body: Letters) -> Reply:
    """Send messages that were given up once more; those that arrive are forgotten."""
    dispatcher = request.app[DISPATCHER]
    sent: list[str] = []
    failed: dict[str, str] = {}
    for letter_id in body.ids:
        try:
            await dispatcher.retry(await dispatcher.outbox.letter(letter_id))
        except UnavailableError:
            raise
        except VoltageError as error:
            failed[letter_id] = str(error)
        else:
            sent.append(letter_id)
    return {"sent": sent, "failed": failed}
