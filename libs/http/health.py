"""Health: each check with its latency; 200 when all pass, else 503."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from libs.errors import VoltageError

CHECK_TIMEOUT_S: Final = 2.0

# A check raises when something is wrong; what it returns is shown as its detail.
Check = Callable[[], Awaitable[object]]
CHECKS: Final = web.AppKey("checks", Mapping[str, Check])
NAME: Final = web.AppKey("name", str)


async def run_checks(checks: Mapping[str, Check]) -> dict[str, dict[str, Any]]:
    """Run all checks at once; each gives status, latency and what went wrong."""
    results = await asyncio.gather(*[_run(check) for check in checks.values()])
    return dict(zip(checks, results, strict=True))


async def _run(check: Check) -> dict[str, Any]:
    began = time.perf_counter()
    result: dict[str, Any] = {"status": "ok"}
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            detail = await check()
        if detail is not None:
            result["detail"] = detail
    except TimeoutError:
        result |= {"status": "failed", "error": f"no answer within {CHECK_TIMEOUT_S:g} s"}
    except (VoltageError, OSError) as error:
        result |= {"status": "failed", "error": str(error)}
    return result | {"latency_ms": round((time.perf_counter() - began) * 1000, 3)}


async def health(request: web.Request) -> web.Response:
    """Say whether the service is ready."""
    results = await run_checks(request.app[CHECKS])
    failed = {name: result["error"] for name, result in results.items() if result["status"] != "ok"}
    return _answer({"status": "unavailable" if failed else "ok", "service": request.app[NAME], "failed": failed})


async def health_detailed(request: web.Request) -> web.Response:
    """Give each check with its latency."""
    results = await run_checks(request.app[CHECKS])
    ready = all(result["status"] == "ok" for result in results.values())
    return _answer({"status": "ok" if ready else "unavailable", "service": request.app[NAME], "checks": results})


def _answer(document: dict[str, Any]) -> web.Response:
    status = 200 if document["status"] == "ok" else 503
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")
