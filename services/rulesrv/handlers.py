"""The routes of rulesrv: parse, one call, respond."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.definitions import Change
from libs.http import USER, Comment, Json, Page, PageQuery, Reply, Role, Routes
from libs.http.definitions import DefinitionRoutes, WarnedRoutes
from libs.http.shadows import ShadowRoutes
from libs.redis import backtests
from services.rulesrv.functions import RuleFunctions
from services.rulesrv.schemas import FiringQuery, Rule, RuleBacktest, Simulation
from services.rulesrv.windows import Calendar

RULES: Final = web.AppKey("rules", RuleFunctions)
ROUTES: Final = Routes()


@ROUTES.get("/api/rules/firings", query=FiringQuery, reply=Page)
async def list_firings(request: web.Request, query: FiringQuery) -> Reply:
    """List what rules did, newest first, with the inputs of that moment."""
    only = query.model_dump(include={"rule", "event"}, exclude_none=True)
    return await request.app[RULES].firings(query.limit, query.cursor, only)


@ROUTES.get("/api/rules/evaluations", query=PageQuery, reply=Page)
async def list_evaluations(request: web.Request, query: PageQuery) -> Reply:
    """Say what each rule decides now, and what keeps it from deciding; it acts on nothing."""
    return Json(await request.app[RULES].evaluations(query.arguments()))


@ROUTES.get("/api/rules/stats")
async def rule_stats(request: web.Request) -> Reply:
    """Count the rules: enabled, active, unknown."""
    return Json(await request.app[RULES].stats())


ROUTES.include(ShadowRoutes("/api/rules", "rule", Rule, lambda app: app[RULES].shadows).routes())
ROUTES.include(
    DefinitionRoutes(
        "/api/calendars",
        "calendar",
        Calendar,
        lambda app: app[RULES].calendars,
        create="Windows of time may name it.",
        change="The windows that name it follow at once.",
        delete="Not while a rule names it.",
    ).routes()
)
ROUTES.include(
    WarnedRoutes(
        "/api/rules",
        "rule",
        Rule,
        lambda app: app[RULES].definitions,
        create="It is evaluated at once.",
        change="Its holds start anew.",
        delete="The alarms it raised return.",
    ).routes()
)


@ROUTES.post("/api/rules/{id}/enable", role=Role.ENGINEER, body=Comment, reply=Rule)
async def enable_rule(request: web.Request, body: Comment) -> Reply:
    """Switch a rule on."""
    change = Change(request[USER].name, body.comment)
    return Json(await request.app[RULES].enable(request.match_info["id"], change, enabled=True))


@ROUTES.post("/api/rules/{id}/disable", role=Role.ENGINEER, body=Comment, reply=Rule)
async def disable_rule(request: web.Request, body: Comment) -> Reply:
    """Switch a rule off; the alarms it raised return."""
    change = Change(request[USER].name, body.comment)
    return Json(await request.app[RULES].enable(request.match_info["id"], change, enabled=False))


@ROUTES.post("/api/rules/{id}/evaluate", role=Role.VIEWER, body=Simulation)
async def evaluate_rule(request: web.Request, body: Simulation) -> Reply:
    """Evaluate a rule now, or with simulated values and at another instant; it acts on nothing."""
    simulation = body.model_dump(exclude_none=True)
    return Json(await request.app[RULES].evaluate(request.match_info["id"], simulation))


@ROUTES.get("/api/rules/{id}/explain")
async def explain_rule(request: web.Request) -> Reply:
    """Say what each condition is now, what is missing, when a hold ends, and what the actions would come to."""
    return Json(await request.app[RULES].explain(request.match_info["id"]))


@ROUTES.post("/api/rules/{id}/backtest", role=Role.ENGINEER, body=RuleBacktest, status=202)
async def backtest_rule(request: web.Request, body: RuleBacktest) -> Reply:
    """Run a rule over the recorded past, as it is stored or as it is sent: a job of /api/jobs."""
    definitions = request.app[RULES].definitions
    return Json(await backtests.submit("rule", definitions, request.match_info["id"], body, body.definition))
