"""Bodies, queries and replies of alarmsrv's routes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from libs.http import Comment, PageQuery
from libs.instants import Instant
from libs.redis.backtests import Span
from libs.validation import Id, Model
from services.alarmsrv.definition import MAX_DELAY_MS, AlarmDefinition, Level, Tags
from services.alarmsrv.journal.journal import Wanted

Status = Literal["New", "Acknowledged", "Returned", "Resolved"]
# What the journal notes: the table of states (redis_functions/alarmsrv/states.lua), and what moves nothing.
Noted = Literal[
    "raised", "recurred", "realarmed", "acknowledged", "returned", "latched", "resolved", "shelved", "unshelved",
    "suppressed", "unsuppressed", "out_of_service", "in_service", "redefined", "uncertain", "certain", "escalated",
]  # fmt: skip
MAX_SOURCE = 128

__all__ = [
    "MAX_DELAY_MS",
    "Acknowledgements",
    "Alarm",
    "AlarmBacktest",
    "AlarmDefinition",
    "AlarmQuery",
    "JournalQuery",
    "JournalVerified",
    "Level",
    "Marked",
    "NewAlarm",
    "Service",
    "Shelving",
]


class Alarm(Model):
    """One occurrence, from its first moment to its resolution."""

    model_config = ConfigDict(extra="allow")

    id: Id
    title: str
    level: Level
    source: str | None = None
    status: Status
    count: int
    created_at_ms: int
    shelved: dict[str, Any] | None


class AlarmBacktest(Span):
    """Over which time, and with which definition."""

    definition: AlarmDefinition | None = Field(None, description="instead of the stored one")


class NewAlarm(Model):
    """An alarm by hand; it is resolved by hand. The id makes a repeated request one alarm."""

    id: Id | None = None
    title: str = Field(min_length=1, max_length=256)
    level: Level
    description: str | None = Field(None, max_length=1024)
    source: str | None = Field(None, max_length=MAX_SOURCE, description="a reference, or free text")
    value: float | None = None
    tags: Tags | None = None
    ack_required: bool | None = None
    comment: str | None = Field(None, max_length=512)


class AlarmQuery(PageQuery):
    """Which alarms."""

    status: Status | None = None
    level: Level | None = None
    source: str | None = Field(None, max_length=MAX_SOURCE)
    area: str | None = Field(None, max_length=64)
    equipment: Id | None = None
    group: Id | None = None
    shelved: bool | None = None
    suppressed: bool | None = None
    out_of_service: bool | None = None
    active: bool | None = Field(None, description="true: those that are not Resolved; false: those that are")
    start: Instant | None = Field(None, description="created at or after")
    end: Instant | None = Field(None, description="created at or before")

    def filters(self) -> dict[str, Any]:
        """Return the document of query_alarms."""
        found = self.arguments()
        renamed = {"start": "from_ms", "end": "to_ms"}
        found = {renamed.get(name, name): value for name, value in found.items() if name != "active"}
        if self.active:
            found["open"] = True
        elif self.active is False:
            found.setdefault("status", "Resolved")
        return found


class JournalQuery(PageQuery):
    """Which transitions."""

    alarm: Id | None = None
    event: Noted | None = None
    level: Level | None = None
    source: str | None = Field(None, max_length=MAX_SOURCE)
    user: str | None = Field(None, max_length=64)
    start: Instant | None = Field(None, description="happened at or after")
    end: Instant | None = Field(None, description="happened at or before")

    def wanted(self) -> Wanted:
        """Return which entries these are."""
        fields = self.model_dump(include={"alarm", "event", "level", "source", "user"}, exclude_none=True)
        return Wanted(fields, self.start, self.end)


class JournalVerified(Model):
    """What a walk over the chain found."""

    whole: bool
    entries: int
    on_disk: int
    unchained: int = Field(description="entries of before the chain began")
    first: int
    last: int
    head: str = Field(description="hash of the last entry: note it elsewhere, and nobody can make the chain anew")
    broken: dict[str, Any] | None = Field(description="the first break: {number, reason}")


class Acknowledgements(Comment):
    """Several alarms to acknowledge at once."""

    ids: list[Id] = Field(min_length=1, max_length=500)


class Marked(Model):
    """The alarm; where none of the name is open, what holds of the name."""

    model_config = ConfigDict(extra="allow")

    shelved: dict[str, Any] | None
    suppressed: dict[str, Any] | None
    out_of_service: dict[str, Any] | None


class Shelving(Comment):
    """For how long an alarm asks for no attention: a time, or until its condition ends."""

    duration_ms: int | None = Field(None, ge=1, le=MAX_DELAY_MS)
    one_shot: bool | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.duration_ms is None) == (self.one_shot is not True):
            raise ValueError("give duration_ms or one_shot: true")
        return self


class Service(Comment):
    """Out of service, or back."""

    in_service: bool = Field(False, description="true returns it")
