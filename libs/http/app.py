"""The application every service is: its routes behind the same shell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from libs.config.settings import Settings
from libs.http import problems
from libs.http.background import background_context
from libs.http.bodies import MAX_BYTES
from libs.http.configuration import Configuration, configuration_routes
from libs.http.health import CHECKS, NAME, Check, health, health_detailed
from libs.http.metrics import METRICS, HttpMetrics, metrics
from libs.http.openapi import openapi
from libs.http.routes import TOKEN_KEY, Route, Routes, authorize
from libs.http.tokens import signing_key
from libs.services import BY_NAME

DOCS: Final = (Path(__file__).parent / "docs.html").read_bytes()
# The pages are ours alone: no script, style or frame from elsewhere.
HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def service_app(
    settings: Settings,
    name: str,
    routes: Routes,
    *,
    checks: Mapping[str, Check],
    body_limit: int = MAX_BYTES,
    configuration: Configuration | None = None,
) -> web.Application:
    """Return an application with the routes, the shell's own routes, and the middleware.

    Args:
        settings: whose token key signs what callers send.
        name: the service.
        routes: what it serves.
        checks: what must be well for /health to say 200, by name.
        body_limit: the largest body in bytes; beyond it 413.
        configuration: what its files say, for a service that has some.
    """
    app = web.Application(middlewares=[_answers], client_max_size=body_limit)
    app[NAME] = name
    app[TOKEN_KEY] = signing_key(settings)
    app[CHECKS] = checks
    app[METRICS] = HttpMetrics(name)
    app.cleanup_ctx.append(background_context)
    files = configuration_routes(configuration).routes if configuration is not None else []
    everything = [*_shell_routes(name, routes), *files, *routes.routes]
    for route in everything:
        if route.method == "GET":
            app.router.add_get(route.path, route.handle)
        else:
            app.router.add_route(route.method, route.path, route.handle)
    return app


@web.middleware
async def _answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document, and count every answer."""
    began = time.perf_counter()
    try:
        if request.match_info.http_exception is not None:
            # Whether a route exists is told to callers with a token only.
            authorize(request)
        answer = await handler(request)
    except Exception as error:  # noqa: BLE001 - the one place that catches everything
        answer = problems.of_error(error)
    if not answer.prepared:
        answer.headers.update(HEADERS)
    request.app[METRICS].observe(request, answer.status, time.perf_counter() - began)
    return answer


def _shell_routes(name: str, routes: Routes) -> list[Route]:
    """Return the routes that every service has, except those the service declares itself."""

    async def document(_: web.Request) -> web.Response:
        """Describe the API as OpenAPI 3.1."""
        return web.Response(body=described, content_type="application/json")

    async def docs(_: web.Request) -> web.Response:
        """Show the API to people."""
        return web.Response(body=DOCS, content_type="text/html", charset="utf-8")

    shell = Routes()
    shell.get("/health", open=True)(health)
    shell.get("/health/detailed", open=True)(health_detailed)
    shell.get("/metrics", open=True, media="text/plain")(metrics)
    shell.get("/openapi.json", open=True)(document)
    shell.get("/docs", open=True, media="text/html")(docs)
    own = {(route.method, route.path) for route in routes.routes}
    kept = [route for route in shell.routes if (route.method, route.path) not in own]
    purpose = BY_NAME[name].purpose
    described = orjson.dumps(openapi(name, purpose, version("voltageems"), [*routes.routes, *kept]))
    return kept
