"""When a recipient is sent what, and when a route is in force: by given clocks."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from services.alarmsrv.notify.messages import Told
from services.alarmsrv.notify.policy import Later, Now, Recipient
from services.alarmsrv.notify.schemas import AlarmRoute, Schedule
from services.alarmsrv.notify.settings import RateSettings, WebhookSettings

START = 1_800_000_000_000
RATE = RateSettings()


def told(number: int, came_ms: int, level: str = "Major") -> Told:
    return Told(f"{came_ms}-{number}", "event", {"number": str(number), "level": level, "at_ms": str(came_ms)})


def simulate(entries: list[Told], end_ms: int, rate: RateSettings = RATE) -> list[tuple[int, int]]:
    """Let time pass as a mailbox does; return (instant after the start, entries) of each message."""
    recipient, waiting, sent, now = Recipient(), [], [], START
    left = sorted(entries, key=lambda one: one.came_ms)
    while now <= START + end_ms:
        while left and left[0].came_ms <= now:
            waiting.append(left.pop(0))
            recipient.take(waiting[-1].came_ms, rate)
        decided = Recipient.of(recipient.text()).decide(waiting, now, rate)
        recipient.decide(waiting, now, rate)
        if isinstance(decided, Now):
            recipient.sent_now(now)
            sent.append((now - START, len(decided.entries)))
            waiting = waiting[len(decided.entries) :]
            continue
        wakes = [at for at in (decided.at_ms, left[0].came_ms if left else None) if at is not None]
        if not wakes:
            break
        now = max(min(wakes), now + 1)
    return sent


def test_a_few_alarms_are_a_message_each() -> None:
    assert simulate([told(n, START + n * 60_000) for n in range(8)], 3_600_000) == [
        (n * 60_000 + 2000, 1) for n in range(8)
    ]


def test_a_storm_is_one_digest() -> None:
    """Two thousand in twenty seconds: five quiet seconds later all of them, once."""
    storm = [told(n, START + n * 10) for n in range(2000)]
    assert simulate(storm, 3_600_000) == [(1999 * 10 + 5000, 2000)]


def test_a_flood_that_goes_on_is_a_digest_in_ten_minutes_and_ends_below_five() -> None:
    flood = [told(n, START + n * 20_000) for n in range(120)]
    sent = simulate([*flood, told(999, START + 120 * 20_000 + 1_200_000)], 7_200_000)
    digests = [at for at, count in sent if count > 1]
    assert all(late - early >= 600_000 for early, late in itertools.pairwise(digests))
    assert sent[-1][1] == 1, "the flood is over"
    assert sum(count for _, count in sent) == 121


def test_critical_does_not_wait_for_the_next_digest() -> None:
    storm = [told(n, START + n) for n in range(20)]
    sent = simulate([*storm, told(50, START + 60_000, "Critical")], 3_600_000)
    assert sent == [(5019, 20), (65_000, 1)]


def test_the_hour_is_bounded_and_what_waited_goes_as_one() -> None:
    rate = RateSettings(per_hour=3, flood_begin=100, flood_end=5)
    sent = simulate([told(n, START + n * 60_000) for n in range(10)], 7_200_000, rate)
    assert [count for _, count in sent] == [1, 1, 1, 7]
    assert sent[3][0] == 2000 + 3_600_001


def test_a_clock_that_was_set_back_makes_nobody_wait() -> None:
    recipient = Recipient()
    decided = recipient.decide([told(1, START + 86_400_000)], START, RATE)
    assert decided == Later(START + RATE.collect_ms)


@pytest.mark.parametrize(
    ("instant", "inside"),
    [
        ("2026-03-27T21:30:00+01:00", True),  # Friday evening
        ("2026-03-28T05:59:00+01:00", True),  # Saturday morning belongs to Friday's night
        ("2026-03-28T06:00:00+01:00", False),
        ("2026-03-28T23:00:00+01:00", False),  # Saturday's night
        ("2026-03-29T05:30:00+02:00", False),  # the night in which summer time begins
        ("2026-07-17T19:30:00+00:00", False),  # 21:30 in Berlin is 19:30 UTC in summer
        ("2026-07-17T20:30:00+00:00", True),
        ("2026-01-16T20:59:00+00:00", False),
        ("2026-01-16T21:00:00+00:00", True),
    ],
)
def test_a_night_shift_by_the_clock_of_its_time_zone(instant: str, inside: bool) -> None:
    schedule = Schedule(time_zone="Europe/Berlin", days=("fri",), start="22:00", end="06:00")
    if instant.startswith("2026-03-27"):
        schedule = schedule.model_copy(update={"start": "21:00"})
    at_ms = int(dt.datetime.fromisoformat(instant).timestamp() * 1000)
    assert schedule.covers(at_ms) is inside


@pytest.mark.parametrize(
    ("instant", "start", "end", "days", "began"),
    [
        ("2026-03-27T12:00:00+01:00", "07:00", "18:00", ("fri",), "2026-03-27T07:00:00+01:00"),
        ("2026-03-27T06:59:00+01:00", "07:00", "18:00", ("fri",), None),
        ("2026-03-28T05:00:00+01:00", "22:00", "06:00", ("fri",), "2026-03-27T22:00:00+01:00"),
        ("2026-03-29T05:00:00+02:00", "01:00", "06:00", ("sun",), "2026-03-29T01:00:00+01:00"),  # summer time begins
        ("2026-03-30T12:00:00+02:00", "00:00", "00:00", ("mon", "tue"), "2026-03-30T00:00:00+02:00"),
        ("2026-03-31T12:00:00+02:00", "00:00", "00:00", ("mon", "tue"), None),  # it went on over midnight
    ],
)
def test_when_a_shift_began(instant: str, start: str, end: str, days: Any, began: str | None) -> None:
    schedule = Schedule(time_zone="Europe/Berlin", days=days, start=start, end=end)
    found = schedule.began(_ms(instant))
    assert found == (None if began is None else _ms(began))


def _ms(instant: str) -> int:
    return int(dt.datetime.fromisoformat(instant).timestamp() * 1000)


def test_what_a_shift_finds_is_one_message() -> None:
    found = [told(n, START)._replace(kind="standing") for n in range(3)]
    later = told(9, START + 1)
    assert Recipient().decide([*found, later], START + 5000, RATE) == Now(found)


def test_what_a_route_refuses() -> None:
    """Targets, zones and times are checked where they stand."""
    wrong: dict[str, Any]
    for wrong in (
        {"to": ["anna@example.com"]}, {"to": ["email:anna"]}, {"to": ["mqtt:a/#"]}, {"to": ["webhook:a b"]}, {"to": []},
        {"schedule": {"time_zone": "Mars/Olympus"}}, {"schedule": {"time_zone": "UTC", "start": "24:00"}},
        {"levels": ["Bad"]}, {"events": []}, {"escalation": [{"after_s": 0, "to": ["webhook:a"]}]},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            AlarmRoute.model_validate({"to": ["webhook:pager"], **wrong})
    for secret in ("", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!"):
        with pytest.raises(ValidationError):
            WebhookSettings.model_validate({"url": "https://example.com/", "secret": secret})
