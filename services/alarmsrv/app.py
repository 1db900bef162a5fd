"""The composition root of alarmsrv."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from libs.config.desired import DesiredError, Entry, read_desired
from libs.config.load import reload
from libs.errors import Problem, UnavailableError
from libs.http import BACKGROUND
from libs.http.metrics import METRICS
from libs.redis import client
from libs.redis.reports import Reporter
from libs.startup import Startup, functions_of
from services.alarmsrv.functions import DEFINITION, ROUTE, AlarmFunctions
from services.alarmsrv.handlers import ALARMS, ROUTES
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.journal.handlers import JOURNAL
from services.alarmsrv.journal.journal import Archiver, Journal
from services.alarmsrv.metrics import AlarmMetrics
from services.alarmsrv.notify.dispatcher import Dispatcher
from services.alarmsrv.notify.facts import FactsOf
from services.alarmsrv.notify.handlers import DISPATCHER, FUNCTIONS
from services.alarmsrv.notify.outbox import Outbox
from services.alarmsrv.notify.senders import senders_of
from services.alarmsrv.notify.settings import NotificationSettings
from services.alarmsrv.notify.shifts import Shifts
from services.alarmsrv.notify.troubles import Troubles
from services.alarmsrv.quality.approved import Approved
from services.alarmsrv.quality.handlers import QUALITY
from services.alarmsrv.quality.history import History
from services.alarmsrv.quality.quality import Quality
from services.alarmsrv.retention import Retention
from services.alarmsrv.schemas import AlarmDefinition
from services.alarmsrv.settings import AlarmsrvSettings
from services.alarmsrv.system import SystemAlarms

NAME: Final = "alarmsrv"
# What its files hold, by section, in the order in which they build on one another.
KINDS: Final = {"definitions": DEFINITION, "routes": ROUTE}
FILE: Final = "alarmsrv.yaml"


def desired(settings: AlarmsrvSettings) -> list[Entry]:
    """Read the alarm definitions in config/alarms/*.yaml and the routes in config/alarmsrv.yaml.

    Raises:
        ConfigurationError: every problem, with file and line.
    """
    routes, problems = _routes(settings.notifications)
    try:
        entries = read_desired(settings.config_dir / "alarms", {"definitions": AlarmDefinition})
    except DesiredError as error:
        raise DesiredError(error.problems + problems, error.entries + routes, error.ill) from None
    if problems:
        raise DesiredError(problems, entries + routes)
    return entries + routes


def _routes(notifications: NotificationSettings) -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    for index, route in enumerate(notifications.routes):
        where = f"{FILE}: notifications.routes[{index}]"
        if route.id is None or any(entry.id == route.id for entry in entries):
            problems.append(Problem(where, f"id {route.id} is taken" if route.id else "id: is required"))
            continue
        entries.append(Entry("routes", route.id, route, where))
    return entries, problems


def reread(settings: AlarmsrvSettings) -> list[Entry]:
    """Return what the files say now; how messages are sent is as at the start."""
    routes = reload(settings, NAME).notifications.routes
    notifications = settings.notifications.model_copy(update={"routes": routes})
    return desired(settings.model_copy(update={"notifications": notifications}))


def create_app(settings: AlarmsrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""
    functions = functions_of(settings)
    alarms = AlarmFunctions(functions)
    journal = Journal(functions, Archive(settings.journal_folder))
    archiver = Archiver(journal, settings.journal.keep_entries, settings.journal.interval_s)
    quality = Quality(alarms, journal, History(settings), Approved(settings.folder))
    blocking = client.connect(settings.redis_url, blocking=True)
    dispatcher = Dispatcher(
        Outbox(functions, blocking),
        senders_of(settings.notifications),
        settings.notifications,
        FactsOf(functions),
    )

    async def check_notifications() -> str:
        if dispatcher.problem:
            raise UnavailableError(dispatcher.problem)
        failing = [f"{one['target']}: {one['last_error']}" for one in dispatcher.status() if one["last_error"]]
        # A mail server that is away is no fault of this service: the outbox holds.
        return "; ".join(failing) or "all recipients are reached"

    async def resources(app: web.Application) -> AsyncIterator[None]:
        yield
        # The tasks end before what they use.
        await app[BACKGROUND].stop()
        await blocking.aclose()

    startup = Startup(
        functions,
        settings.namespace,
        kinds=KINDS,
        read=lambda: desired(settings),
        reread=lambda: reread(settings),
        work={
            "retention": Retention(alarms, journal.archive, settings.retention, settings.journal.keep_days).run,
            "journal": archiver.run,
            "notifications": dispatcher.run,
            "shifts": Shifts(functions, dispatcher).run,
            "system": SystemAlarms(functions, settings.system).run,
            "report": Reporter(functions, NAME, Troubles(dispatcher).look).run,
        },
        checks={"notifications": check_notifications},
    )
    app = startup.app(settings, NAME, ROUTES)
    app[ALARMS], app[JOURNAL] = alarms, journal
    app[FUNCTIONS], app[DISPATCHER], app[QUALITY] = alarms, dispatcher, quality
    app[METRICS].registry.register(AlarmMetrics(dispatcher, journal.archive))
    app.cleanup_ctx.append(resources)
    return app
