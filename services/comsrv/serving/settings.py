"""Settings of the Modbus server: `modbus_server:` in comsrv.yaml."""

from __future__ import annotations

import ipaddress
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from libs.services import MODBUS_SERVER_PORT, PORT_BASE
from libs.validation import Model


class Mirrors(NamedTuple):
    """Where age and quality of what stands at an address are shown: that many addresses further."""

    quality: int | None
    age: int | None


class ModbusServerSettings(Model):
    """How the site is served over Modbus TCP; what is served stands in modbus_server.csv."""

    enabled: bool = False
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every network")
    port: int | None = Field(None, ge=1, le=65535, description="without it 1502, moved with the port base")
    stale: Literal["exception", "hold"] = Field(
        "exception", description="what a value that is bad or too old reads as: exception 11, or its last value"
    )
    stale_after_ms: int = Field(10_000, ge=100, le=86_400_000, description="age from which a value is too old")
    quality_offset: int | None = Field(20_000, ge=1, le=65_535, description="address of the quality, that much further")
    age_offset: int | None = Field(40_000, ge=1, le=65_535, description="address of the age in seconds")
    cache_ms: int = Field(100, ge=0, le=10_000, description="requests this close together share one reading of Redis")
    max_clients: int = Field(16, ge=1, le=1000)
    idle_s: float = Field(300, ge=1, le=86_400, description="a connection without a request is closed after this")
    allow_from: tuple[str, ...] = Field(("0.0.0.0/0", "::/0"), description="networks that may connect")
    write_from: tuple[str, ...] = Field((), description="networks that may write to the writable addresses")
    ttl_ms: int = Field(5000, ge=100, le=600_000, description="time to live of a command made of a write")
    wait_ms: int = Field(2000, ge=0, le=30_000, description="longest wait of an answer for the device")

    @field_validator("allow_from", "write_from")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for text in networks:
            ipaddress.ip_network(text)
        return networks

    @property
    def mirrors(self) -> Mirrors:
        """Where age and quality are shown."""
        return Mirrors(self.quality_offset, self.age_offset)

    def port_for(self, port_base: int) -> int:
        """Return the port: the one set, else 1502 moved with the port base."""
        return self.port or MODBUS_SERVER_PORT + port_base - PORT_BASE
