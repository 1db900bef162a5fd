"""A gateway over a real Redis, a service behind it, and a client of the stream."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestClient

from libs.clock import now_ms
from libs.http import Role
from libs.http.tokens import issue
from libs.redis.functions import Functions

BLOCK = "b1"
# Ticks come all the time, so that a single message is no sign of progress.
PATIENCE_S = 20


class Channel:
    """A channel as comsrv would feed it."""

    def __init__(self, functions: Functions, channel: int = 1001, points: int = 50) -> None:
        self.functions = functions
        self.id = channel
        self.points = points
        self.epoch = 0
        self.sequence = 0

    async def claim(self) -> None:
        """Define and claim it."""
        points = {
            kind: [{"id": 1 + number, "name": f"{kind}{number}"} for number in range(self.points)] for kind in "TSA"
        }
        document = {"id": self.id, "name": "meter", "protocol": "virtual", "points": points}
        await self.functions.call("channel_upsert", self.id, document)
        claimed = await self.functions.json("channel_claim", self.id, {"owner": "test", "interval_ms": 60_000})
        self.epoch, self.sequence = claimed["epoch"], 0

    async def send(self, values: dict[str, float], quality: dict[str, str] | None = None, kind: str = "T") -> int:
        """Ingest one block; returns its image number."""
        self.sequence += 1
        section = {
            "type": kind,
            "ids": list(values),
            "values": [f"{value:.6f}" for value in values.values()],
            "quality": quality or {},
        }
        document = {
            "epoch": self.epoch, "seq": self.sequence, "block": BLOCK, "channel": self.id, "at_ms": now_ms(),
            "sections": [section],
        }  # fmt: skip
        reply = await self.functions.json("comsrv_ingest", self.id, document)
        number: int = reply["seq"]
        return number


class Gateway:
    """The gateway over HTTP, as one user or another."""

    def __init__(self, http: TestClient[Any, Any], key: str) -> None:
        self.http = http
        self.key = key

    def token(self, role: Role = Role.ENGINEER, *, name: str = "ann", ttl_s: int = 60) -> str:
        """Return an access token."""
        return issue(self.key, name, role, ttl_s)

    async def call(
        self, method: str, path: str, body: Any = None, *, role: Role | None = Role.ENGINEER, token: str | None = None
    ) -> tuple[int, Any]:
        """Return status and decoded answer."""
        bearer = token or (self.token(role) if role else None)
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        async with self.http.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def stream(self, *refs: str, token: str | None = None, interval_ms: int = 50) -> Watcher:
        """Open a live stream and subscribe."""
        socket = await self.http.ws_connect("/ws")
        await socket.send_json({"op": "auth", "token": token or self.token(Role.VIEWER)})
        watcher = Watcher(socket)
        await watcher.until("welcome")
        if refs:
            await socket.send_json({"op": "subscribe", "refs": list(refs), "interval_ms": interval_ms})
        return watcher


class Watcher:
    """A client of the stream that keeps the image as a page would."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.points: dict[str, tuple[Any, str]] = {}
        self.alarms: dict[str, Any] = {}
        self.numbers: list[int] = []
        self.messages: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        """Take the next message into the image."""
        message: dict[str, Any] = await self.socket.receive_json(timeout=PATIENCE_S)
        self.messages.append(message)
        if message.get("seq"):
            self.numbers.append(message["seq"])
        for ref, (value, quality, _) in message.get("points", {}).items():
            self.points[ref] = (self.points[ref][0] if value is None else value, quality)
        for alarm in message.get("alarms", ()):
            self.alarms[alarm["id"]] = alarm
        return message

    async def until(self, op: str) -> dict[str, Any]:
        """Take messages until one of a kind."""
        async with asyncio.timeout(PATIENCE_S):
            while (message := await self.next())["op"] != op:
                pass
        return message

    async def until_number(self, number: int) -> None:
        """Take messages until the image is at least at this number."""
        async with asyncio.timeout(PATIENCE_S):
            while max(self.numbers, default=0) < number:
                await self.next()

    async def close(self) -> None:
        """End the stream."""
        await self.socket.close()


def device() -> web.Application:
    """Return a service to stand behind the gateway: it tells what reached it."""
    app = web.Application(client_max_size=10_000_000)

    whole: list[int] = []

    async def file(request: web.Request) -> web.Response:
        answer = await echo(request)
        whole.append(1)
        return answer

    async def seen(_: web.Request) -> web.Response:
        return web.json_response({"seen": len(whole)})

    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        told = {
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body.decode(),
        }
        return web.json_response(told, status=int(request.query.get("status", "200")), headers={"X-Told": "yes"})

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 3_000_000)

    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"y" * 100_000)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def dies(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "checks": {"redis": {"status": "ok"}}})

    app.router.add_get("/health/detailed", healthy)
    app.router.add_get("/api/channels/large", large)
    app.router.add_get("/api/channels/broken", broken)
    app.router.add_post("/api/channels/dies", dies)
    app.router.add_post("/api/channels/1/file", file)
    app.router.add_get("/api/channels/1/seen", seen)
    app.router.add_route("*", "/api/{tail:.*}", echo)
    return app
