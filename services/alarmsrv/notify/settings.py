"""How notifications leave: mail server, webhooks, broker, and the bounds of a recipient."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as File
from typing import Any, Final, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from libs.validation import HttpUrl, Id, Model, Path, worded
from services.alarmsrv.notify.schemas import AlarmRoute, Zone, parse_target

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
    ca_file: File | None = Field(None, description="PEM of the authority that signed; without it the system's")
    timeout_s: float = Field(30, gt=0, le=300)

    @property
    def used_port(self) -> int:
        """The port that is used."""
        return self.port or PORTS[self.security]


class WebhookSettings(Model):
    """One receiver, signed after the Standard Webhooks specification."""

    url: HttpUrl
    secret: SecretStr = Field(
        description="whsec_ and 24 to 64 bytes in base64; two, parted by a space, while it changes"
    )
    timeout_s: float = Field(15, gt=0, le=60)
    ca_file: File | None = None

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
    ca_file: File | None = None
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

    @model_validator(mode="wrap")
    @classmethod
    def _every_problem(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Name targets that need something that is not configured beside whatever else is wrong."""
        found: list[InitErrorDetails] = []
        made: Self | None = None
        try:
            made = handler(data)
        except ValidationError as error:
            found = [
                {
                    "type": PydanticCustomError(one["type"], one["msg"].replace("{", "{{"), one.get("ctx")),
                    "loc": one["loc"],
                    "input": one["input"],
                }
                for one in error.errors()
            ]
        found += [
            {"type": PydanticCustomError("value_error", "{message}", {"message": message}), "loc": path, "input": text}
            for path, text, message in _unreachable(data if made is None else made.model_dump())
        ]
        if made is None or found:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return made

    def missing(self, way: str, place: str) -> str | None:
        """Say what a target needs that is not configured."""
        return _missing(way, place, {"email": self.email, "mqtt": self.mqtt, "webhooks": self.webhooks})


def _missing(way: str, place: str, ways: Mapping[str, Any]) -> str | None:
    if way == "webhook":
        known = ways.get("webhooks")
        return None if known and place in known else f"there is no webhook {place} in notifications.webhooks"
    return f"notifications.{way} is not configured" if ways.get(way) is None else None


def _unreachable(data: Any) -> Iterator[tuple[Path, str, str]]:
    """Yield path, target and reason of what routes name in vain; data may be wrong in any other way."""
    routes = data.get("routes") if isinstance(data, dict) else None
    for index, route in enumerate(_items(routes)):
        places: list[tuple[Path, Any]] = [((), route)]
        if isinstance(route, dict):
            steps = _items(route.get("escalation"))
            places += [(("escalation", number), step) for number, step in enumerate(steps)]
        for path, holder in places:
            for number, text in enumerate(_items(holder.get("to")) if isinstance(holder, dict) else ()):
                try:
                    message = _missing(*parse_target(text), data) if isinstance(text, str) else None
                except ValueError:
                    continue
                if message:
                    yield ("routes", index, *path, "to", number), text, message


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
