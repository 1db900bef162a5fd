"""Instants and durations as people write them."""

from __future__ import annotations

import pytest

from libs.errors import InvalidError
from libs.instants import parse_duration, parse_instant

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("now", NOW),
        ("-5m", NOW - 300_000),
        ("now-1h", NOW - 3_600_000),
        ("+250ms", NOW + 250),
        (1234, 1234),
        ("1700000000000", NOW),
        ("1970-01-01T00:00:01Z", 1000),
        ("2023-11-14T23:13:20.5+01:00", NOW + 500),
        ("2023-11-14t22:13:20.123456789z", NOW + 123),
    ],
)
def test_every_form_is_understood(text: str | int, at_ms: int) -> None:
    """RFC 3339, integer milliseconds, now and relative."""
    assert parse_instant(text, NOW) == at_ms


@pytest.mark.parametrize("text", ["", "2023-11-14", "2023-11-14T22:13:20", "5m", "-5y", "1e3", "2023-13-01T00:00:00Z"])
def test_anything_else_is_refused(text: str) -> None:
    """A time without an offset would mean something else on each machine."""
    with pytest.raises(InvalidError):
        parse_instant(text, NOW)


def test_durations() -> None:
    """Integer milliseconds or a number with a unit; never zero."""
    assert (parse_duration(500), parse_duration("500"), parse_duration("1m")) == (500, 500, 60_000)
    for text in ("0", "0s", "-1m", "m", "1.5s"):
        with pytest.raises(InvalidError):
            parse_duration(text)
