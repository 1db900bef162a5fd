"""The page's files. They are open: what they show comes over the API, with a token."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from aiohttp import web

from libs.errors import NotFoundError

STATIC: Final = Path(__file__).parent / "static"
# Everything comes from here, and nobody may frame it: a set-point button must not be clickjacked.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    # The names carry no hash, so a browser asks each time; an ETag answers 304.
    "Cache-Control": "no-cache",
}


async def index(_: web.Request) -> web.StreamResponse:
    """Give the page."""
    return web.FileResponse(STATIC / "index.html", headers=HEADERS)


async def asset(request: web.Request) -> web.StreamResponse:
    """Give one of the page's files."""
    file = STATIC / "assets" / request.match_info["file"]
    if file.parent != STATIC / "assets" or not await asyncio.to_thread(file.is_file):
        raise NotFoundError("no such file")
    return web.FileResponse(file, headers=HEADERS)
