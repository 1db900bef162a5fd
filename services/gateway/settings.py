"""Settings of the gateway: config/gateway.yaml, `VOLTAGE_...`, `GATEWAY_...`."""

from __future__ import annotations

from pydantic import Field

from libs.config import Settings
from libs.http.bodies import MAX_BYTES, MAX_UPLOAD_BYTES
from libs.validation import Model


class SessionSettings(Model):
    """How long a log-in lasts."""

    access_ttl_s: int = Field(600, ge=10, le=86_400, description="life of an access token, which can't be revoked")
    refresh_ttl_s: int = Field(43_200, ge=60, le=2_592_000, description="a session unused for so long ends")


class ProxySettings(Model):
    """Calls that are passed on to services."""

    connections: int = Field(32, ge=1, le=1000, description="at once to one service; more wait, then 503")
    connect_timeout_s: float = Field(3, gt=0, le=60, description="for a connection, waiting for a free one included")
    read_timeout_s: float = Field(90, gt=0, le=3600, description="silence of a service before its caller gets 503")
    max_body_bytes: int = Field(MAX_BYTES, ge=1000, description="a larger body is 413")
    max_upload_bytes: int = Field(MAX_UPLOAD_BYTES, ge=1000, description="a larger file (CSV, Parquet) is 413")
    upload_timeout_s: float = Field(60, gt=0, le=3600, description="silence of who sends a file before it is given up")


class StreamSettings(Model):
    """The live stream /ws."""

    max_clients: int = Field(200, ge=1, le=10_000)
    max_refs: int = Field(5000, ge=1, description="references of one client")


class GatewaySettings(Settings):
    """All settings of the gateway."""

    session: SessionSettings = SessionSettings()
    proxy: ProxySettings = ProxySettings()
    stream: StreamSettings = StreamSettings()
    trusted_proxies: tuple[str, ...] = Field((), description="addresses whose X-Real-IP is believed (nginx)")
