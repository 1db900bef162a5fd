"""A service of ours on a real Redis, asked over HTTP with tokens of every role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from libs.config import Settings
from libs.http.tokens import Role, issue, signing_key
from tests.support.wait import wait_until

S = TypeVar("S", bound=Settings)


class Answer(NamedTuple):
    """An HTTP answer: its status and its JSON."""

    status: int
    body: Any


class Service:
    """A running service."""

    def __init__(self, client: TestClient[web.Request, web.Application], settings: Settings) -> None:
        """Keep the client and make a token for each role."""
        self.client = client
        key = signing_key(settings)
        self.tokens = {role: issue(key, f"anna_{role}", role, 600) for role in Role}

    async def ask(self, method: str, path: str, body: object = None, role: Role = Role.ADMIN) -> Answer:
        """Send a request with a role's token; bytes go as they are, anything else as JSON."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        async with self.client.request(method, path, data=data, headers=headers) as answer:
            return Answer(answer.status, await answer.json(content_type=None))

    async def get(self, path: str, role: Role = Role.VIEWER) -> Answer:
        """Ask for something."""
        return await self.ask("GET", path, role=role)

    async def ready(self) -> bool:
        """Say whether the service is ready."""
        return (await self.get("/health")).status == 200


@asynccontextmanager
async def running(
    create_app: Callable[[S], web.Application], settings: S, *, wait: bool = True
) -> AsyncIterator[Service]:
    """Run a service until the block ends; wait until it is ready."""
    async with TestClient(TestServer(create_app(settings))) as client:
        service = Service(client, settings)
        if wait:
            await wait_until(service.ready, "the service is ready")
        yield service
