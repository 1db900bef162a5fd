"""The composition root of alarmsrv."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.config.desired import Entry, read_desired
from libs.startup import Startup, functions_of
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.handlers import ALARMS, ROUTES
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.journal.handlers import JOURNAL
from services.alarmsrv.journal.journal import Archiver, Journal
from services.alarmsrv.retention import Retention
from services.alarmsrv.schemas import AlarmDefinition
from services.alarmsrv.settings import AlarmsrvSettings

NAME: Final = "alarmsrv"


def desired(settings: AlarmsrvSettings) -> list[Entry]:
    """Read the alarm definitions in config/alarms/*.yaml."""
    return read_desired(settings.config_dir / "alarms", {"definitions": AlarmDefinition})


def create_app(settings: AlarmsrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""
    functions = functions_of(settings)
    alarms = AlarmFunctions(functions)
    journal = Journal(functions, Archive(settings.journal_folder))
    archiver = Archiver(journal, settings.journal.keep_entries, settings.journal.interval_s)
    startup = Startup(
        functions,
        settings.namespace,
        kinds={"definitions": alarms.definitions},
        desired=desired(settings),
        work={
            "retention": Retention(alarms, journal.archive, settings.retention, settings.journal.keep_days).run,
            "journal": archiver.run,
        },
    )
    app = startup.app(settings, NAME, ROUTES)
    app[ALARMS], app[JOURNAL] = alarms, journal
    return app
