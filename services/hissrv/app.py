"""The composition root of hissrv."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from prometheus_client import Gauge

from libs.errors import UnavailableError
from libs.http import BACKGROUND, service_app
from libs.http.metrics import METRICS
from libs.redis import client, library
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.hissrv.consumer import Consumer, Maintenance
from services.hissrv.functions import HistoryFunctions
from services.hissrv.handlers import CONSUMER, FUNCTIONS, MAINTENANCE, REFERENCES, ROUTES, STORE
from services.hissrv.references import References
from services.hissrv.settings import HissrvSettings
from services.hissrv.store.contract import Store
from services.hissrv.store.embedded import EmbeddedStore

_LOG = logging.getLogger(__name__)
NAME: Final = "hissrv"
OPEN_PAUSE_S: Final = 1.0


def create_app(settings: HissrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""

    async def redis() -> None:
        await execute(app[REDIS], "PING")

    async def functions() -> str:
        return (await library.check(app[REDIS], settings.namespace)).digest

    async def store() -> dict[str, object]:
        return (await app[STORE].status())._asdict()

    async def queue() -> None:
        if problem := app[CONSUMER].problem or app[MAINTENANCE].problem:
            raise UnavailableError(problem)

    checks = {"redis": redis, "functions": functions, "store": store, "queue": queue}
    app = service_app(settings, NAME, ROUTES, checks=checks)
    app[SETTINGS] = settings
    app[STORE] = make_store(settings)
    app.cleanup_ctx.append(_resources)
    return app


SETTINGS: Final = web.AppKey("settings", HissrvSettings)
REDIS: Final = web.AppKey("redis", client.Client)


def make_store(settings: HissrvSettings) -> Store:
    """Return the store the settings ask for."""
    options = settings.store
    return EmbeddedStore(
        settings.store_folder,
        window_ms=options.window_ms,
        window_points=options.window_points,
        retention_days=options.retention_days,
        memory_mb=options.memory_mb,
        threads=options.threads,
        max_disk_percent=options.max_disk_percent,
        query_timeout_s=options.query_timeout_s,
    )


async def _resources(app: web.Application) -> AsyncIterator[None]:
    """Hold the connections and the store; the tasks end before what they use."""
    settings = app[SETTINGS]
    app[REDIS] = client.connect(settings.redis_url)
    blocking = client.connect(settings.redis_url, blocking=True)
    try:
        await library.check(app[REDIS], settings.namespace)
        functions = Functions(app[REDIS], settings.namespace)
        app[FUNCTIONS] = HistoryFunctions(functions)
        app[REFERENCES] = References(functions)
        app[CONSUMER] = Consumer(app[FUNCTIONS], blocking, app[STORE], settings.consumer, settings.consumer_name)
        app[MAINTENANCE] = Maintenance(app[STORE])
        _register_metrics(app)
        app[BACKGROUND].start(_record(app), "history")
        yield
    finally:
        await app[BACKGROUND].stop()
        await app[STORE].close()
        await app[REDIS].aclose()
        await blocking.aclose()


def _register_metrics(app: web.Application) -> None:
    """Add what the consumer counts to the service's metrics."""
    consumer, registry = app[CONSUMER], app[METRICS].registry
    counts = Gauge("voltage_history_samples", "Samples written since the start", registry=registry)
    counts.set_function(lambda: consumer.samples)
    repeats = Gauge("voltage_history_repeated", "Entries that came again and were known", registry=registry)
    repeats.set_function(lambda: consumer.repeated)
    waits = Gauge("voltage_history_waiting", "1 while the store or Redis is away", registry=registry)
    waits.set_function(lambda: float(consumer.problem is not None))


async def _record(app: web.Application) -> None:
    """Open the store, however long that takes, then consume and maintain."""
    while True:
        try:
            await app[STORE].open()
            break
        except UnavailableError as error:
            _LOG.error("%s", error)
            await asyncio.sleep(OPEN_PAUSE_S)
    app[BACKGROUND].start(app[CONSUMER].run(), "consumer")
    app[BACKGROUND].start(app[MAINTENANCE].run(), "maintenance")
