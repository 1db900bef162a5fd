"""A private InfluxDB 1 on free loopback ports, and a bridge that gives it the write routes of v2 and v3."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.servers import free_port

INSTALL = "apt-get install influxdb (Debian; stop the service it starts)"
TOKEN = "a-token-of-the-tests"  # noqa: S105 - the bridge's own


def pings(url: str) -> bool:
    """Say whether a server of one of the dialects answers."""
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=1) as answer:  # noqa: S310 - our own
            return bool(answer.status == 204)
    except OSError:
        return False


class InfluxServer:
    """Debian's influxd 1.6.7 in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it answers."""
        binary = shutil.which("influxd")
        assert binary, f"influxd is missing; install it with: {INSTALL}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / "influxdb.conf"
        config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{free_port()}"\n'
            f'[meta]\n  dir = "{folder}/meta"\n[data]\n  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n'
            f'[http]\n  bind-address = "127.0.0.1:{self.port}"\n  log-enabled = false\n  max-body-size = 25000000\n'
            "[monitor]\n  store-enabled = false\n"
        )
        self._command = [binary, "-config", str(config)]
        self._log = folder / "influxd.log"
        self.start()

    def start(self) -> None:
        """Start the process; also after a stop."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not pings(self.url):
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < end, "influxd does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(20)


@asynccontextmanager
async def bridge(server: InfluxServer) -> AsyncIterator[str]:
    """Serve /api/v2/write and /api/v3/write_lp as InfluxDB 2 and 3 would, onto 1.6.7's /write. Gives the URL.

    /query and /ping go through.
    """

    async def forward(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in {f"Token {TOKEN}", f"Bearer {TOKEN}"}:
            return web.json_response({"code": "unauthorized", "message": "unauthorized access"}, status=401)
        query, path, body = dict(request.query), request.path, await request.read()
        if path == "/api/v2/write":
            path, query = "/write", {"db": query["bucket"], "precision": query["precision"]}
            if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
                body = gzip.decompress(body)
        elif path == "/api/v3/write_lp":
            if query.get("precision") != "millisecond" or query.get("accept_partial") != "false":
                return web.json_response({"error": f"unexpected parameters {query}"}, status=500)
            path, query = "/write", {"db": query["db"], "precision": "ms"}
        async with session.request(request.method, server.url + path, params=query, data=body or None) as answer:
            text = await answer.text()
            if path == "/write" and answer.status >= 400:
                message = (await answer.json(content_type=None))["error"]
                return web.json_response(_refusal(request.path, message), status=answer.status)
            return web.Response(status=answer.status, text=text, content_type="application/json")

    app = web.Application(client_max_size=2**26)
    for path in ("/api/v2/write", "/api/v3/write_lp", "/query"):
        app.router.add_post(path, forward)
    for path in ("/query", "/ping"):
        app.router.add_get(path, forward)
    async with aiohttp.ClientSession() as session, TestServer(app) as running:
        yield str(running.make_url("")).rstrip("/")


def _refusal(path: str, message: str) -> dict[str, object]:
    if path == "/api/v2/write":
        return {"code": "invalid", "message": message}
    wrong = {"original_line": "", "line_number": 1, "error_message": message}
    return {"error": "parsing failed for write_lp endpoint", "data": wrong}
