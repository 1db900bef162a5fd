"""Where a site is: its directories, ports and Redis, from the settings all services share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from libs.config import load
from libs.config.settings import Shared
from libs.errors import ConfigurationError, Problem
from libs.services import REDIS_OFFSET

SECRET_FILE = "password"  # noqa: S105 - the name of a file
# Settings of `voltage up` itself, which a service has no use for.
OWN = ("VOLTAGE_REDIS_MAXMEMORY", "VOLTAGE_REDIS_URL_FILE")


class Site:
    """One site on this machine."""

    def __init__(self, settings: Shared) -> None:
        """Keep the settings and derive the places."""
        self.settings = settings
        self.data_dir = settings.data_dir.absolute()
        self.config_dir = settings.config_dir.absolute()
        self.logs_dir = self.data_dir / "logs"
        self.redis_dir = self.data_dir / "redis"
        # Why `voltage up` ended by itself the last time; it is not there while it runs.
        self.last_words = self.data_dir / "up-ended"
        self.redis_port = settings.port_base + REDIS_OFFSET

    def require_config(self) -> None:
        """Refuse a configuration that is not there: a mistyped folder would be a site without devices.

        Raises:
            ConfigurationError: there is no such folder.
        """
        if not self.config_dir.is_dir():
            where = f"{self.config_dir} is no folder; make it, or name another"
            raise ConfigurationError([Problem("VOLTAGE_CONFIG_DIR", where)])

    def redis_url(self) -> str:
        """Return where Redis is: the one set, else ours with the password it was started with."""
        if self.settings.redis.url:
            return self.settings.redis.url
        try:
            password = (self.redis_dir / SECRET_FILE).read_text().strip()
        except FileNotFoundError:
            return f"redis://127.0.0.1:{self.redis_port}"
        return f"redis://default:{quote(password, safe='')}@127.0.0.1:{self.redis_port}"

    def environment(self) -> dict[str, str]:
        """Return the environment of a service of this site."""
        kept = {name: value for name, value in os.environ.items() if name not in OWN}
        return kept | {
            "VOLTAGE_REDIS_URL": self.redis_url(),
            "VOLTAGE_PORT_BASE": str(self.settings.port_base),
            "VOLTAGE_DATA_DIR": str(self.data_dir),
            "VOLTAGE_CONFIG_DIR": str(self.config_dir),
            "VOLTAGE_NAMESPACE": self.settings.namespace,
            "PYTHONUNBUFFERED": "1",
        }


def load_site(environ: Mapping[str, str] = os.environ) -> Site:
    """Return the site that the environment describes.

    Raises:
        ConfigurationError: every problem at once.
    """
    return Site(load(Shared, "voltage", environ).settings)


def private_directory(path: Path) -> Path:
    """Make a directory only its owner can look into; return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
