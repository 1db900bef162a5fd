"""How notifications leave: mail server, webhooks, broker, and the bounds of a recipient."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator

from libs.validation import Id, Model, worded
from services.alarmsrv.notify.schemas import AlarmRoute, Zone

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how secrets of Standard Webhooks begin
PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


class EmailSettings(Model):
    """The server that takes our mail."""

    host: str
    port: int | None = Field(None, ge=1, le=65535, description="587 with starttls, 465 with tls, 25 with none")
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="none only where nobody listens")
    sender: str = Field(pattern=worded(r"^[^@\s]+@[^@\s]+$", "an e-mail address"), description="address in From:")
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = Field(None, description="PEM of the authority that signed; without it the system's")
    timeout_s: float = Field(30, gt=0, le=300)

    @property
    def used_port(self) -> int:
        """The port that is used."""
        return self.port or PORTS[self.security]


class WebhookSettings(Model):
    """One receiver, signed after the Standard Webhooks specification."""

    url: str = Field(max_length=2048, pattern=worded(r"^https?://[^/@\s]+(/\S*)?$", "an address as https://host/path"))
    secret: SecretStr = Field(
        description="whsec_ and 24 to 64 bytes in base64; two, parted by a space, while it changes"
    )
    timeout_s: float = Field(15, gt=0, le=60)
    ca_file: Path | None = None

    @field_validator("secret")
    @classmethod
    def _decodes(cls, secret: SecretStr) -> SecretStr:
        for one in secret.get_secret_value().split():
            try:
                size = len(base64.b64decode(one.removeprefix(SECRET_PREFIX), validate=True))
            except binascii.Error:
                raise ValueError("must be whsec_ and base64") from None
            if not one.startswith(SECRET_PREFIX) or not 24 <= size <= 64:
                raise ValueError("must be whsec_ and 24 to 64 bytes in base64")
        if not secret.get_secret_value().split():
            raise ValueError("must not be empty")
        return secret

    @property
    def keys(self) -> list[bytes]:
        """The keys that sign."""
        return [base64.b64decode(one.removeprefix(SECRET_PREFIX)) for one in self.secret.get_secret_value().split()]


class MqttSettings(Model):
    """The broker that alarms are published to."""

    host: str
    port: int | None = Field(None, ge=1, le=65535, description="1883, with tls 8883")
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    ca_file: Path | None = None
    timeout_s: float = Field(10, gt=0, le=300)


class RateSettings(Model):
    """What one recipient is sent at most, and when it becomes a digest."""

    collect_ms: int = Field(2000, ge=0, le=60_000, description="wait before a message, to see whether more come")
    per_hour: int = Field(30, ge=1, le=1000, description="messages; what is more waits, and goes as one digest")
    flood_begin: int = Field(10, ge=1, le=1000, description="more in ten minutes: digests instead of messages")
    flood_end: int = Field(5, ge=1, le=1000, description="fewer in ten minutes: messages again")
    digest_interval_s: int = Field(
        600, ge=10, le=86_400, description="between two digests; Critical does not wait for it"
    )
    quiet_ms: int = Field(5000, ge=0, le=60_000, description="a digest goes once nothing came for so long")
    longest_wait_ms: int = Field(60_000, ge=0, le=600_000, description="or the oldest has waited so long")


class NotificationRetry(Model):
    """The pause after a failure doubles; what does not arrive in time is put aside as a dead letter."""

    first_s: float = Field(2, gt=0, le=600)
    longest_s: float = Field(300, gt=0, le=86_400)
    give_up_after_s: float = Field(86_400, ge=1, le=604_800)


class NotificationSettings(Model):
    """Who is told of alarms, and how."""

    page_url: str | None = Field(
        None,
        pattern=worded(r"^https?://\S+$", "an address as https://host/"),
        description="address of the page, put into messages",
    )
    site: str = Field("VoltageEMS", min_length=1, max_length=64, description="name of the site, put into messages")
    time_zone: Zone = Field("UTC", description="of instants in e-mails")
    email: EmailSettings | None = None
    webhooks: dict[Id, WebhookSettings] = Field({}, description="what routes refer to as webhook:<name>")
    mqtt: MqttSettings | None = None
    rate: RateSettings = RateSettings()
    retry: NotificationRetry = NotificationRetry()
    routes: tuple[AlarmRoute, ...] = ()

    def missing(self, way: str, place: str) -> str | None:
        """Say what a target needs that is not configured."""
        if way == "webhook" and place not in self.webhooks:
            return f"there is no webhook {place} in notifications.webhooks"
        if (way == "email" and self.email is None) or (way == "mqtt" and self.mqtt is None):
            return f"notifications.{way} is not configured"
        return None
