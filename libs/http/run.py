"""Run a service's application until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from typing import Final, TypeVar

import uvloop
from aiohttp import web

from libs import logs
from libs.config import Settings, load
from libs.errors import ConfigurationError, StateError, UnavailableError
from libs.http.background import BACKGROUND

logger = logging.getLogger(__name__)

SHUTDOWN_S: Final = 5.0

S = TypeVar("S", bound=Settings)


async def serve(app: web.Application, settings: Settings, name: str, stop: asyncio.Event) -> None:
    """Serve until `stop` is set or the service's background work fails.

    Several may run in one loop. Raises what made the background work fail.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    port = settings.port(name)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, port, reuse_address=True).start()
        except OSError as error:
            raise UnavailableError(f"{name} can't listen on {settings.host}:{port}: {error.strerror}") from None
        logger.info("listening on %s:%d", settings.host, port)
        stopped = asyncio.create_task(stop.wait())
        failure = app[BACKGROUND].failure
        failure.add_done_callback(lambda _: stopped.cancel())
        await asyncio.wait({stopped})
        if failure.done():
            raise failure.result()
    finally:
        await runner.cleanup()


def run(app: web.Application, settings: Settings, name: str) -> None:
    """Run a service as this process; SIGTERM and SIGINT end it cleanly.

    Exits 78 when configuration or the function library does not fit, 1 when
    background work failed, each after one clear line.
    """
    logs.setup(name, settings.log)

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(app, settings, name, stop)

    try:
        uvloop.run(main())
    except (ConfigurationError, StateError) as error:
        logger.critical("%s", error)
        sys.exit(ConfigurationError.exit_code)
    except UnavailableError as error:
        logger.critical("%s", error)
        sys.exit(1)


def main(name: str, model: type[S], create_app: Callable[[S], web.Application]) -> None:
    """Load a service's settings, build it and run it; what every `__main__` does."""
    try:
        settings = load(model, name).settings
        app = create_app(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(ConfigurationError.exit_code)
    run(app, settings, name)
