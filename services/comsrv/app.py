"""The composition root of comsrv."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from libs import clock
from libs.errors import UnavailableError
from libs.http import BACKGROUND, service_app
from libs.http.metrics import METRICS
from libs.redis import client, library
from libs.redis.client import Client, execute
from libs.redis.functions import Functions
from services.comsrv.appkeys import CHANNELS, FUNCTIONS, MODBUS_SERVER, STARTED
from services.comsrv.channel import Channel
from services.comsrv.channels import Channels
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.handlers import routes
from services.comsrv.identity import Identity
from services.comsrv.memory import settle, unsearched
from services.comsrv.metrics import ChannelCollector
from services.comsrv.planning import Files
from services.comsrv.serving.check import load_served
from services.comsrv.serving.server import build
from services.comsrv.serving.table import Served
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site

NAME: Final = "comsrv"
SETTINGS: Final = web.AppKey("settings", ComsrvSettings)
REDIS: Final = web.AppKey("redis", Client)


def create_app(settings: ComsrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts.

    Raises:
        ConfigurationError: every problem of every point table.
    """

    async def redis() -> None:
        await execute(app[REDIS], "PING")

    async def functions() -> str:
        return (await library.check(app[REDIS], settings.namespace)).digest

    async def channels() -> None:
        if not app[CHANNELS].synced.is_set():
            raise UnavailableError("the channels are not in Redis yet")
        if waiting := app[CHANNELS].waiting():
            raise UnavailableError(f"channels {waiting} have blocks without a first attempt")

    checks = {"redis": redis, "functions": functions, "channels": channels}
    app = service_app(settings, NAME, routes, checks=checks, configuration=Files(lambda: app, settings))
    app[SETTINGS] = settings
    with unsearched():
        declared = load_site(settings.config_dir, settings)
    served = load_served(settings, declared)

    async def resources(app: web.Application) -> AsyncIterator[None]:
        async with _resources(app, declared, served):
            yield

    app.cleanup_ctx.append(resources)
    return app


@asynccontextmanager
async def _resources(
    app: web.Application, declared: tuple[Channel, ...], served: tuple[Served, ...]
) -> AsyncIterator[None]:
    """Hold the connections and the channels; the channels stop before their connections close."""
    settings = app[SETTINGS]
    app[REDIS] = client.connect(settings.redis_url, restarts=True)
    blocking = client.connect(settings.redis_url, blocking=True, connections=2)
    identity = Identity(settings.data_dir / "comsrv")
    try:
        await library.check(app[REDIS], settings.namespace)
        app[FUNCTIONS] = ComsrvFunctions(Functions(app[REDIS], settings.namespace))
        app[STARTED] = await app[FUNCTIONS].ledger(), clock.now_ms()
        app[CHANNELS] = channels = Channels(app[FUNCTIONS], settings, declared, identity)
        app[METRICS].registry.register(ChannelCollector(lambda: channels.runners))
        app[BACKGROUND].start(channels.start(), "channels")
        app[BACKGROUND].start(channels.wake(blocking), "commands")
        app[BACKGROUND].start(settle(channels), "memory")
        async with _serving(app, served):
            yield
        await channels.stop()
    finally:
        await app[BACKGROUND].stop()
        identity.close()
        await app[REDIS].aclose()
        await blocking.aclose()


@asynccontextmanager
async def _serving(app: web.Application, served: tuple[Served, ...]) -> AsyncIterator[None]:
    """Hold the Modbus server, where there is one."""
    settings = app[SETTINGS].modbus_server
    if not settings.enabled:
        yield
        return
    port = settings.port_for(app[SETTINGS].port_base)
    app[MODBUS_SERVER] = server = build(app[FUNCTIONS], app[CHANNELS].runners, settings, served, port)
    await server.open()
    try:
        yield
    finally:
        await server.close()
