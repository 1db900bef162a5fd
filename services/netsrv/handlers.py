"""The routes of netsrv: parse, one call, respond."""

from __future__ import annotations

import contextlib
from typing import Final

from aiohttp import web

from libs.errors import InvalidError, UnavailableError
from libs.http import USER, Json, Page, PageQuery, Reply, Role, Routes
from services.netsrv.forwarder import Forwarder
from services.netsrv.functions import NetworkFunctions
from services.netsrv.networks import Networks
from services.netsrv.schemas import Network, NetworkStatus, Route, RouteQuery

FUNCTIONS: Final = web.AppKey("functions", NetworkFunctions)
FORWARDER: Final = web.AppKey("forwarder", Forwarder)
NETWORKS: Final = web.AppKey("networks", Networks)
ROUTES: Final = Routes()


async def _done(request: web.Request, stored: bytes) -> Json:
    """Let a change count at once; where Redis went away meanwhile it counts with the next batch."""
    with contextlib.suppress(UnavailableError):
        await request.app[FORWARDER].reload()
    return Json(stored)


@ROUTES.get("/api/networks", query=PageQuery, reply=Page)
async def list_networks(request: web.Request, query: PageQuery) -> Reply:
    """List the networks by id; they hold no secrets."""
    return Json(await request.app[FUNCTIONS].networks.page(query.arguments()))


@ROUTES.post("/api/networks", role=Role.ENGINEER, body=Network, reply=Network, status=201)
async def create_network(request: web.Request, body: Network) -> Reply:
    """Create a network; it connects within a second."""
    return await _done(request, await request.app[FUNCTIONS].networks.create(body, request[USER].name))


@ROUTES.get("/api/networks/{id}", reply=Network)
async def get_network(request: web.Request) -> Reply:
    """Read a network."""
    return Json(await request.app[FUNCTIONS].networks.get(request.match_info["id"]))


@ROUTES.put("/api/networks/{id}", role=Role.ENGINEER, body=Network, reply=Network)
async def change_network(request: web.Request, body: Network) -> Reply:
    """Change a network; what waits for it stays."""
    return await _done(
        request, await request.app[FUNCTIONS].networks.change(request.match_info["id"], body, request[USER].name)
    )


@ROUTES.delete("/api/networks/{id}", role=Role.ENGINEER)
async def delete_network(request: web.Request) -> Reply:
    """Delete a network that no route uses; the file of what waited for it stays in the data directory."""
    return await _done(request, await request.app[FUNCTIONS].networks.delete(request.match_info["id"]))


@ROUTES.get("/api/networks/{id}/status", reply=NetworkStatus)
async def network_status(request: web.Request) -> Reply:
    """Show whether a network is connected, what waits for it, and what was sent, dropped or refused."""
    return await request.app[NETWORKS].get(request.match_info["id"]).status()


@ROUTES.get("/api/networks/{id}/dead-letters", query=PageQuery, reply=Page)
async def network_dead_letters(request: web.Request, query: PageQuery) -> Reply:
    """List the messages that the other side refused for good, newest first, with the reason."""
    if query.cursor is not None and not query.cursor.isdigit():
        raise InvalidError(f"cursor {query.cursor[:40]!r} is none of ours")
    queue = request.app[NETWORKS].get(request.match_info["id"]).queue
    items = await queue.dead_letters(query.limit, int(query.cursor) if query.cursor else None)
    return {"items": items, "cursor": items[-1]["id"] if len(items) == query.limit else None}


@ROUTES.post("/api/networks/{id}/dead-letters/retry", role=Role.ENGINEER)
async def retry_network_dead_letters(request: web.Request) -> Reply:
    """Queue all dead letters of a network again."""
    queue = request.app[NETWORKS].get(request.match_info["id"]).queue
    return {"queued": await queue.retry_dead()}


@ROUTES.get("/api/routes", query=RouteQuery, reply=Page)
async def list_routes(request: web.Request, query: RouteQuery) -> Reply:
    """List the routes by id."""
    return Json(await request.app[FUNCTIONS].routes.page(query.arguments()))


@ROUTES.post("/api/routes", role=Role.ENGINEER, body=Route, reply=Route, status=201)
async def create_route(request: web.Request, body: Route) -> Reply:
    """Create a route; what changes from then on is forwarded."""
    return await _done(request, await request.app[FUNCTIONS].routes.create(body, request[USER].name))


@ROUTES.get("/api/routes/{id}", reply=Route)
async def get_route(request: web.Request) -> Reply:
    """Read a route."""
    return Json(await request.app[FUNCTIONS].routes.get(request.match_info["id"]))


@ROUTES.put("/api/routes/{id}", role=Role.ENGINEER, body=Route, reply=Route)
async def change_route(request: web.Request, body: Route) -> Reply:
    """Change a route."""
    return await _done(
        request, await request.app[FUNCTIONS].routes.change(request.match_info["id"], body, request[USER].name)
    )


@ROUTES.delete("/api/routes/{id}", role=Role.ENGINEER)
async def delete_route(request: web.Request) -> Reply:
    """Delete a route; messages it wrote already are still sent."""
    return await _done(request, await request.app[FUNCTIONS].routes.delete(request.match_info["id"]))
