"""The real comsrv on a real Redis, for the benchmarks that drive it from outside."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import orjson

from libs.redis import bundle
from libs.redis.resp import Connection
from libs.services import port_of
from tests.support.processes import ROOT, free_port_base
from tests.support.servers import RedisServer

READY_S: Final = 120.0
STOP_S: Final = 30.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
AOF: Final = ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-min-size", "1gb")


class Use(NamedTuple):
    """What a process has used so far."""

    cpu_s: float
    rss_mb: float
    peak_mb: float


def used(pid: int) -> Use:
    """Return the CPU and memory of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    rss, peak = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return Use((int(fields[11]) + int(fields[12])) / TICKS, rss, peak)


@contextmanager
def redis_server(kind: str, folder: Path) -> Iterator[tuple[RedisServer, Connection]]:
    """Start a server of its own with an append-only file; yield it and a connection."""
    running = RedisServer(kind, folder, *AOF)
    try:
        with Connection(running.url, 30.0) as connection:
            yield running, connection
    finally:
        running.stop()


def build(source: Path, folder: Path) -> Path:
    """Compile a small C program, or say what is missing."""
    if shutil.which("cc") is None:
        sys.exit("bench: cc is missing; on Debian: apt-get install gcc libc6-dev")
    program = folder / source.stem
    subprocess.run(["cc", "-O2", "-Wall", "-o", str(program), str(source), "-lm"], check=True)
    return program


def free_ports(count: int) -> int:
    """Return the first of so many loopback ports in a row that are free now."""
    while True:
        # Under 32768: above it the kernel takes ports for outgoing connections.
        first = random.randrange(10_000, 32_000 - count)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def write_table(path: Path, heads: str, rows: list[str]) -> None:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([heads, *rows]) + "\n")


class Comsrv:
    """The service as its own process. Use it as a context; it ends in order, as SIGTERM ends it."""

    def __init__(self, folder: Path, redis_url: str, channels: list[dict[str, Any]], **settings: Any) -> None:
        """Write comsrv.yaml; the point tables are the caller's, under `config/channels/`."""
        self.folder = folder
        self.config = folder / "config"
        self.config.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self.configure(channels)
        self.port_base = free_port_base()
        self.url = f"http://127.0.0.1:{port_of('comsrv', self.port_base)}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOLTAGE_", "COMSRV_"))}
        self.environ = kept | {
            "VOLTAGE_PORT_BASE": str(self.port_base),
            "VOLTAGE_DATA_DIR": str(folder / "data"),
            "VOLTAGE_CONFIG_DIR": str(self.config),
            "VOLTAGE_REDIS_URL": redis_url,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, channels: list[dict[str, Any]]) -> None:
        """Write comsrv.yaml."""
        # JSON is YAML.
        (self.config / "comsrv.yaml").write_bytes(orjson.dumps({"channels": channels, **self._settings}))

    @property
    def pid(self) -> int:
        """The process."""
        if self._process is None:
            raise RuntimeError("comsrv was not started")
        return self._process.pid

    def voltage(self, *arguments: str) -> str:
        """Run a `voltage` command in the same surroundings and return what it printed."""
        command = [sys.executable, "-m", "services.cli", *arguments]
        ran = subprocess.run(command, env=self.environ, cwd=ROOT, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"bench: voltage {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def __enter__(self) -> Self:
        """Start it and wait until it is ready: each block had its first attempt."""
        with (self.folder / "comsrv.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "serve", "comsrv"],
                env=self.environ, cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + READY_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                sys.exit(f"bench: comsrv is not ready:\n{self.log()}")
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """Stop it in order: what was read is sent."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def log(self) -> str:
        """Return the end of what it logged, each line's head."""
        lines = (self.folder / "comsrv.log").read_text(errors="replace").splitlines()
        return "\n".join(line[:400] for line in lines[-5:])

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:  # noqa: S310 - our own loopback
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def ledger(connection: Connection) -> dict[str, int]:
    """Return the ledger's counters."""
    found = connection.call("HGETALL", "voltage:ledger")
    return {k.decode(): int(v) for k, v in zip(found[::2], found[1::2], strict=True) if v.lstrip(b"-").isdigit()}


def load_functions(connection: Connection) -> None:
    """Load the library as it stands in the sources."""
    connection.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Yield a temporary folder."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        yield Path(name)
