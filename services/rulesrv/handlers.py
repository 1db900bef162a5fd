"""The routes of rulesrv: parse, one call, respond."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.http import USER, Comment, Json, Page, PageQuery, Reply, Role, Routes
from services.rulesrv.functions import RuleFunctions
from services.rulesrv.schemas import FiringQuery, Rule, Simulation
from services.rulesrv.windows import Calendar

RULES: Final = web.AppKey("rules", RuleFunctions)
ROUTES: Final = Routes()


@ROUTES.get("/api/calendars", query=PageQuery, reply=Page)
async def list_calendars(request: web.Request, query: PageQuery) -> Reply:
    """List the calendars by id."""
    return Json(await request.app[RULES].calendars.page(query.arguments()))


@ROUTES.post("/api/calendars", role=Role.ENGINEER, body=Calendar, reply=Calendar, status=201)
async def create_calendar(request: web.Request, body: Calendar) -> Reply:
    """Create a calendar: dates that windows of time name."""
    return Json(await request.app[RULES].calendars.create(body, request[USER].name))


@ROUTES.get("/api/calendars/{id}", reply=Calendar)
async def get_calendar(request: web.Request) -> Reply:
    """Read a calendar."""
    return Json(await request.app[RULES].calendars.get(request.match_info["id"]))


@ROUTES.put("/api/calendars/{id}", role=Role.ENGINEER, body=Calendar, reply=Calendar)
async def change_calendar(request: web.Request, body: Calendar) -> Reply:
    """Change a calendar; the windows that name it follow at once."""
    return Json(await request.app[RULES].calendars.change(request.match_info["id"], body, request[USER].name))


@ROUTES.delete("/api/calendars/{id}", role=Role.ENGINEER)
async def delete_calendar(request: web.Request) -> Reply:
    """Delete a calendar that no rule names."""
    return Json(await request.app[RULES].calendars.delete(request.match_info["id"]))


@ROUTES.get("/api/rules", query=PageQuery, reply=Page)
async def list_rules(request: web.Request, query: PageQuery) -> Reply:
    """List the rules by id."""
    return Json(await request.app[RULES].definitions.page(query.arguments()))


@ROUTES.post("/api/rules", role=Role.ENGINEER, body=Rule, reply=Rule, status=201)
async def create_rule(request: web.Request, body: Rule) -> Reply:
    """Create a rule; it is evaluated at once."""
    return Json(await request.app[RULES].definitions.create(body, request[USER].name))


@ROUTES.get("/api/rules/firings", query=FiringQuery, reply=Page)
async def list_firings(request: web.Request, query: FiringQuery) -> Reply:
    """List what rules did, newest first, with the inputs of that moment."""
    only = query.model_dump(include={"rule", "event"}, exclude_none=True)
    return await request.app[RULES].firings(query.limit, query.cursor, only)


@ROUTES.get("/api/rules/stats")
async def rule_stats(request: web.Request) -> Reply:
    """Count the rules: enabled, active, unknown."""
    return Json(await request.app[RULES].stats())


@ROUTES.get("/api/rules/{id}", reply=Rule)
async def get_rule(request: web.Request) -> Reply:
    """Read a rule."""
    return Json(await request.app[RULES].definitions.get(request.match_info["id"]))


@ROUTES.put("/api/rules/{id}", role=Role.ENGINEER, body=Rule, reply=Rule)
async def change_rule(request: web.Request, body: Rule) -> Reply:
    """Change a rule; its holds start anew."""
    return Json(await request.app[RULES].definitions.change(request.match_info["id"], body, request[USER].name))


@ROUTES.delete("/api/rules/{id}", role=Role.ENGINEER)
async def delete_rule(request: web.Request) -> Reply:
    """Delete a rule; the alarms it raised return."""
    return Json(await request.app[RULES].definitions.delete(request.match_info["id"]))


@ROUTES.post("/api/rules/{id}/enable", role=Role.ENGINEER, body=Comment, reply=Rule)
async def enable_rule(request: web.Request, body: Comment) -> Reply:  # noqa: ARG001 - what people expect to send
    """Switch a rule on."""
    return Json(await request.app[RULES].enable(request.match_info["id"], enabled=True))


@ROUTES.post("/api/rules/{id}/disable", role=Role.ENGINEER, body=Comment, reply=Rule)
async def disable_rule(request: web.Request, body: Comment) -> Reply:  # noqa: ARG001 - what people expect to send
    """Switch a rule off; the alarms it raised return."""
    return Json(await request.app[RULES].enable(request.match_info["id"], enabled=False))


@ROUTES.post("/api/rules/{id}/evaluate", role=Role.VIEWER, body=Simulation)
async def evaluate_rule(request: web.Request, body: Simulation) -> Reply:
    """Evaluate a rule now, or with simulated values; it acts on nothing."""
    return Json(await request.app[RULES].evaluate(request.match_info["id"], body.values))
