"""`voltage serve`: one service in this process, or several on one event loop."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from typing import Final, NamedTuple

import click
import uvloop
from aiohttp import web

from libs import logs
from libs.config import Settings, load
from libs.config.versions import Versions
from libs.errors import ConfigurationError, Problem, StateError
from libs.http import run
from libs.http.run import serve as serve_one
from libs.site import load_site
from services.commands.settings_models import settings_model
from services.commands.watchdog import watched

TOGETHER: Final = "services"


class Served(NamedTuple):
    """A service's application, ready to listen."""

    name: str
    app: web.Application
    settings: Settings


def build(name: str) -> Served:
    """Build a service from its settings."""
    settings = load(settings_model(name), name).settings
    module = importlib.import_module(f"services.{name}.app")
    return Served(name, module.create_app(settings), settings)


@click.command()
@click.argument("services", nargs=-1, required=True)
def serve(services: tuple[str, ...]) -> None:
    """Run a service until SIGTERM; several share one process, for machines with little memory."""
    # Our own Redis has a password, which stands in the data directory. One that is set elsewhere comes in
    # a variable or in the file that it names; never both.
    if not os.environ.get("VOLTAGE_REDIS_URL_FILE"):
        os.environ.setdefault("VOLTAGE_REDIS_URL", load_site().redis_url())
    site = load_site()
    Versions(site.config_dir, site.data_dir).finish()
    built = [build(name) for name in services]
    built[0].app.cleanup_ctx.append(watched)
    if len(built) == 1:
        run(built[0].app, built[0].settings, built[0].name)
        return
    logs.setup(TOGETHER, built[0].settings.log)
    try:
        uvloop.run(together(built))
    except StateError as error:
        # The function library does not fit: starting again would not help.
        raise ConfigurationError([Problem("functions", str(error))]) from None


async def together(built: list[Served]) -> None:
    """Serve all until a signal, or until one of them fails: then all end, to be started again together."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(serve_one(one.app, one.settings, one.name, stop)) for one in built]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
