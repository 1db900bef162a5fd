"""The composition root of modsrv."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.config.desired import Entry, read_desired
from libs.startup import Startup, functions_of
from services.modsrv.functions import MODEL, TEMPLATE, ModelFunctions
from services.modsrv.handlers import MODELS, ROUTES
from services.modsrv.schemas import DeviceModel, Template
from services.modsrv.settings import ModsrvSettings

NAME: Final = "modsrv"
# What its files hold, by section, in the order in which they build on one another.
KINDS: Final = {"templates": TEMPLATE, "models": MODEL}


def desired(settings: ModsrvSettings) -> list[Entry]:
    """Read templates and models in config/models/*.yaml; templates come first."""
    return read_desired(settings.config_dir / "models", {"templates": Template, "models": DeviceModel})


def create_app(settings: ModsrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""
    functions = functions_of(settings)
    models = ModelFunctions(functions)
    startup = Startup(
        functions,
        settings.namespace,
        kinds=KINDS,
        read=lambda: desired(settings),
    )
    app = startup.app(settings, NAME, ROUTES)
    app[MODELS] = models
    return app
