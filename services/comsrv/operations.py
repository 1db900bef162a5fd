"""Routes of what operators do to a point: commands, tags, selections, substitutions, holds, and their journal."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from libs.clock import monotonic_ms
from libs.errors import ForbiddenError, InvalidError
from libs.http import USER, Role, Routes
from libs.http.pages import Page, PageQuery
from libs.points import PointKind
from services.comsrv.appkeys import CHANNELS, FUNCTIONS
from services.comsrv.schemas import (
    CommandBody,
    CommandsQuery,
    Reason,
    SelectionBody,
    SubstitutionBody,
    TagBody,
    WaitQuery,
)

# A waiting request hears of outcomes in this process; it looks this often for those of another.
LOOK_S: Final = 0.05

routes = Routes()


@routes.post("/api/channels/{ch}/commands", role=Role.OPERATOR, body=CommandBody, query=WaitQuery, status=202)
async def submit_command(request: web.Request, body: CommandBody, query: WaitQuery) -> dict[str, Any]:
    """Submit a command; with wait_ms the answer is its final form, if it has one by then."""
    functions, user = request.app[FUNCTIONS], request[USER]
    document = body.model_dump(exclude_none=True, exclude={"bypass_reason"})
    document |= {"point": str(body.point), "source": {"kind": "user", "name": user.name}}
    if body.bypass_reason is not None:
        if not user.role.includes(Role.ENGINEER):
            raise ForbiddenError(f"bypassing an interlock needs the role {Role.ENGINEER}, this token has {user.role}")
        document["bypass"] = {"by": user.name, "reason": body.bypass_reason}
    command = await functions.submit(int(request.match_info["ch"]), document)
    end = monotonic_ms() + (query.wait_ms or 0)
    with request.app[CHANNELS].outcomes.of(command["id"]) as news:
        while not command["final"] and (left_ms := end - monotonic_ms()) > 0:
            command = await news.wait(min(LOOK_S, left_ms / 1000)) or await functions.command(command["id"])
    return command


@routes.get("/api/commands", query=CommandsQuery, reply=Page)
async def list_commands(request: web.Request, query: CommandsQuery) -> dict[str, Any]:
    """List commands, newest first."""
    return await request.app[FUNCTIONS].commands(query.arguments())


@routes.get("/api/commands/journal", query=PageQuery, reply=Page)
async def read_journal(request: web.Request, query: PageQuery) -> dict[str, Any]:
    """List what became of commands and what operators did to points, newest first."""
    if query.cursor is not None and not query.cursor.replace("-", "", 1).isdecimal():
        raise InvalidError("cursor is none of ours; take it from the page before")
    return await request.app[FUNCTIONS].operations(query.limit, query.cursor)


@routes.get("/api/commands/{id}")
async def get_command(request: web.Request) -> dict[str, Any]:
    """Show a command with its transitions."""
    return await request.app[FUNCTIONS].command(request.match_info["id"])


@routes.get("/api/channels/{ch}/holds")
async def list_holds(request: web.Request) -> dict[str, Any]:
    """Show who holds points of a channel, until when, and the fall-back that follows."""
    channel = int(request.match_info["ch"])
    await request.app[FUNCTIONS].get(channel)
    return {"items": await request.app[FUNCTIONS].holds(channel), "cursor": None}


@routes.post("/api/channels/{ch}/points/{type}/{point}/release", role=Role.OPERATOR, body=Reason)
async def release(request: web.Request, body: Reason) -> dict[str, Any]:
    """End a hold before its time; its fall-back is written."""
    document = _of_point(request) | {"by": {"kind": "user", "name": request[USER].name}, "reason": body.comment}
    return await request.app[FUNCTIONS].release_hold(int(request.match_info["ch"]), document)


@routes.post("/api/channels/{ch}/points/{type}/{point}/select", role=Role.OPERATOR, body=SelectionBody)
async def select(request: web.Request, body: SelectionBody) -> dict[str, Any]:
    """Select a point before operating it; until it ends nobody else commands it."""
    return await _operate(request, "command_select", {"user": request[USER].name, "ttl_ms": body.ttl_ms})


@routes.post("/api/channels/{ch}/points/{type}/{point}/tag", role=Role.OPERATOR, body=TagBody)
async def tag(request: web.Request, body: TagBody) -> dict[str, Any]:
    """Tag a point (lock-out or maintenance); nobody commands it until the tag is taken off."""
    return await _operate(request, "point_tag", _by(request) | body.model_dump())


@routes.post("/api/channels/{ch}/points/{type}/{point}/untag", role=Role.OPERATOR, body=Reason)
async def untag(request: web.Request, body: Reason) -> dict[str, Any]:
    """Take a tag off."""
    return await _operate(request, "point_untag", _by(request) | {"reason": body.comment})


@routes.post("/api/channels/{ch}/points/{type}/{point}/substitute", role=Role.OPERATOR, body=SubstitutionBody)
async def substitute(request: web.Request, body: SubstitutionBody) -> dict[str, Any]:
    """Put a value by hand in the place of the device's, for a time."""
    return await _operate(request, "point_substitute", _by(request) | body.model_dump())


@routes.post("/api/channels/{ch}/points/{type}/{point}/restore", role=Role.OPERATOR, body=Reason)
async def restore(request: web.Request, body: Reason) -> dict[str, Any]:
    """End a substitution: the device's value counts again."""
    return await _operate(request, "point_restore", _by(request) | {"reason": body.comment})


async def _operate(request: web.Request, function: str, document: dict[str, Any]) -> dict[str, Any]:
    channel = int(request.match_info["ch"])
    request.app[CHANNELS].runner(channel)
    given = {name: value for name, value in document.items() if value is not None}
    return await request.app[FUNCTIONS].operate(function, channel, _of_point(request) | given)


def _of_point(request: web.Request) -> dict[str, Any]:
    return {"type": PointKind(request.match_info["type"]).value, "point": request.match_info["point"]}


def _by(request: web.Request) -> dict[str, Any]:
    return {"by": request[USER].name}
