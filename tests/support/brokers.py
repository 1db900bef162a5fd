"""Real MQTT brokers (mosquitto) on loopback, their certificates, and what mosquitto_sub receives."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

INSTALL: Final = "apt-get install mosquitto mosquitto-clients (Debian), or see CONTRIBUTING.md"


def binary(name: str) -> str:
    """Return the path of one of mosquitto's programs."""
    # Debian puts the broker where only root's PATH looks.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")
    assert found, f"{name} is missing; install it with: {INSTALL}"
    return found


class Broker:
    """A broker with a folder of its own; `lines` are added to its configuration."""

    def __init__(self, folder: Path, port: int, *lines: str) -> None:
        """Write the configuration; `start` starts it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        self.file = folder / "mosquitto.conf"
        access = [] if any("allow_anonymous" in line for line in lines) else ["allow_anonymous true"]
        self.file.write_text("\n".join([f"listener {port} 127.0.0.1", *access, *lines, "log_type all"]) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen([binary("mosquitto"), "-c", str(self.file)], stdout=log, stderr=log)
        end = time.monotonic() + 10
        while not self._listens():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        """Return what the broker said."""
        return (self.folder / "broker.log").read_text(errors="replace")

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Subscriber:
    """mosquitto_sub in a durable session: what it misses while the broker is there, it gets later."""

    def __init__(self, broker: Broker, topic: str, *options: str) -> None:
        """Keep what to subscribe to; `start` starts it."""
        self.command = [
            # Without it what it says stays in its buffer.
            "stdbuf", "-oL", binary("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-q", "1",
            "-F", "%t %r %p", *options,
        ]  # fmt: skip
        self.lines: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, and wait until the broker has said so."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command, "-d", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        ready = asyncio.Event()
        self._reader = asyncio.create_task(self._read(self.process, ready))
        await asyncio.wait_for(ready.wait(), 10)

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode().rstrip("\n")
            if line.startswith("Subscribed "):
                ready.set()
            # -d makes it talk about its own work too.
            if not line.startswith(("Client ", "Subscribed ")):
                self.lines.append(line)

    async def stop(self) -> None:
        """End it."""
        if self.process is not None and self._reader is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            await self._reader

    def messages(self) -> list[tuple[str, str]]:
        """Return (topic, payload) of each message, in order."""
        return [(line.split(" ", 2)[0], line.split(" ", 2)[2]) for line in self.lines]


async def publish(broker: Broker, topic: str, payload: str, *options: str) -> None:
    """Publish one message with mosquitto_pub."""
    process = await asyncio.create_subprocess_exec(
        binary("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(broker.port), "-t", topic, "-m", payload, "-q", "1",
        *options,
    )  # fmt: skip
    assert await process.wait() == 0


def make_users(file: Path, **users: str) -> Path:
    """Write mosquitto's file of hashed passwords."""
    file.touch(mode=0o644)
    for name, password in users.items():
        subprocess.run([binary("mosquitto_passwd"), "-b", str(file), name, password], check=True, capture_output=True)
    return file


def make_authority(folder: Path, name: str) -> Path:
    """Make a certificate authority; returns its certificate, `<name>.key` lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = folder / f"{name}.pem"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", str(folder / f"{name}.key"), "-out", str(certificate),
    )  # fmt: skip
    return certificate


def make_certificate(authority: Path, name: str) -> Path:
    """Make a certificate for 127.0.0.1 and localhost, signed by an authority; `<name>.key` lies beside it."""
    folder = authority.parent
    request, certificate, extensions = folder / f"{name}.csr", folder / f"{name}.pem", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
        "-keyout", str(folder / f"{name}.key"), "-out", str(request),
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(authority), "-CAkey", str(authority.with_suffix(".key")),
        "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", str(certificate),
    )  # fmt: skip
    return certificate


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
