"""The composition root of hissrv."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from prometheus_client import Gauge

from libs.config.desired import Entry, read_desired
from libs.errors import UnavailableError
from libs.http import BACKGROUND
from libs.http.metrics import METRICS
from libs.influx.client import Server
from libs.redis import client
from libs.redis.reports import Reporter
from libs.startup import Startup, functions_of
from services.hissrv.consumer import Consumer, Maintenance
from services.hissrv.functions import MAPPING, HistoryFunctions
from services.hissrv.handlers import CONSUMER, FUNCTIONS, MAINTENANCE, REFERENCES, ROUTES, STORE, TRANSFER
from services.hissrv.jobs import Jobs
from services.hissrv.recording import Mapping
from services.hissrv.references import References
from services.hissrv.replay.handlers import JOBS, KEEPER, REPLAYS
from services.hissrv.replay.history import History
from services.hissrv.replay.keeper import Keeper, Options
from services.hissrv.replay.replays import Replays
from services.hissrv.settings import HissrvSettings
from services.hissrv.store.contract import Store
from services.hissrv.store.embedded import EmbeddedStore
from services.hissrv.store.influx import InfluxStore
from services.hissrv.store.pair import PairStore
from services.hissrv.store.victoria import VictoriaStore
from services.hissrv.transfer import Transfer
from services.hissrv.troubles import Troubles

_LOG = logging.getLogger(__name__)
NAME: Final = "hissrv"
# What its files hold, by section, in the order in which they build on one another.
KINDS: Final = {"mappings": MAPPING}
OPEN_PAUSE_S: Final = 1.0


def desired(settings: HissrvSettings) -> list[Entry]:
    """Read the mappings in config/mappings/*.yaml."""
    return read_desired(settings.config_dir / "mappings", {"mappings": Mapping})


def create_app(settings: HissrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""
    functions = functions_of(settings)
    history = HistoryFunctions(functions)
    blocking = client.connect(settings.redis_url, blocking=True)
    store = make_store(settings)
    consumer = Consumer(history, blocking, store, settings.consumer, settings.consumer_name)
    maintenance = Maintenance(store)
    folders = {"data": settings.data_dir.absolute()}
    if not settings.influxdb.url or settings.influxdb.beside:
        folders["history"] = settings.store_folder.absolute()
    troubles = Troubles(store, consumer, maintenance, folders)

    transfer = Transfer(lambda: stores_by_name(store), settings.data_dir / "transfer", settings.transfer)
    keeper = Keeper(
        functions,
        settings.redis_url,
        settings.replay_folder,
        Options(settings.replay_days, settings.replay_mb << 20),
    )
    references = References(functions)
    replays = Replays(
        functions,
        settings.redis_url,
        History(store, references),
        settings.replay_folder,
        settings.namespace,
        memory_bytes=settings.replay_memory_mb << 20,
        server=settings.redis.server,
    )
    kinds = {"export": transfer.export, "import": transfer.import_, "copy": transfer.copy}
    kinds |= {"replay": replays.perform, "backtest": replays.perform}
    jobs = Jobs(functions, settings.consumer_name, kinds, transfer.uploads.forget)

    async def check_store() -> dict[str, object]:
        return (await store.status())._asdict()

    async def check_queue() -> None:
        if problem := consumer.problem or maintenance.problem:
            raise UnavailableError(problem)

    async def record() -> None:
        await opened(store)
        await asyncio.to_thread(transfer.tidy)
        app[BACKGROUND].start(maintenance.run(), "maintenance")
        app[BACKGROUND].start(jobs.run(), "jobs")
        await consumer.run()

    async def resources(app: web.Application) -> AsyncIterator[None]:
        yield
        # The tasks end before what they use.
        await app[BACKGROUND].stop()
        await store.close()
        await blocking.aclose()

    startup = Startup(
        functions,
        settings.namespace,
        kinds=KINDS,
        read=lambda: desired(settings),
        work={"record": record, "replay": keeper.run, "report": Reporter(functions, NAME, troubles.look).run},
        checks={"store": check_store, "queue": check_queue},
    )
    app = startup.app(settings, NAME, ROUTES)
    app[STORE], app[CONSUMER], app[MAINTENANCE] = store, consumer, maintenance
    app[FUNCTIONS], app[REFERENCES] = history, references
    app[JOBS], app[TRANSFER], app[REPLAYS], app[KEEPER] = jobs, transfer, replays, keeper
    register_metrics(app)
    app.cleanup_ctx.append(resources)
    return app


def make_store(settings: HissrvSettings) -> Store:
    """Return the store the settings ask for: a server where its URL is set, else the embedded one, or both."""
    influx = settings.influxdb
    if not influx.url:
        return embedded_store(settings)
    token = influx.token.get_secret_value() if influx.token else ""
    server = Server(
        influx.url, influx.api, token, influx.org, influx.bucket, influx.database, timeout_s=influx.timeout_s
    )
    remote = (VictoriaStore if influx.api == "victoria" else InfluxStore)(server, batch_lines=influx.batch_lines)
    return PairStore(embedded_store(settings), remote) if influx.beside else remote


def stores_by_name(store: Store) -> dict[str, Store]:
    """Return what a copy may name: the store that answers is `main`, of two each by what it is."""
    if isinstance(store, PairStore):
        return {"main": store, "embedded": store.first, "server": store.second}
    return {"main": store}


def embedded_store(settings: HissrvSettings) -> EmbeddedStore:
    """Return the embedded store."""
    options = settings.store
    return EmbeddedStore(
        settings.store_folder,
        window_ms=options.window_ms,
        window_points=options.window_points,
        retention_days=options.retention_days,
        max_disk_percent=options.max_disk_percent,
        query_timeout_s=options.query_timeout_s,
        query_samples=options.query_samples,
    )


def register_metrics(app: web.Application) -> None:
    """Add what the consumer counts to the service's metrics."""
    consumer, registry = app[CONSUMER], app[METRICS].registry
    counts = Gauge("voltage_history_samples", "Samples written since the start", registry=registry)
    counts.set_function(lambda: consumer.samples)
    repeats = Gauge("voltage_history_repeated", "Entries that came again and were known", registry=registry)
    repeats.set_function(lambda: consumer.repeated)
    waits = Gauge("voltage_history_waiting", "1 while the store or Redis is away", registry=registry)
    waits.set_function(lambda: float(consumer.problem is not None))
    keeper = app[KEEPER]
    lost = Gauge(
        "voltage_replay_dropped", "Calls that are not in the replay log because it was full", registry=registry
    )
    lost.set_function(lambda: keeper.dropped)
    stuck = Gauge("voltage_replay_waiting", "1 while the replay log can't be written", registry=registry)
    stuck.set_function(lambda: float(keeper.problem is not None))


async def opened(store: Store) -> None:
    """Open the store, however long that takes; the service's health says why meanwhile."""
    while True:
        try:
            await store.open()
        except UnavailableError as error:
            _LOG.error("%s", error)
            await asyncio.sleep(OPEN_PAUSE_S)
        else:
            return
