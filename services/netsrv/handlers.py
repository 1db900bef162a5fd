"""The routes of netsrv: parse, one call, respond."""

from __future__ import annotations

import contextlib
from typing import Final

from aiohttp import web

from libs.errors import InvalidError, UnavailableError
from libs.http import Page, PageQuery, Reply, Role, Routes
from libs.http.definitions import DefinitionRoutes
from services.netsrv.forwarder import Forwarder
from services.netsrv.functions import NetworkFunctions
from services.netsrv.networks import Networks
from services.netsrv.schemas import Network, NetworkStatus, Route, RouteQuery

FUNCTIONS: Final = web.AppKey("functions", NetworkFunctions)
FORWARDER: Final = web.AppKey("forwarder", Forwarder)
NETWORKS: Final = web.AppKey("networks", Networks)
ROUTES: Final = Routes()


class ForwardedRoutes(DefinitionRoutes):
    """A change counts at once; where Redis went away meanwhile it counts with the next batch."""

    async def changed(self, request: web.Request) -> None:
        """Let the forwarder read its definitions anew."""
        with contextlib.suppress(UnavailableError):
            await request.app[FORWARDER].reload()


class RouteRoutes(ForwardedRoutes):
    """Routes are listed by their network, too."""

    query = RouteQuery


ROUTES.include(
    ForwardedRoutes(
        "/api/networks",
        "network",
        Network,
        lambda app: app[FUNCTIONS].networks,
        list="They hold no secrets.",
        create="It connects within a second.",
        change="What waits for it stays.",
        delete="No route may use it; the file of what waited for it stays in the data directory.",
    ).routes()
)
ROUTES.include(
    RouteRoutes(
        "/api/routes",
        "route",
        Route,
        lambda app: app[FUNCTIONS].routes,
        create="What changes from then on is forwarded.",
        delete="Messages it wrote already are still sent.",
    ).routes()
)


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
