"""The document of an alarm definition. What the site has to say about it (limits, points) is checked in Redis."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from libs.definitions import WarnedDefinition
from libs.numbers import EXACT_LIMIT
from libs.points import QUALITIES, is_quality
from libs.validation import Id, Model, Ref, WatchedRef, misplaced, worded

Level = Literal["Critical", "Major", "Minor", "Warning", "Info"]
Detector = Literal[
    "HiHi", "Hi", "Lo", "LoLo", "State", "Deviation", "Rate", "Discrepancy", "Stuck", "NoData", "Quality"
]
Number = int | float
MAX_DELAY_MS: Final = 86_400_000
_BANDED: Final = {"HiHi", "Hi", "Lo", "LoLo", "Deviation", "Discrepancy", "Rate"}
_NAME: Final = (
    r"(alarm|group|equipment):[A-Za-z0-9_-]{1,64}"
    r"|rule:[A-Za-z0-9_-]{1,64}#[1-9][0-9]*"
    r"|comsrv:[1-9][0-9]*(:unit:[A-Za-z0-9_-]{1,64})?"
)
_NAMES: Final = (
    "alarm:DEFINITION, group:GROUP, equipment:EQUIPMENT, rule:RULE#N, comsrv:CHANNEL or comsrv:CHANNEL:unit:UNIT"
)
Name = Annotated[str, Field(pattern=worded(f"^({_NAME})$", _NAMES), examples=["group:feeder1"])]


Tags = Annotated[list[Annotated[str, Field(max_length=320)]], Field(max_length=100)]
# How long a point may be without data or without a change, at most.
MAX_QUIET_MS: Final = 31 * MAX_DELAY_MS


class Guidance(Model):
    """What an operator needs to know when the alarm comes."""

    cause: str | None = Field(None, max_length=2048)
    consequence: str | None = Field(None, max_length=2048)
    action: str | None = Field(None, max_length=2048)
    time_to_respond_ms: int | None = Field(None, ge=0, description="after it the consequence is there")


class AlarmDefinition(WarnedDefinition):
    """One detector on one point; at most one open alarm at a time."""

    name: str | None = Field(None, max_length=256)
    source: WatchedRef
    detector: Detector
    limit: Number | str | None = Field(
        None,
        description="a number; for Rate the change within window_ms, for Stuck and NoData milliseconds, "
        "for Quality a quality, for State of a text point a text",
    )
    other: Ref | None = Field(None, description="for Deviation the point to compare with, for Discrepancy the command")
    window_ms: int | None = Field(None, ge=100, le=MAX_DELAY_MS, description="for Rate; 60000 where absent")
    direction: Literal["rising", "falling", "both"] | None = Field(None, description="for Rate; both where absent")
    deadband: Number | None = Field(None, ge=0, description="how far back the value must go for the alarm to end")
    deadband_percent: Number | None = Field(None, ge=0, le=100, description="the deadband as a share of the limit")
    on_delay_ms: int | None = Field(None, ge=0, le=MAX_DELAY_MS)
    off_delay_ms: int | None = Field(None, ge=0, le=MAX_DELAY_MS)
    latching: bool | None = Field(None, description="ends by a person alone")
    ack_required: bool | None = Field(None, description="default true for Critical, Major and Minor")
    level: Level
    priority: int | None = Field(None, ge=1, le=1000, description="900, 700, 500, 300, 100 by level where absent")
    message: str | None = Field(None, max_length=256, description="with {value}, {unit}, {limit}, {point:ref}, ...")
    guidance: Guidance | str | None = None
    tags: Tags | None = None
    area: str | None = Field(None, max_length=64)
    equipment: Id | None = None
    group: Id | None = Field(None, description="the first of its alarms is the first-out")
    set: Id | None = Field(None, description="limits of a point and a set must be in order")
    suppress_when: list[Any] | dict[str, Any] | None = Field(
        None, description="conditions as of a rule; while they hold the alarm is suppressed"
    )
    suppresses: list[Name] | None = Field(None, max_length=32, description="what is suppressed while it is active")
    realarm_ms: int | None = Field(None, ge=1000, le=31 * MAX_DELAY_MS, description="then an active one is New again")
    max_shelve_ms: int | None = Field(None, ge=0, le=MAX_DELAY_MS, description="0: it is not to be shelved")
    enabled: bool = True

    @model_validator(mode="after")
    def _fits(self) -> Self:
        compares = self.detector in {"Deviation", "Discrepancy"}
        if compares != (self.other is not None):
            said = "is needed for" if compares else "does not go with"
            raise misplaced("other", f"{said} detector {self.detector}")
        for name in ("window_ms", "direction"):
            if getattr(self, name) is not None and self.detector != "Rate":
                raise misplaced(name, f"does not go with detector {self.detector}")
        if (self.deadband or self.deadband_percent) and self.detector not in _BANDED:
            raise misplaced(
                "deadband" if self.deadband else "deadband_percent", f"does not go with detector {self.detector}"
            )
        if self.deadband is not None and self.deadband_percent is not None:
            raise misplaced("deadband_percent", "does not go beside deadband")
        if self.other is not None and self.other == self.source:
            raise misplaced("other", "is the source itself")
        self._check_limit()
        self._check_reach()
        self._check_event()
        return self

    def _check_limit(self) -> None:
        limit = self.limit
        if self.detector == "Quality":
            fits, needed = limit is None or is_quality(limit), QUALITIES
        elif self.detector == "State":
            fits, needed = limit is not None, "a number, or a text for a text point"
        elif self.detector in {"NoData", "Discrepancy"}:
            fits, needed = isinstance(limit, int | float | None), "a number"
        else:
            fits, needed = isinstance(limit, int | float), "a number"
        if not fits:
            raise misplaced("limit", f"must be {needed} for detector {self.detector}")

    def _check_reach(self) -> None:
        for name in ("limit", "deadband"):
            value = getattr(self, name)
            if isinstance(value, int | float) and abs(value) > EXACT_LIMIT:
                raise misplaced(name, "must be a number from -2^53 to 2^53: no value is beyond")
        limit = self.limit if self.detector in {"NoData", "Stuck"} else None
        if isinstance(limit, int | float) and (limit % 1 or limit > MAX_QUIET_MS):
            raise misplaced("limit", "must be a whole number of milliseconds, at most 31 days")

    def _check_event(self) -> None:
        if self.level != "Info":
            return
        for name in ("ack_required", "latching", "realarm_ms", "max_shelve_ms"):
            if getattr(self, name):
                raise misplaced(name, "does not go with level Info: it is an event, and asks for nothing")
