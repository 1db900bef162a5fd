"""A real nginx before a running site: page, API, live stream, limits, TLS."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shlex
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from libs.http.bodies import MAX_BYTES
from tests.support.processes import ROOT, Site, free_port_base
from tests.support.wait import wait_until

LIMITS = {
    "NGINX_RATE": "20", "NGINX_BURST": "30", "NGINX_LOGIN_RATE": "1", "NGINX_LOGIN_BURST": "2",
    "NGINX_UPLOAD_LIMIT": "4000000",
}  # fmt: skip


# Debian keeps it where only root looks.
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


class Entry:
    """A running nginx: its addresses and the certificate authority a client trusts."""

    def __init__(self, folder: Path, gateway: str) -> None:
        """Write certificates and configuration; nothing runs yet."""
        base = free_port_base()
        self.folder = folder
        self.http = f"http://127.0.0.1:{base}"
        self.https = f"https://127.0.0.1:{base + 1}"
        self.authority = folder / "certificates" / "ca.crt"
        self.environ = os.environ | LIMITS | {
            "NGINX_HTTP_PORT": str(base), "NGINX_HTTPS_PORT": str(base + 1), "NGINX_GATEWAY": gateway,
        }  # fmt: skip
        run([str(ROOT / "scripts" / "certificates"), str(folder / "certificates"), "site.example"], self.environ)
        run([str(ROOT / "scripts" / "nginx-config"), str(folder)], self.environ)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start nginx; it ends with `stop`."""
        with (self.folder / "error.log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(NGINX), "-c", str(self.folder / "nginx.conf"), "-g", "daemon off;"], stdout=log, stderr=log
            )

    def stop(self) -> None:
        """Stop it, workers included."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def trust(self) -> ssl.SSLContext:
        """Return a client's view: it trusts the site's authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.authority))


def run(command: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def started(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entry]:
    assert NGINX, "nginx is missing; on Debian: apt-get install nginx-light"
    entry = Entry(tmp_path_factory.mktemp("nginx"), site.url().removeprefix("http://"))
    entry.start()
    yield entry
    entry.stop()


@pytest.fixture
async def session(started: Entry) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=started.trust())
    async with aiohttp.ClientSession(connector=connector) as opened:

        async def answers() -> bool:
            try:
                async with opened.get(f"{started.https}/health") as reply:
                    return reply.status == 200
            except aiohttp.ClientError:
                return False

        # Also lets the requests of the test before leave the limit.
        await wait_until(answers, "nginx answers for the gateway")
        yield opened
    # aiohttp's manual ("Graceful shutdown"): a TLS transport is closed a moment after its session.
    await asyncio.sleep(0.1)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_page_and_api_come_through_with_their_headers(
    started: Entry, session: aiohttp.ClientSession, engineer: str
):
    async with session.get(started.https + "/") as page:
        assert page.status == 200
        assert "<html" in await page.text()
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers.getall("X-Frame-Options") == ["DENY"]
        assert page.headers.getall("X-Content-Type-Options") == ["nosniff"]
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "nginx/" not in page.headers["Server"]
    async with session.get(started.https + "/api/models/battery1/values", headers=bearer(engineer)) as values:
        assert values.status == 200
        assert values.headers.getall("X-Content-Type-Options") == ["nosniff"]
        assert values.headers["Referrer-Policy"] == "no-referrer"
    async with session.get(started.https + "/api/models") as refused:
        assert refused.status == 401
        assert (await refused.json(content_type=None))["code"] == "UNAUTHORIZED"


async def test_the_live_stream_comes_through(started: Entry, session: aiohttp.ClientSession, engineer: str):
    async with session.ws_connect(started.https + "/ws", headers=bearer(engineer)) as stream:
        assert (await stream.receive_json(timeout=5))["op"] == "welcome"
        await stream.send_json({"op": "subscribe", "refs": ["comsrv:1001:T:*"]})
        seen: list[str] = []
        while "delta" not in seen:
            seen.append((await stream.receive_json(timeout=5))["op"])
        assert "snapshot" in seen


async def test_a_body_over_the_services_own_limit_is_a_413_problem(
    started: Entry, session: aiohttp.ClientSession, engineer: str
):
    async def post(size: int) -> tuple[int, dict[str, Any]]:
        headers = bearer(engineer) | {"Content-Type": "application/json"}
        async with session.post(started.https + "/api/history/query", data=b" " * size, headers=headers) as reply:
            assert reply.content_type == "application/problem+json"
            return reply.status, await reply.json(content_type=None)

    status, problem = await post(MAX_BYTES + 1)
    assert (status, problem["status"], problem["code"]) == (413, 413, "LIMIT")
    assert str(MAX_BYTES) in problem["detail"]
    # A large one within the limit reaches the service, which finds it empty.
    status, _ = await post(MAX_BYTES - 1)
    assert status in {400, 422}


async def test_a_file_to_import_passes_as_it_comes(started: Entry, session: aiohttp.ClientSession, engineer: str):
    """Three times the limit of a body, up to a limit of its own."""

    async def post(rows: int) -> tuple[int, dict[str, Any]]:
        headers = bearer(engineer) | {"Content-Type": "text/csv"}
        data = io.BytesIO(b"series,at_ms,value\n" + b"comsrv:9:T:1,100000000,1\n" * rows)
        async with session.post(started.https + "/api/history/import", data=data, headers=headers) as reply:
            return reply.status, await reply.json(content_type=None)

    status, job = await post(3 * MAX_BYTES // 25)
    assert (status, job["kind"]) == (202, "import")
    status, problem = await post(int(LIMITS["NGINX_UPLOAD_LIMIT"]) // 25)
    assert (status, problem["code"]) == (413, "LIMIT")
    assert "the file is larger than" in problem["detail"]


async def test_too_many_requests_are_a_429_problem_and_pass(started: Entry, session: aiohttp.ClientSession):
    async def get() -> tuple[int, str, str | None]:
        async with session.get(started.https + "/api/models") as reply:
            body = await reply.json(content_type=None)
            return reply.status, body["code"], reply.headers.get("Retry-After")

    answers = await asyncio.gather(*(get() for _ in range(120)))
    assert {(401, "UNAUTHORIZED", None), (429, "LIMIT", "1")} == set(answers)

    async def passes() -> bool:
        return (await get())[0] == 401

    await wait_until(passes, "the limit lets requests pass again")


async def test_guessing_passwords_is_slowed_more(started: Entry, session: aiohttp.ClientSession):
    statuses = []
    for _ in range(5):
        body = {"name": "nobody", "password": "wrong"}
        async with session.post(started.https + "/api/auth/login", json=body) as reply:
            statuses.append(reply.status)
    assert statuses[0] == 401
    assert statuses[-1] == 429


async def test_plain_http_is_sent_to_tls(started: Entry, session: aiohttp.ClientSession):
    for method in ("GET", "POST"):
        async with session.request(method, started.http + "/api/models?limit=2", allow_redirects=False) as moved:
            assert moved.status == 308
            assert moved.headers["Location"] == started.https + "/api/models?limit=2"
    async with session.get(started.http + "/health") as health:
        assert health.status == 200
    async with session.get(started.https.replace("https", "http") + "/", allow_redirects=False) as wrong:
        assert wrong.status == 308


async def test_the_certificate_is_verified_and_old_tls_refused(started: Entry):
    async with aiohttp.ClientSession() as stranger:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await stranger.get(started.https + "/health")
    old = started.trust()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=old)) as ancient:
        with pytest.raises(aiohttp.ClientConnectorSSLError):
            await ancient.get(started.https + "/health")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = started.trust()
        context.minimum_version = context.maximum_version = version
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client,
            client.get(started.https + "/health") as reply,
        ):
            assert reply.status == 200


def test_keys_are_the_owners_alone_and_renewal_keeps_the_authority(started: Entry):
    folder = started.folder / "certificates"
    before = (folder / "ca.crt").read_text(), (folder / "server/server.crt").read_text()
    run([str(ROOT / "scripts" / "certificates"), str(folder), "site.example"], started.environ)
    for name in ("ca.key", "server/server.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert (folder / "ca.crt").read_text() == before[0]
    assert (folder / "server/server.crt").read_text() != before[1]
    run(["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca.crt"), str(folder / "server/server.crt")], {})


def test_the_systemd_unit_runs_this_configuration(site: Site, started: Entry, tmp_path: Path):
    """And the template leaves nothing unfilled."""
    conf = started.folder / "nginx.conf"
    written = site.voltage("install-service", "--directory", str(tmp_path), "--nginx", str(conf))
    assert written.returncode == 0, written.stderr
    unit = (tmp_path / "voltage-nginx.service").read_text()
    command = shlex.split(
        next(line for line in unit.splitlines() if line.startswith("ExecStart="))[len("ExecStart=") :]
    )
    run([*command, "-t"], dict(os.environ))
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in unit
    assert f"ReadWritePaths={started.folder}" in unit
    assert re.findall(r"\$\{NGINX_[A-Z_]+\}", conf.read_text()) == []


async def test_a_gateway_that_is_away_is_a_503_problem(tmp_path: Path):
    entry = Entry(tmp_path, "127.0.0.1:1")
    entry.start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=entry.trust())) as client:

            async def problem() -> dict[str, Any] | None:
                try:
                    async with client.get(entry.https + "/api/models") as reply:
                        assert reply.status == 503
                        assert reply.headers["Retry-After"] == "5"
                        return await reply.json(content_type=None)  # type: ignore[no-any-return]
                except aiohttp.ClientConnectorError:
                    return None

            assert (await wait_until(problem, "nginx answers"))["code"] == "UNAVAILABLE"
    finally:
        entry.stop()


async def test_what_a_caller_says_about_itself_counts_for_nothing_and_no_secret_is_logged(tmp_path: Path):
    """The gateway learns the address nginx saw, and takes it from nginx only (trusted_proxies)."""
    heads: list[str] = []

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(gateway, "127.0.0.1", 0)
    entry = Entry(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    entry.start()
    try:
        said = {"X-Real-IP": "9.9.9.9", "X-Forwarded-For": "9.9.9.9", "Forwarded": "for=9.9.9.9"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=entry.trust())) as client:

            async def asked() -> bool:
                try:
                    async with client.get(entry.https + "/api/alarms?token=secret", headers=said) as reply:
                        return reply.status == 204
                except aiohttp.ClientConnectorError:
                    return False

            await wait_until(asked, "nginx answers")
    finally:
        entry.stop()
        server.close()
    assert "9.9.9.9" not in heads[-1]
    assert "X-Real-IP: 127.0.0.1\r\n" in heads[-1]
    assert "X-Forwarded-Proto: https\r\n" in heads[-1]
    log = (entry.folder / "access.log").read_text()
    assert "/api/alarms" in log
    assert "secret" not in log
