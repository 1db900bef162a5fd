"""The composition root of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from libs.config.versions import Versions
from libs.errors import UnavailableError
from libs.http import BACKGROUND, service_app
from libs.http.health import Check
from libs.http.routes import TOKEN_KEY
from libs.redis import client
from libs.redis.functions import Functions
from libs.services import SERVICES
from services.gateway.accounts import Accounts
from services.gateway.configuration import Configuration
from services.gateway.functions import GatewayFunctions
from services.gateway.handlers import (
    AUDIT,
    CONFIGURATION,
    FUNCTIONS,
    HUB,
    PROXY,
    ROUTES,
    SESSION,
    SESSIONS,
    SETTINGS,
    STREAMS,
    VERSIONS,
)
from services.gateway.hub import Hub
from services.gateway.live import Live
from services.gateway.merged import health_check
from services.gateway.proxy import Proxy, make_session
from services.gateway.sessions import Audit, Sessions
from services.gateway.settings import GatewaySettings

NAME: Final = "gateway"


def create_app(settings: GatewaySettings) -> web.Application:
    """Return the gateway; nothing connects before it starts."""

    async def redis() -> None:
        await app[FUNCTIONS].ping()

    async def functions() -> str:
        return (await app[FUNCTIONS].library()).digest

    async def stream() -> str:
        if problem := app[HUB].problem:
            raise UnavailableError(problem)
        return f"{app[HUB].clients} clients"

    checks: dict[str, Check] = {"redis": redis, "functions": functions, "stream": stream}
    for service in SERVICES:
        if service.name != NAME:
            address = settings.service_url(service.name)
            checks[service.name] = health_check(lambda: app[SESSION], service.name, address)
    app = service_app(settings, NAME, ROUTES, checks=checks, body_limit=settings.proxy.max_body_bytes)
    app[SETTINGS] = settings
    streams: set[Live] = set()
    app[STREAMS] = streams
    app.on_shutdown.append(_end_streams)
    app.cleanup_ctx.append(_resources)
    return app


async def _end_streams(app: web.Application) -> None:
    """End the live streams, so that the shutdown need not wait for their clients."""
    held = app[STREAMS]
    await asyncio.gather(*(stream.end("the gateway stops") for stream in list(held)))


async def _resources(app: web.Application) -> AsyncIterator[None]:
    """Hold the connections; the stream's tasks end before what they use."""
    settings = app[SETTINGS]
    redis = client.connect(settings.redis_url)
    blocking = client.connect(settings.redis_url, blocking=True)
    gate = Functions(redis, settings.namespace)
    app[FUNCTIONS] = GatewayFunctions(gate, settings.namespace)
    app[AUDIT] = Audit(app[FUNCTIONS])
    app[SESSIONS] = Sessions(Accounts(settings.data_dir), app[TOKEN_KEY], settings.session, app[AUDIT])
    app[HUB] = Hub(blocking, app[FUNCTIONS], gate.prefix)
    async with make_session(settings.proxy) as session:
        app[SESSION] = session
        app[PROXY] = Proxy(session, settings.proxy)
        app[CONFIGURATION] = Configuration(session, settings, gate)
        app[VERSIONS] = Versions(settings.config_dir, settings.data_dir)
        await asyncio.to_thread(app[VERSIONS].save, "gateway", "found at the start")
        app[BACKGROUND].start(app[HUB].run(), "stream")
        try:
            yield
        finally:
            await app[BACKGROUND].stop()
            await redis.aclose()
            await blocking.aclose()
