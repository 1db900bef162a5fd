"""The composition root of rulesrv."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from libs.config.desired import Entry, read_desired
from libs.startup import Startup, functions_of
from services.rulesrv.functions import CALENDAR, RULE, RuleFunctions
from services.rulesrv.handlers import ROUTES, RULES
from services.rulesrv.schemas import Rule
from services.rulesrv.settings import RulesrvSettings
from services.rulesrv.ticker import Ticker
from services.rulesrv.windows import Calendar
from services.rulesrv.zones import Zones

NAME: Final = "rulesrv"
# What its files hold, by section, in the order in which they build on one another.
KINDS: Final = {"calendars": CALENDAR, "rules": RULE}


def desired(settings: RulesrvSettings) -> list[Entry]:
    """Read the rules in config/rules/*.yaml."""
    return read_desired(settings.config_dir / "rules", {"calendars": Calendar, "rules": Rule})


def create_app(settings: RulesrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""
    functions = functions_of(settings)
    rules = RuleFunctions(functions)
    startup = Startup(
        functions,
        settings.namespace,
        kinds=KINDS,
        read=lambda: desired(settings),
        work={"tick": Ticker(rules, settings.tick_ms).run, "zones": Zones(rules).run},
    )
    app = startup.app(settings, NAME, ROUTES)
    app[RULES] = rules
    return app
