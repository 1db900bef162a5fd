"""Windows of time as they come: hours, days, months and dates of a site's wall clock."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from libs.definitions import Definition
from libs.validation import Id, Model

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")
MAX_DATES: Final = 400


def _zone(text: str) -> str:
    # Only names, as the functions take them: no path, no rule in POSIX form.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}", text):
        raise ValueError("must be a time zone such as Europe/Berlin or UTC")
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text} is no time zone this machine knows") from None
    return text


def _time(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError("must be a time of day such as 06:00, or 24:00")
    return text


def _dates(text: str) -> str:
    first, _, last = text.partition("/")
    try:
        begin, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last or first)
    except ValueError:
        raise ValueError("must be a date such as 2027-12-24, or a range such as 2027-12-24/2027-12-26") from None
    if end < begin:
        raise ValueError("the range ends before it begins")
    return text


Zone = Annotated[str, AfterValidator(_zone)]
TimeOfDay = Annotated[str, AfterValidator(_time)]
Dates = Annotated[str, AfterValidator(_dates)]
DateList = Annotated[list[Dates], Field(min_length=1, max_length=MAX_DATES)]


class Window(Model):
    """Open while the wall clock of a zone shows these hours on these days."""

    zone: Zone = Field(description="IANA time zone; changes of daylight saving time are followed")
    from_: TimeOfDay | None = Field(None, alias="from", description="without it from midnight")
    to: TimeOfDay | None = Field(
        None,
        description="without it to midnight; before `from` it is of the next day, and the days are those of `from`",
    )
    days: list[Day] | None = Field(None, min_length=1, max_length=7)
    months: list[Annotated[int, Field(ge=1, le=12)]] | None = Field(None, min_length=1, max_length=12)
    dates: Id | DateList | None = Field(None, description="only on these dates: a list, or the name of a calendar")
    except_: Id | DateList | None = Field(None, alias="except", description="not on these dates")

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if (self.from_ or "00:00") == (self.to or "24:00"):
            raise ValueError("to must be another time than from; without both the whole day is meant")
        if self.from_ == "24:00":
            raise ValueError("from must be before 24:00")
        return self


class Calendar(Definition):
    """Dates that windows of time name, as holidays. After `through` nobody knows, and conditions on it are unknown."""

    name: str = Field(min_length=1, max_length=256)
    dates: DateList
    through: Annotated[str, AfterValidator(_dates)] = Field(description="the last date the list is complete for")

    @model_validator(mode="after")
    def _one_date(self) -> Self:
        if "/" in self.through:
            raise ValueError("through must be one date")
        return self
