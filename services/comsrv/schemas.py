"""Bodies, queries and replies of comsrv's routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from libs.http.pages import PageQuery
from libs.points import PointKind
from libs.validation import Id, Model
from services.comsrv.channel import MAX_ID, ChannelReporting, Points, Polling

MAX_TTL_MS = 600_000
MAX_WAIT_MS = 30_000


class ChannelBody(Model):
    """A channel to create."""

    id: int = Field(ge=1, le=MAX_ID)
    name: str = Field(min_length=1, max_length=256)
    protocol: str
    enabled: bool = True
    description: str = Field("", max_length=1024)
    parameters: dict[str, Any] = Field(default_factory=dict)
    polling: Polling = Polling()
    reporting: ChannelReporting = ChannelReporting()
    points: Points = Points()


class ChannelChange(Model):
    """What to change of a channel; what is left out stays as it is."""

    name: str | None = Field(None, min_length=1, max_length=256)
    protocol: str | None = None
    enabled: bool | None = None
    description: str | None = Field(None, max_length=1024)
    parameters: dict[str, Any] | None = None
    polling: Polling | None = None
    reporting: ChannelReporting | None = None
    points: Points | None = None


class PointsQuery(PageQuery):
    """Which points to list."""

    type: PointKind | None = None


class PointValue(Model):
    """A value for a point of a virtual channel."""

    value: float
    quality: str = Field("good", max_length=50, description="good, bad:<reason> or uncertain:<reason>")
    at_ms: int | None = Field(None, ge=0)


class CommandBody(Model):
    """A command. The id is the idempotency key: the same id again is the same command."""

    id: Id | None = None
    type: Literal["C", "A"]
    point: int = Field(ge=1, le=MAX_ID)
    value: float | Annotated[str, StringConstraints(max_length=256)] = Field(
        description="a number, or a text for a text point"
    )
    priority: int | None = Field(None, ge=0, le=100)
    ttl_ms: int | None = Field(None, ge=1, le=MAX_TTL_MS)
    verify: bool = True
    lease_ms: int | None = Field(None, ge=0, le=86_400_000, description="hold the point so long; 0 for no hold")
    fallback: float | None = Field(None, description="value that follows the hold")
    bypass_reason: str | None = Field(None, min_length=1, max_length=512, description="why the interlock is bypassed")

    @model_validator(mode="before")
    @classmethod
    def _point_as_text(cls, data: Any) -> Any:
        """Take a point written as text ("1"), as references write it."""
        if isinstance(data, dict) and isinstance(data.get("point"), str) and data["point"].isdecimal():
            return data | {"point": int(data["point"])}
        return data


class Reason(Model):
    """Why an operator does something."""

    comment: str | None = Field(None, max_length=512)


class SelectionBody(Model):
    """How long a point stays selected."""

    ttl_ms: int | None = Field(None, ge=1000, le=600_000)


class TagBody(Model):
    """A tag on a point."""

    kind: Literal["lockout", "maintenance"]
    reason: str = Field(min_length=1, max_length=512)
    until_ms: int | None = Field(None, ge=0, description="without it until it is taken off")


class SubstitutionBody(Model):
    """A value by hand; it ends by itself."""

    value: float
    reason: str = Field(min_length=1, max_length=512)
    expires_ms: int = Field(ge=1000, le=604_800_000, description="how long it lasts")


class WaitQuery(Model):
    """How long to wait for a command's final form."""

    wait_ms: int | None = Field(None, ge=0, le=MAX_WAIT_MS)


class FramesQuery(Model):
    """Which frames to show."""

    limit: int = Field(200, ge=1, le=10_000)
    after: int = Field(0, ge=0, description="only frames numbered higher than this")


class FramesBody(Model):
    """How long to keep frames, and how many."""

    seconds: float = Field(60, ge=0, le=86_400, description="0 turns the log off")
    limit: int = Field(1000, ge=1, le=10_000, description="the newest that are kept")


class CommandsQuery(PageQuery):
    """Which commands to list."""

    channel: int | None = Field(None, ge=1, le=MAX_ID)
    state: (
        Literal["queued", "sent", "acknowledged", "verified", "rejected", "failed", "mismatch", "expired", "superseded"]
        | None
    ) = None
