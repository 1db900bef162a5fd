"""Who is told by notification, and what is left to tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from libs.redis.client import execute
from libs.redis.functions import Functions
from services.alarmsrv.app import create_app
from services.alarmsrv.settings import AlarmsrvSettings
from tests.support.mail import MailServer
from tests.support.service import Service, running
from tests.support.wait import wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"  # noqa: S105 - a key of this test alone
FAST = {"collect_ms": 500, "quiet_ms": 1500}


class Hook:
    """A receiver of webhooks that verifies every one of them with the independent library."""

    def __init__(self) -> None:
        self.url = ""
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.status = 204
        self.tried = 0

    async def take(self, request: web.Request) -> web.Response:
        self.tried += 1
        document = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        if self.status < 300:
            self.got.append((request.headers["webhook-id"], document))
        return web.Response(status=self.status)


def settings_of(url: str, folder: Path, routes: list[dict[str, Any]], **ways: Any) -> AlarmsrvSettings:
    """Return settings with the ways given and small pauses."""
    retry = {"first_s": 0.05, "longest_s": 0.2, "give_up_after_s": 60}
    notifications = {"rate": FAST, "retry": retry, "site": "Test", "routes": routes, **ways}
    return AlarmsrvSettings.model_validate(
        {"redis": {"url": url}, "data_dir": folder / "data", "config_dir": folder, "notifications": notifications}
    )


def email_of(peer: MailServer, **more: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": peer.port, "security": "none", "sender": "ems@example.com", **more}


def webhook_of(peer: Hook) -> dict[str, Any]:
    return {"pager": {"url": peer.url, "secret": SECRET}}


@asynccontextmanager
async def site(functions: Functions, settings: AlarmsrvSettings) -> AsyncIterator[Service]:
    """Run alarmsrv; at the end nothing may be left in the outbox but what the test says."""
    del functions
    async with running(create_app, settings) as started:
        yield started


async def raise_alarm(functions: Functions, name: str, level: str = "Major", **more: Any) -> None:
    await functions.call("store_alarm", name, {"title": f"Title of {name}", "level": level, **more})


async def left(functions: Functions) -> tuple[int, int, int]:
    """Return what is left in the outbox: entries, marks, messages on their way."""
    counts = [
        await execute(functions.client, command, functions.key(f"alarmsrv:outbox{name}"))
        for command, name in (("XLEN", ""), ("SCARD", ":done"), ("HLEN", ":sending"))
    ]
    return int(counts[0]), int(counts[1]), int(counts[2])


async def settled(functions: Functions) -> None:
    async def empty() -> bool:
        return await left(functions) == (0, 0, 0)

    await wait_until(empty, "the outbox is empty", 20)
