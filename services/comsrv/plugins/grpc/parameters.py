"""Parameters of a grpc channel, and a row of its mapping tables."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import Field, model_validator

from libs.validation import Model, worded
from services.comsrv.certificates import Certificates


class Tls(Certificates):
    """TLS of the connection. Without ca_file the public authorities that come with grpcio are trusted."""


class Parameters(Model):
    """Parameters of a grpc channel."""

    host: str = Field(min_length=1, max_length=253)
    port: int | str = Field(50051, description="a number, or base+20 to count from the port base")
    timeout_ms: int = Field(2000, ge=10, le=60_000, description="for connecting and for each call")
    stream: bool = Field(default=True, description="take what the gateway pushes, beside the polls")
    max_points: int = Field(500, ge=1, le=500, description="points a request")
    tls: Tls | None = None
    token_env: str = Field(
        "",
        pattern=worded(r"^([A-Z][A-Z0-9_]*)?$", "the name of a variable, as SITE_TOKEN"),
        max_length=64,
        description="the environment variable with the token, or <NAME>_FILE with the file that holds it",
    )

    @model_validator(mode="after")
    def _private(self) -> Parameters:
        if self.token_env and self.tls is None and not _is_loopback(self.host):
            raise ValueError("token_env needs tls: a token in the clear is no secret")
        return self

    def token(self) -> str:
        """Return the token as it is now, empty where none is asked for.

        Raises:
            ValueError: neither the variable nor its file is there.
        """
        if not self.token_env:
            return ""
        value, file = os.environ.get(self.token_env), os.environ.get(f"{self.token_env}_FILE")
        if file:
            try:
                value = Path(file).read_text(encoding="ascii").strip()
            except (OSError, UnicodeError) as error:
                raise ValueError(f"{self.token_env}_FILE: {file} can't be read: {error}") from None
        if not value:
            raise ValueError(f"the environment has neither {self.token_env} nor {self.token_env}_FILE")
        return value


class Mapping(Model):
    """A row of a mapping table: the point's device and name at the gateway."""

    device: str = Field("", max_length=64, description="empty for a gateway that is one device")
    name: str = Field(min_length=1, max_length=256)
    poll_group: str = ""
    verify_name: str = Field("", max_length=256, description="read back from here instead")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
