"""Networks and routes as people write them, and the replies about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from libs.definitions import Definition
from libs.errors import InvalidError
from libs.http import PageQuery
from libs.validation import HttpUrl, Id, Model, Pattern, Ref, worded
from services.netsrv.templates import PLACES, Template

MEGABYTE: Final = 1_000_000
# These would carry a secret; a network names one instead.
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})
_HTTP_ONLY: Final = ("url", "method", "headers", "token_header")
_MQTT_ONLY: Final = ("host", "port", "client_id", "keepalive_s", "status_topic", "window", "commands")

Topic = Annotated[
    str, Field(min_length=1, max_length=1024, pattern=worded(r"^[^+#\x00]+$", "a topic to publish to, without + and #"))
]
TopicFilter = Annotated[
    str, Field(min_length=1, max_length=1024, pattern=worded(r"^[^\x00]+$", "a topic, without the character 0"))
]


class Tls(Model):
    """How the other side is verified, always, and what we show of ourselves."""

    ca_file: Path | None = Field(None, description="PEM of the authority that signed; without it the system's")
    cert_file: Path | None = Field(None, description="PEM of our certificate")
    key_file: Path | None = Field(None, description="PEM of its key")

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        return self


class QueueSettings(Model):
    """What waits on disk for a network."""

    max_bytes: int = Field(100 * MEGABYTE, ge=10_000, le=100_000 * MEGABYTE, description="beyond it the oldest goes")


class Retry(Model):
    """The pause after a failure doubles from the first to the longest, spread at random."""

    first_ms: int = Field(1000, ge=10, le=60_000)
    max_ms: int = Field(60_000, ge=10, le=3_600_000)


class CommandSettings(Model):
    """Commands that may come from a broker."""

    topic: TopicFilter
    response_topic: Topic
    allow: tuple[Pattern, ...] = Field(max_length=1000, description="patterns over references: comsrv:1003:A:1")
    ttl_ms: int = Field(10_000, ge=100, le=600_000, description="of a command that names none")
    max_ttl_ms: int = Field(60_000, ge=100, le=600_000)

    @model_validator(mode="after")
    def _no_loop(self) -> Self:
        if topic_matches(self.topic, self.response_topic):
            raise ValueError("topic must not match response_topic: answers would come back as commands")
        return self


class Network(Definition):
    """A broker or a server. It holds no secrets: `secret` names an entry of `secrets` in the configuration."""

    type: Literal["mqtt", "http"]
    description: str = Field("", max_length=1000)
    enabled: bool = True
    secret: Id | None = Field(None, description="entry of `secrets`: username and password, or token")
    tls: Tls | None = Field(None, description="mqtt: without it the connection is not encrypted")
    queue: QueueSettings = QueueSettings()
    retry: Retry = Retry()
    timeout_s: float = Field(10, ge=0.001, le=300)
    host: str | None = Field(None, min_length=1, max_length=253, description="mqtt")
    port: int | None = Field(None, ge=1, le=65535, description="mqtt: 1883, with tls 8883")
    client_id: str | None = Field(None, min_length=1, max_length=64, description="mqtt: else one is made and kept")
    keepalive_s: int | None = Field(None, ge=5, le=3600, description="mqtt: 30")
    status_topic: Topic | None = Field(None, description="mqtt: online, and offline by last will, retained")
    window: int | None = Field(None, ge=1, le=100, description="mqtt: messages on their way at once, 10")
    commands: CommandSettings | None = Field(None, description="mqtt: without it none are taken")
    url: HttpUrl | None = Field(None, description="http")
    method: Literal["POST", "PUT"] | None = Field(None, description="http: POST")
    headers: dict[str, str] | None = Field(None, max_length=50, description="http: sent as they are, no secrets")
    token_header: str | None = Field(
        None, pattern=worded(r"^[A-Za-z0-9-]+$", "the name of a header"), description="http: takes the secret's token"
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        needed, foreign = ("host", _HTTP_ONLY) if self.type == "mqtt" else ("url", _MQTT_ONLY)
        if getattr(self, needed) is None:
            raise ValueError(f"a network of type {self.type} needs {needed}")
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is not for type {self.type}")
        for name in self.headers or {}:
            if name.lower() in SECRET_HEADERS:
                raise ValueError(f"header {name} would hold a secret; name it with `secret`")
        return self


class Route(Definition):
    """Which points go to which network, when, and how they are written."""

    network: Id
    source: Pattern = Field(description="pattern over references: comsrv:1001:T:*, modsrv:pv1:*")
    target: str | None = Field(None, max_length=1024, description="MQTT topic, or what follows the URL; {channel}, ...")
    formatter: Literal["json", "ascii"] = "json"
    template: str | dict[str, str] | None = Field(
        None, max_length=4096, description="ascii: text a sample; json: names to texts, a lone {value} is a number"
    )
    separator: str = Field("\n", max_length=16, description="ascii: between the samples of a message")
    trigger: Literal["change", "interval"] = "change"
    interval_ms: int | None = Field(None, ge=100, le=86_400_000)
    qos: Literal[0, 1] = 1
    retain: bool = False
    enabled: bool = True
    description: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.trigger == "interval" and self.interval_ms is None:
            raise ValueError("trigger interval needs interval_ms")
        if self.formatter == "ascii" and not isinstance(self.template, str):
            raise ValueError("formatter ascii needs a template that is a text")
        if self.formatter == "json" and isinstance(self.template, str):
            raise ValueError("formatter json takes a template that is an object, or none")
        try:
            self.parsed_target("")
            self.parsed_template()
        except InvalidError as error:
            raise ValueError(str(error)) from None
        if any(letter in (self.target or "") for letter in "+#\0"):
            raise ValueError("target: + and # are for subscriptions")
        return self

    def parsed_target(self, default: str) -> Template:
        """Return the target's template."""
        return Template(default if self.target is None else self.target, "target", PLACES)

    def parsed_template(self) -> Template | dict[str, Template] | None:
        """Return the template's templates."""
        if isinstance(self.template, dict):
            return {name: Template(text, f"template.{name}") for name, text in self.template.items()}
        return None if self.template is None else Template(self.template, "template")


class CommandMessage(Model):
    """A command as it comes from a broker. `id` makes it safe to send twice."""

    id: Id
    ref: Ref | None = None
    channel: int | None = Field(None, ge=1)
    type: Literal["C", "A"] | None = None
    point: int | None = Field(None, ge=1)
    value: float | Annotated[str, StringConstraints(max_length=256)] = Field(
        description="a number, or a text for a text point"
    )
    ttl_ms: int | None = Field(None, ge=1, le=600_000)
    at_ms: int | None = Field(None, ge=0, description="when it was sent; what is older than its ttl is refused")

    @model_validator(mode="after")
    def _one_point(self) -> Self:
        place = (self.channel, self.type, self.point)
        if self.ref is None and None in place:
            raise ValueError("ref, or channel, type and point, must be given")
        if self.ref is not None and place != (None, None, None):
            raise ValueError("ref and channel, type, point are two ways to say one thing; send one")
        return self

    @property
    def reference(self) -> str:
        """The point, as a reference."""
        return self.ref or f"comsrv:{self.channel}:{self.type}:{self.point}"


class RouteQuery(PageQuery):
    """Which routes."""

    network: Id | None = None


class NetworkStatus(Model):
    """How a network is doing."""

    id: str
    type: str
    enabled: bool
    connected: bool
    since_ms: int | None = Field(description="when `connected` last changed")
    last_error: str | None
    last_error_at_ms: int | None
    queue: dict[str, Any] = Field(description="messages, bytes, max_bytes, oldest_at_ms")
    sent: int
    failed: int = Field(description="attempts that did not succeed")
    dropped: dict[str, int] = Field(description="messages by reason")
    dead_letters: int


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Say whether a topic matches a subscription (MQTT 3.1.1 section 4.7)."""
    wanted, found = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(found) or level not in {"+", found[index]}:
            return False
    return len(wanted) == len(found)
