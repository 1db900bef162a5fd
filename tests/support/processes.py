"""A whole site as real processes: `voltage up` with its own data directory and ports."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from libs.redis.resp import Connection
from libs.services import REDIS_OFFSET, SERVICES, port_of

ROOT: Final = Path(__file__).parent.parent.parent
START_TIMEOUT_S: Final = 90.0


class Reply(NamedTuple):
    """An HTTP answer: status and decoded JSON (or text)."""

    status: int
    body: Any


# Under 20000, where single servers of tests take their ports (servers.py).
BASES: Final = range(10_000, 19_600, 400)
MOST_HELD: Final = 6
# The bases of this process and the locks that keep others from them, the one used longest ago first.
_HELD: dict[int, int] = {}


def free_port_base() -> int:
    """Return a port base of which every port a site uses is free now, and that no other process of tests has."""
    while True:
        base = _held_base()
        try:
            for offset in (*range(30), REDIS_OFFSET):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base


def _held_base() -> int:
    """Return another base until there are several, then the one that was used longest ago."""
    if len(_HELD) < MOST_HELD:
        for base in random.sample(BASES, len(BASES)):
            if base not in _HELD and (handle := _locked(Path(tempfile.gettempdir(), f"voltage-ports-{base}"))):
                _HELD[base] = handle
                return base
    base = next(iter(_HELD))
    _HELD[base] = _HELD.pop(base)
    return base


def _locked(path: Path) -> int | None:
    """Return a handle that locks a file for as long as this process lives; None where another has it."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class Site:
    """One site. `folder` holds its data; the configuration is a copy that a test may change."""

    def __init__(self, folder: Path, config: Path = ROOT / "config", **variables: str) -> None:
        """Prepare it; nothing runs yet."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "config"
        if config.exists():
            shutil.copytree(config, self.config)
        self.data = folder / "data"
        self.port_base = free_port_base()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VOLTAGE_")}
        self.environ = kept | {
            "VOLTAGE_PORT_BASE": str(self.port_base),
            "VOLTAGE_DATA_DIR": str(self.data),
            "VOLTAGE_CONFIG_DIR": str(self.config),
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """What `voltage up` said."""
        file = self.folder / "up.log"
        return file.read_text() if file.exists() else ""

    def start(self, *options: str) -> None:
        """Start `voltage up` and wait until its summary says that everything is ready."""
        (self.folder / "up.log").unlink(missing_ok=True)
        with (self.folder / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "up", *options],
                env=self.environ, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        end = time.monotonic() + START_TIMEOUT_S
        while "Ctrl-C stops everything" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < end, self.output + self.logs()
            time.sleep(0.05)
        assert "Everything is ready." in self.output, self.output + self.logs()

    def logs(self) -> str:
        """Return the end of each service's log, for the message of a test that fails."""
        parts = []
        for file in sorted((self.data / "logs").glob("*.log")):
            parts += [f"\n--- {file.name}", *file.read_text(errors="replace").splitlines()[-8:]]
        return "\n".join(parts)

    def voltage(self, *arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a `voltage` command against the site."""
        return subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            env=self.environ, cwd=self.folder, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def redis_url(self) -> str:
        """Return the address of the site's Redis."""
        return self.voltage("redis-url").stdout.strip().splitlines()[-1]

    def redis(self) -> Connection:
        """Connect to the site's Redis."""
        return Connection(self.redis_url())

    def token(self, role: str = "engineer") -> str:
        """Make an API token."""
        made = self.voltage("token", "--role", role, "--ttl", "3600", "--user", "tester")
        assert made.returncode == 0, made.stderr
        return made.stdout.strip().splitlines()[-1]

    def url(self, service: str = "gateway") -> str:
        """Return the address of a service."""
        return f"http://127.0.0.1:{port_of(service, self.port_base)}"

    def pid(self, name: str) -> int:
        """Return the process of a service (or redis, simulator), looked up among the children of `voltage up`."""
        found = self.children()
        assert name in found, f"{name} does not run; there are {found}"
        return found[name]

    def children(self) -> dict[str, int]:
        """Return the processes of the site by name."""
        assert self.process is not None
        return dict(_named(_children(self.process.pid)))

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(15)
        self.process = None


class Api:
    """The site's HTTP, as one user."""

    def __init__(self, site: Site, session: aiohttp.ClientSession, token: str | None) -> None:
        """Keep the session and the token."""
        self._site = site
        self._session = session
        self._token = token

    async def __call__(
        self, method: str, path: str, body: object = None, *, service: str = "gateway", token: str | None = None
    ) -> Reply:
        """Send a request and return the answer."""
        bearer = token or self._token
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        async with self._session.request(method, self._site.url(service) + path, json=body, headers=headers) as reply:
            text = await reply.text()
            return Reply(reply.status, await reply.json(content_type=None) if _is_json(reply) else text)


def _is_json(reply: aiohttp.ClientResponse) -> bool:
    return "json" in reply.content_type


def _children(parent: int) -> Iterable[int]:
    tasks = Path(f"/proc/{parent}/task")
    for task in tasks.iterdir() if tasks.exists() else ():
        try:
            words = (task / "children").read_text().split()
        except FileNotFoundError:
            continue  # The thread ended since it was listed.
        yield from map(int, words)


def _named(pids: Iterable[int]) -> Iterable[tuple[str, int]]:
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except FileNotFoundError:
            continue
        if found := re.search(r"services\.cli serve (\w+)", command):
            yield found[1], pid
        elif "simulate" in command:
            yield "simulator", pid
        elif re.search(r"(redis|valkey)-server", command):
            yield "redis", pid


def alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pids: Iterable[int], timeout_s: float = 10.0) -> None:
    """Wait until none of the processes runs."""
    end = time.monotonic() + timeout_s
    left = list(pids)
    while left := [pid for pid in left if alive(pid)]:
        assert time.monotonic() < end, f"still running: {left}"
        await asyncio.sleep(0.02)


NAMES: Final = tuple(service.name for service in SERVICES)
