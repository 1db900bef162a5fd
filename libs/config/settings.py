"""Settings every service has, and those that several share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator

from libs.services import BY_NAME, PORT_BASE, REDIS_OFFSET, RESERVED, port_of
from libs.validation import Model, nearest, worded

MAX_PORT_BASE: Final = 65535 - 1000
NAMESPACE_PATTERN: Final = worded(r"^[A-Za-z0-9_-]{0,64}$", "at most 64 of A-Z, a-z, 0-9, _ and -")


class Secret:
    """Marks a text as secret: it is masked where shown and may come from `<NAME>_FILE`."""


class RedisSettings(Model):
    """Where Redis is."""

    url: Annotated[str | None, Secret()] = Field(
        None, description="redis://[user:password@]host:port[/db]; without it, our own Redis"
    )
    server: Path | None = Field(None, description="redis-server or valkey-server binary to start")
    maxmemory: str = Field("256mb", description="memory bound of the Redis we start")


class LogSettings(Model):
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = Field("auto", description="auto is console on a terminal, else json")


class TokenSettings(Model):
    """How API tokens are signed."""

    key: SecretStr | None = Field(
        None, description="signing key, at least 32 characters; without it <data_dir>/token.key"
    )

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 32:
            msg = "must have at least 32 characters"
            raise ValueError(msg)
        return key


class ServiceAddress(Model):
    """Where a service is, when it is elsewhere."""

    url: str | None = Field(None, pattern=worded(r"^https?://[^/]+$", "an address as http://host:6001, without a path"))


class InfluxSettings(Model):
    """The InfluxDB that holds history once `url` is set; without it, the embedded store does."""

    url: str | None = Field(
        None, pattern=worded(r"^https?://[^/\s]+(/[^\s?#]*)?$", "an address as http://host:8086, without ? and #")
    )
    api: Literal["v3", "v2", "v1", "victoria"] = Field(
        "v2", description="v3 for InfluxDB 3, v2 for InfluxDB 2 and 3, v1 for InfluxDB 1, victoria for VictoriaMetrics"
    )
    token: SecretStr | None = Field(None, description="token; v1: user:password where the server asks for them")
    org: str = Field("voltage", description="organization (v2)")
    bucket: str = Field("ems_data", description="bucket (v2)")
    database: str = Field("ems_data", description="database (v1 and v3), made where it is missing")
    timeout_s: float = Field(30, gt=0, le=600, description="longest wait for an answer")
    batch_lines: int = Field(5000, ge=1, le=100_000, description="lines of one write request")
    beside: bool = Field(False, description="keep the embedded store too: writes go to both, it answers the queries")


class Settings(Model):
    """Base of each service's settings."""

    host: str = Field("127.0.0.1", description="address the service listens on")
    port_base: int = Field(PORT_BASE, ge=1, le=MAX_PORT_BASE)
    namespace: str = Field("", pattern=NAMESPACE_PATTERN)
    config_dir: Path = Path("config")
    data_dir: Path = Path(".data")
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()
    token: TokenSettings = TokenSettings()
    services: dict[str, ServiceAddress] = Field({}, description="addresses of services elsewhere")

    @field_validator("services")
    @classmethod
    def _known_services(cls, services: dict[str, ServiceAddress]) -> dict[str, ServiceAddress]:
        known = {*BY_NAME, *RESERVED}
        for name in services:
            if name not in known:
                msg = f"no service {name!r}{nearest(name, known)}"
                raise ValueError(msg)
        return services

    @property
    def redis_url(self) -> str:
        """The URL of Redis: the one set, else our own on port base + 379."""
        return self.redis.url or f"redis://127.0.0.1:{self.port_base + REDIS_OFFSET}"

    def port(self, name: str) -> int:
        """Return the port of a service."""
        return port_of(name, self.port_base)

    def service_url(self, name: str) -> str:
        """Return the address of a service, without a slash at the end."""
        address = self.services.get(name)
        return (address and address.url) or f"http://127.0.0.1:{self.port(name)}"


class Shared(Settings):
    """All that a `VOLTAGE_...` variable can name, whichever services use it."""

    influxdb: InfluxSettings = InfluxSettings()
