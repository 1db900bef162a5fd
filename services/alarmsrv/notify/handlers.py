"""The routes of notification."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.definitions import Definition
from libs.errors import InvalidError, Problem, UnavailableError, VoltageError
from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes
from libs.http.definitions import DefinitionRoutes
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


class AlarmRouteRoutes(DefinitionRoutes):
    """A route may only name targets that are configured."""

    async def check(self, request: web.Request, definition: Definition) -> None:
        """Refuse targets that need something that is not configured."""
        assert isinstance(definition, AlarmRoute)  # noqa: S101 - the body's model
        if problems := problems_of(definition, request.app[DISPATCHER].settings):
            raise InvalidError("; ".join(f"{one.where}: {one.message}" for one in problems), problems)


ROUTES.include(
    AlarmRouteRoutes(
        "/api/alarm-routes",
        "alarm route",
        AlarmRoute,
        lambda app: app[FUNCTIONS].routes,
        create="It counts from the next transition on.",
        delete="What waits for its targets is still sent.",
    ).routes()
)


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
