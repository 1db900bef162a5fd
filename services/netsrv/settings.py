"""Settings of netsrv: config/netsrv.yaml, `VOLTAGE_...`, `NETSRV_...`."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from pydantic import Field, SecretStr

from libs.config import Settings
from libs.config.load import MASK
from libs.validation import Id, Model
from services.netsrv.schemas import Network, Route


class NetworkSecret(Model):
    """What a network authenticates with; also from `NETSRV_SECRETS_<NAME>_PASSWORD` or `..._PASSWORD_FILE`."""

    username: SecretStr | None = None
    password: SecretStr | None = None
    token: SecretStr | None = Field(None, description="http: sent as bearer token, or in the network's token_header")

    def masked(self, text: str) -> str:
        """Return a text without the secrets, for logs and replies."""
        for secret in (self.password, self.token):
            if secret and secret.get_secret_value():
                text = text.replace(secret.get_secret_value(), MASK)
        return text.replace(self.basic, MASK) if self.basic else text

    @property
    def basic(self) -> str | None:
        """User and password as HTTP's basic scheme writes them (RFC 7617)."""
        if not self.username or not self.password:
            return None
        return b64encode(f"{self.username.get_secret_value()}:{self.password.get_secret_value()}".encode()).decode()


class ForwardSettings(Model):
    """How the queue is taken."""

    batch_entries: int = Field(200, ge=1, le=1000)
    linger_ms: int = Field(100, ge=0, le=10_000, description="pause after a small batch: fewer, larger commits")


class NetsrvSettings(Settings):
    """All settings of netsrv."""

    networks: tuple[Network, ...] = ()
    routes: tuple[Route, ...] = ()
    secrets: dict[Id, NetworkSecret] = Field({}, description="what networks refer to by `secret`")
    forward: ForwardSettings = ForwardSettings()

    @property
    def folder(self) -> Path:
        """Where the disk queues are."""
        return self.data_dir / "netsrv"
