"""The services' own documents, put together: OpenAPI and health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp

from libs.errors import UnavailableError

FETCH_TIMEOUT_S: Final = 1.8
SCHEMAS: Final = "#/components/schemas/"

Document = dict[str, Any]


async def fetch(session: aiohttp.ClientSession, name: str, url: str) -> Document:
    """Return a service's document.

    Raises:
        UnavailableError: it is away, or answers with something else than 200 or 503 with JSON.
    """
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    try:
        async with session.get(url, timeout=timeout) as reply:
            document: Document = await reply.json(content_type=None)
            return document
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise UnavailableError(f"{name} is away ({type(error).__name__})") from None


def health_check(
    session: Callable[[], aiohttp.ClientSession], name: str, address: str
) -> Callable[[], Awaitable[Document]]:
    """Return the check of one service: its own detailed health, or what fails in it."""

    async def check() -> Document:
        document = await fetch(session(), name, f"{address}/health/detailed")
        checks: Document = document.get("checks", {})
        failed = [f"{what}: {one.get('error')}" for what, one in checks.items() if one.get("status") != "ok"]
        if failed:
            raise UnavailableError("; ".join(failed))
        if document.get("status") != "ok":
            raise UnavailableError(f"{name} is not ready")
        return checks

    return check


async def fetch_all(session: aiohttp.ClientSession, urls: Mapping[str, str]) -> dict[str, Document | None]:
    """Return each service's document, None for one that is away."""
    found = await asyncio.gather(*(fetch(session, name, url) for name, url in urls.items()), return_exceptions=True)
    return {name: one if isinstance(one, dict) else None for name, one in zip(urls, found, strict=True)}


def merge_openapi(own: Document, others: Mapping[str, Document | None]) -> Document:
    """Return one OpenAPI document of all services' /api routes; those away are named in `x-missing`.

    Schemas of the same name that differ are told apart by the service's name.
    """
    paths: Document = dict(own["paths"])
    schemas: Document = dict(own["components"]["schemas"])
    for name, document in others.items():
        if document is None:
            continue
        renamed = {
            schema: f"{name.capitalize()}{schema}"
            for schema, body in document["components"]["schemas"].items()
            if schema in schemas and schemas[schema] != body
        }
        moved = _rename(document, renamed)
        schemas |= {renamed.get(schema, schema): body for schema, body in moved["components"]["schemas"].items()}
        paths |= {path: item for path, item in moved["paths"].items() if path.startswith("/api/")}
    return {
        **own,
        "info": {**own["info"], "title": "VoltageEMS"},
        "paths": dict(sorted(paths.items())),
        "components": {**own["components"], "schemas": schemas},
        "x-missing": sorted(name for name, document in others.items() if document is None),
    }


def _rename(value: Any, renamed: Mapping[str, str]) -> Any:
    """Return a document whose references to renamed schemas follow."""
    if isinstance(value, dict):
        return {
            key: SCHEMAS + renamed.get(inner.removeprefix(SCHEMAS), inner.removeprefix(SCHEMAS))
            if key == "$ref" and isinstance(inner, str)
            else _rename(inner, renamed)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_rename(inner, renamed) for inner in value]
    return value
