"""The composition root of alarmsrv."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.config.desired import Entry, read_desired
from libs.startup import Startup, functions_of
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.handlers import ALARMS, ROUTES
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
    startup = Startup(
        functions,
        settings.namespace,
        kinds={"definitions": alarms.definitions},
        desired=desired(settings),
        work={"retention": Retention(alarms, settings.retention).run},
    )
    app = startup.app(settings, NAME, ROUTES)
    app[ALARMS] = alarms
    return app
