"""Routes of notification as people write them."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from libs.definitions import Definition
from libs.validation import Model, worded
from services.alarmsrv.schemas import Level

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Event = Literal[
    "raised", "recurred", "realarmed", "acknowledged", "returned", "latched", "resolved", "shelved", "unshelved",
    "suppressed", "unsuppressed", "out_of_service", "in_service",
]  # fmt: skip
DEFAULT_EVENTS: Final[tuple[Event, ...]] = ("raised", "recurred", "realarmed")
MAX_ID: Final = 64
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_TOPIC: Final = re.compile(r"[^+#\x00-\x1f]{1,256}")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FORMS: Final = {"email": _ADDRESS, "webhook": _NAME, "mqtt": _TOPIC}


class Target(NamedTuple):
    """Who is told: the way, and an address, the name of a webhook, or a topic."""

    way: str
    place: str


def parse_target(text: str) -> Target:
    """Split `email:anna@example.com`, `webhook:pager` or `mqtt:site/alarms`.

    Raises:
        ValueError: it is none of these.
    """
    way, _, place = text.partition(":")
    form = _FORMS.get(way)
    if form is None:
        raise ValueError(f"{text!r} must begin with email:, webhook: or mqtt:")
    if not form.fullmatch(place):
        said = {"email": "address", "webhook": "name of a webhook", "mqtt": "topic to publish to"}[way]
        raise ValueError(f"{place!r} is no {said}")
    return Target(way, place)


def recipient_id(text: str) -> str:
    """Return the id of a target in system alarms: `webhook-pager`; of others with a hash, as two may look alike."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    if text.startswith("webhook:") and len(plain) <= MAX_ID:
        return plain
    return f"{plain[: MAX_ID - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _check_target(text: str) -> str:
    parse_target(text)
    return text


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}; write one as Europe/Berlin") from None


def _check_zone(name: str) -> str:
    zone_of(name)
    return name


TargetText = Annotated[
    str, AfterValidator(_check_target), Field(examples=["email:anna@example.com", "webhook:pager", "mqtt:site/alarms"])
]
Zone = Annotated[str, AfterValidator(_check_zone), Field(examples=["Europe/Berlin"])]
Time = Annotated[str, Field(pattern=worded(r"^([01]\d|2[0-3]):[0-5]\d$", "HH:MM, 00:00 to 23:59"), examples=["07:30"])]


class Schedule(Model):
    """When a route is in force; a span over midnight belongs to the day on which it begins."""

    time_zone: Zone
    days: tuple[Day, ...] = Field(DAYS, min_length=1)
    start: Time = "00:00"
    end: Time = Field("00:00", description="not included; equal to `start` is the whole day")

    def covers(self, at_ms: int) -> bool:
        """Say whether an instant is in it, by the wall clock of its time zone."""
        local = dt.datetime.fromtimestamp(at_ms / 1000, zone_of(self.time_zone))
        start, end, now = _minutes(self.start), _minutes(self.end), local.hour * 60 + local.minute
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if start < end:
            return today in self.days and start <= now < end
        return (today in self.days and now >= start) or (yesterday in self.days and start != end and now < end)

    def began(self, at_ms: int) -> int | None:
        """Return when the shift began in which an instant is; None outside, and where it goes on without an end."""
        if not self.covers(at_ms):
            return None
        local = dt.datetime.fromtimestamp(at_ms / 1000, zone_of(self.time_zone))
        hours, minutes = divmod(_minutes(self.start), 60)
        start = local.replace(hour=hours, minute=minutes, second=0, microsecond=0, fold=0)
        if start > local:
            start = (start - dt.timedelta(days=1)).replace(fold=0)
        began_ms = round(start.timestamp() * 1000)
        return None if self.covers(began_ms - 1) else began_ms


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def tags_of(tags: Iterable[str], area: str, equipment: str) -> frozenset[str]:
    """Return what the tags of a route may name of an alarm: its own, its area, its equipment."""
    return frozenset((*tags, area, equipment)) - {""}


class Step(Model):
    """Whom to tell when nobody has acknowledged for so long."""

    after_s: int = Field(ge=1, le=86_400)
    to: tuple[TargetText, ...] = Field(min_length=1, max_length=50)


class AlarmRoute(Definition):
    """Who is told of which alarms, when, and who next when nobody acknowledges."""

    name: str | None = Field(None, max_length=256)
    enabled: bool = True
    levels: tuple[Level, ...] = Field((), description="without any: all but Info")
    tags: tuple[Annotated[str, Field(max_length=320)], ...] = Field(
        (), max_length=100, description="one of an alarm's tags, its area or equipment"
    )
    events: tuple[Event, ...] = Field(DEFAULT_EVENTS, min_length=1)
    to: tuple[TargetText, ...] = Field(min_length=1, max_length=50)
    schedule: Schedule | None = Field(None, description="without one: always")
    escalation: tuple[Step, ...] = Field((), max_length=5)

    def wants(self, level: str, tags: frozenset[str], at_ms: int) -> bool:
        """Say whether it is for such an alarm at that instant."""
        return (
            self.enabled
            and (level in self.levels if self.levels else level != "Info")
            and (not self.tags or not tags.isdisjoint(self.tags))
            and (self.schedule is None or self.schedule.covers(at_ms))
        )

    def all_targets(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Return every target with its path in the document."""
        found: list[tuple[tuple[str | int, ...], str]] = [(("to", index), text) for index, text in enumerate(self.to)]
        for number, step in enumerate(self.escalation):
            found += [(("escalation", number, "to", index), text) for index, text in enumerate(step.to)]
        return found


class OutboxStatus(Model):
    """What waits to be told."""

    waiting: int
    dead_letters: int
    targets: list[dict[str, Any]] = Field(description="target, waiting, flood, sent_last_hour, last_error, next_try_ms")


class Letters(Model):
    """Dead letters to send once more."""

    ids: tuple[str, ...] = Field(min_length=1, max_length=500)
