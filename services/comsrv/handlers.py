"""comsrv's routes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from libs.errors import NotFoundError, StateError
from libs.http import Role, Routes
from libs.http.pages import Page, PageQuery
from libs.points import PointKind
from services.comsrv import commissioning, ledger, operations, views
from services.comsrv.appkeys import CHANNELS, FUNCTIONS, MODBUS_SERVER, STARTED
from services.comsrv.channel import Channel
from services.comsrv.diagnostics import diagnostics
from services.comsrv.plugins.registry import protocols
from services.comsrv.schemas import (
    ChannelBody,
    ChannelChange,
    FramesBody,
    FramesQuery,
    PointsQuery,
    PointValue,
)
from services.comsrv.traffic import FrameLog

routes = Routes()
routes.include(operations.routes)
routes.include(commissioning.routes)


def _channel(request: web.Request) -> int:
    return int(request.match_info["ch"])


def _point(request: web.Request) -> tuple[PointKind, int]:
    return PointKind(request.match_info["type"]), int(request.match_info["point"])


async def _shown_point(request: web.Request) -> dict[str, Any]:
    functions = request.app[FUNCTIONS]
    document = await functions.get(_channel(request))
    return await views.point(functions, request.app[CHANNELS], document, *_point(request))


def _frames(request: web.Request) -> FrameLog:
    """Return the frame log of a channel that runs here."""
    runner = request.app[CHANNELS].runner(_channel(request))
    if runner.poller is None:
        raise StateError(f"channel {runner.channel.id} is {runner.state}")
    traffic = runner.poller.plugin.traffic
    if traffic is None:
        raise StateError(f"channel {runner.channel.id}: protocol {runner.channel.protocol} has no frames")
    return traffic.frames


@routes.get("/api/protocols")
async def list_protocols(_: web.Request) -> dict[str, Any]:
    """List the protocols installed, with their parameters and mapping as JSON schema."""
    return {"items": [views.protocol(name, plugin) for name, plugin in protocols().items()], "cursor": None}


@routes.get("/api/channels", query=PageQuery, reply=Page)
async def list_channels(request: web.Request, query: PageQuery) -> dict[str, Any]:
    """List channels with their state, without their points."""
    page = await request.app[FUNCTIONS].page(query.limit, query.cursor)
    items = [views.summary(document, request.app[CHANNELS]) for document in page["items"]]
    return {"items": items, "cursor": page["cursor"]}


@routes.post("/api/channels", role=Role.ENGINEER, body=ChannelBody, status=201)
async def create_channel(request: web.Request, body: ChannelBody) -> dict[str, Any]:
    """Create a channel and run it."""
    return await request.app[CHANNELS].create(Channel(**dict(body), source="api"))


@routes.get("/api/channels/{ch}")
async def get_channel(request: web.Request) -> dict[str, Any]:
    """Show a channel with its points' declarations and its state."""
    document = await request.app[FUNCTIONS].get(_channel(request))
    return views.detail(document, request.app[CHANNELS])


@routes.put("/api/channels/{ch}", role=Role.ENGINEER, body=ChannelBody)
async def replace_channel(request: web.Request, body: ChannelBody) -> dict[str, Any]:
    """Replace a channel's definition; it runs on with the new one."""
    channel_id = _channel(request)
    if body.id != channel_id:
        raise NotFoundError(f"the body is of channel {body.id}, the path of channel {channel_id}")
    return await request.app[CHANNELS].replace(Channel(**dict(body), source="api"))


@routes.patch("/api/channels/{ch}", role=Role.ENGINEER, body=ChannelChange)
async def change_channel(request: web.Request, body: ChannelChange) -> dict[str, Any]:
    """Change parts of a channel's definition; what is left out stays."""
    channels = request.app[CHANNELS]
    old = channels.runner(_channel(request)).channel
    changed = {name: getattr(body, name) for name in body.model_fields_set if getattr(body, name) is not None}
    return await channels.replace(old.model_copy(update=changed | {"source": "api"}))


@routes.delete("/api/channels/{ch}", role=Role.ENGINEER, status=204)
async def delete_channel(request: web.Request) -> None:
    """Delete a channel with its points; alarms and history stay."""
    await request.app[CHANNELS].delete(_channel(request))


@routes.post("/api/channels/{ch}/start", role=Role.ENGINEER)
async def start_channel(request: web.Request) -> dict[str, Any]:
    """Start a channel that was stopped."""
    runner = request.app[CHANNELS].runner(_channel(request))
    runner.start()
    return {"id": runner.channel.id, "state": runner.state}


@routes.post("/api/channels/{ch}/stop", role=Role.ENGINEER)
async def stop_channel(request: web.Request) -> dict[str, Any]:
    """Stop a channel; its points become bad:stale. It stays stopped until it is started, or comsrv is."""
    await request.app[CHANNELS].halt(_channel(request))
    return {"id": _channel(request), "state": request.app[CHANNELS].runner(_channel(request)).state}


@routes.post("/api/channels/{ch}/restart", role=Role.ENGINEER)
async def restart_channel(request: web.Request) -> dict[str, Any]:
    """Stop a channel and start it again."""
    await request.app[CHANNELS].restart(_channel(request))
    return {"id": _channel(request), "state": request.app[CHANNELS].runner(_channel(request)).state}


@routes.post("/api/channels/{ch}/reload", role=Role.ENGINEER)
async def reload_channel(request: web.Request) -> dict[str, Any]:
    """Read a channel's tables anew; with problems it goes on as it was."""
    return await request.app[CHANNELS].reload(_channel(request))


@routes.get("/api/channels/{ch}/points", query=PointsQuery, reply=Page)
async def list_points(request: web.Request, query: PointsQuery) -> dict[str, Any]:
    """List a channel's points with value, quality and age."""
    functions = request.app[FUNCTIONS]
    document = await functions.get(_channel(request))
    return await views.points(functions, request.app[CHANNELS], document, query)


@routes.get("/api/channels/{ch}/points/{type}/{point}")
async def get_point(request: web.Request) -> dict[str, Any]:
    """Show a point with value, quality and age."""
    return await _shown_point(request)


@routes.put("/api/channels/{ch}/points/{type}/{point}", role=Role.OPERATOR, body=PointValue)
async def set_point(request: web.Request, body: PointValue) -> dict[str, Any]:
    """Set a point of a virtual channel."""
    kind, point_id = _point(request)
    runner = request.app[CHANNELS].runner(_channel(request))
    await runner.set_point(kind, point_id, body.value, body.quality, body.at_ms)
    return await _shown_point(request)


@routes.get("/api/channels/{ch}/diagnostics")
async def diagnose(request: web.Request) -> dict[str, Any]:
    """Show what a channel does: lease, poll groups, link, units, blocks, quarantine, what was learned, errors."""
    channel_id = _channel(request)
    status = await request.app[FUNCTIONS].status(channel_id)
    return diagnostics(status, request.app[CHANNELS].runners.get(channel_id))


@routes.get("/api/channels/{ch}/frames", query=FramesQuery)
async def list_frames(request: web.Request, query: FramesQuery) -> dict[str, Any]:
    """Show the frames that were kept of a channel's link, with what they mean."""
    return _frames(request).document(query.limit, query.after)


@routes.put("/api/channels/{ch}/frames", role=Role.ENGINEER, body=FramesBody)
async def keep_frames(request: web.Request, body: FramesBody) -> dict[str, Any]:
    """Keep the frames of a channel's link for a time, or no more; channels that share the link share the log."""
    frames = _frames(request)
    if body.seconds:
        frames.start(body.seconds, body.limit)
    else:
        frames.stop()
    return frames.document()


@routes.get("/api/ledger")
async def get_ledger(request: web.Request) -> dict[str, Any]:
    """Show the counters of samples, in total and since the start of comsrv, and whether they balance."""
    runners = request.app[CHANNELS].runners
    names = {channel_id: runner.channel.name for channel_id, runner in runners.items()}
    return ledger.document(await request.app[FUNCTIONS].ledger(), *request.app[STARTED], names)


@routes.get("/api/modbus-server")
async def show_modbus_server(request: web.Request) -> dict[str, Any]:
    """Show the Modbus server of this site: its address, its clients and what they asked."""
    server = request.app.get(MODBUS_SERVER)
    return {"enabled": False} if server is None else {"enabled": True, **server.document()}
