"""Instants as people and programs write them, turned into Unix milliseconds."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from libs.clock import now_ms
from libs.errors import InvalidError

MAX_MS: Final = 253_402_300_799_999  # The last millisecond of the year 9999.
UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

_INTEGER: Final = re.compile(r"\d{1,15}")
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_RELATIVE: Final = re.compile(r"(?:now)?([+-])(\d{1,12})(ms|s|m|h|d|w)")
_DURATION: Final = re.compile(r"(\d{1,12})(ms|s|m|h|d|w)")
_FORMS: Final = "write 2026-01-31T12:00:00Z, integer milliseconds, now or -5m"


def parse_instant(value: str | int, now: int | None = None) -> int:
    """Return the Unix milliseconds of an instant.

    Args:
        value: RFC 3339 with an offset, integer milliseconds, `now`, or relative to
            now as in `-5m` (units ms, s, m, h, d, w).
        now: the instant that `now` means; the wall clock's when absent.

    Raises:
        InvalidError: none of these forms.
    """
    text = str(value).strip()
    at = now_ms() if now is None else now
    if _INTEGER.fullmatch(text):
        at = int(text)
    elif relative := _RELATIVE.fullmatch(text):
        sign, count, unit = relative.groups()
        at += int(count) * UNITS_MS[unit] * (1 if sign == "+" else -1)
    elif _RFC3339.fullmatch(text):
        at = _from_rfc3339(text)
    elif text != "now":
        raise InvalidError(f"{text[:40]!r} is no instant; {_FORMS}")
    if not 0 <= at <= MAX_MS:
        raise InvalidError(f"{text[:40]!r} is outside the years 1970 to 9999")
    return at


def parse_duration(value: str | int) -> int:
    """Return the milliseconds of a duration: an integer of them, or as in `90s`, `1m`.

    Raises:
        InvalidError: neither of these, or not positive.
    """
    text = str(value).strip()
    found = _DURATION.fullmatch(text)
    if found:
        text = str(int(found[1]) * UNITS_MS[found[2]])
    if not _INTEGER.fullmatch(text) or int(text) == 0:
        raise InvalidError(f"{str(value)[:40]!r} is no duration; write integer milliseconds or 90s, 1m, 1h, 1d")
    return int(text)


def _from_rfc3339(text: str) -> int:
    # A time holds microseconds at most, so further digits are cut off.
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.upper())
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError(f"{text!r} is no instant: {error}; {_FORMS}") from None
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def _field(parse: Callable[[str | int], int]) -> BeforeValidator:
    """Turn a parser into the validator of a field."""

    def validate(value: Any) -> int:
        text = value if isinstance(value, str | int) and not isinstance(value, bool) else type(value).__name__
        try:
            return parse(text)
        except InvalidError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(validate)


def _schema(description: str) -> WithJsonSchema:
    forms = [{"type": "string"}, {"type": "integer", "minimum": 0}]
    return WithJsonSchema({"oneOf": forms, "description": description})


Instant = Annotated[int, _field(parse_instant), _schema("RFC 3339, integer milliseconds, now, or -5m")]
"""A field that takes any form of an instant and holds Unix milliseconds."""

Duration = Annotated[int, _field(parse_duration), _schema("integer milliseconds, or as in 90s, 1m, 1h, 1d")]
"""A field that takes a duration and holds milliseconds."""
