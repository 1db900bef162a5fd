"""The measures of alarm quality, on journals whose figures are counted by hand."""

from __future__ import annotations

from typing import Any

from services.alarmsrv.journal.chain import Entry
from services.alarmsrv.quality.approved import differences
from services.alarmsrv.quality.measure import DAY_MS, Measured, chatter, floods

START = 1_800_000_000_000 // DAY_MS * DAY_MS
MINUTE = 60_000


class Diary:
    """A journal in the making."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def note(self, at_ms: int, alarm: str, event: str, status: str = "New", **more: str) -> None:
        fields = {
            "number": str(len(self.entries) + 1), "at_ms": str(START + at_ms), "alarm": alarm, "event": event,
            "status": status, "level": "Major", "source": "comsrv:1001:T:1", "title": "t", "origin": f"alarm:{alarm}",
        }  # fmt: skip
        self.entries.append(Entry(f"{START + at_ms}-{len(self.entries)}", fields | more))

    def measured(self, end_ms: int = DAY_MS) -> Measured:
        measured = Measured(START, START + end_ms)
        for entry in self.entries:
            measured.take(entry)
        return measured


def test_rates_levels_and_top_offenders() -> None:
    diary = Diary()
    for number in range(6):
        diary.note(number * 120 * MINUTE, f"a{number % 2}", "raised", origin=f"alarm:d{number % 2}")
    diary.note(1, "b", "raised", level="Critical", priority="1000")
    diary.note(2, "i", "raised", level="Info")
    diary.note(3, "s", "raised", masked="shelved")
    diary.note(4, "f", "raised", level="Warning", origin="system:flood")
    report = diary.measured().report()
    assert report["announced"] == 7
    assert (report["rate"]["per_day"], report["rate"]["peak_ten_minutes"]) == (7.0, 2)
    assert report["rate"]["peak_at_ms"] == START
    assert report["levels"]["Critical"] == {"count": 1, "percent": 14.29}
    assert report["priorities"] == [
        {"priority": 1000, "count": 1, "percent": 14.29}, {"priority": 700, "count": 6, "percent": 85.71},
    ]  # fmt: skip
    assert [(one["origin"], one["count"]) for one in report["top"]["items"]] == [
        ("alarm:d0", 3), ("alarm:d1", 3), ("alarm:b", 1),
    ]  # fmt: skip


def test_a_flood_begins_above_ten_in_ten_minutes_and_ends_below_five() -> None:
    """Eleven in eleven seconds begin it at the eleventh; it ends when the seventh is ten minutes old."""
    instants = [n * 1000 for n in range(11)]
    (flood,) = floods(instants, DAY_MS)
    assert flood == {"begin_ms": 10_000, "end_ms": 6000 + 600_000, "alarms": 11, "peak": 11}
    assert floods(instants[:10], DAY_MS) == []
    assert floods(instants, DAY_MS, operators=2) == []
    (still,) = floods(instants, 300_000)
    assert still["end_ms"] is None


def test_three_transitions_within_a_minute_chatter() -> None:
    assert chatter([0, 30_000, 60_000]) == (2, 0)
    assert chatter([0, 30_000, 59_999]) == (3, 1)
    assert chatter([0, 1, 2, 3, 200_000, 200_001, 200_002]) == (4, 2)
    diary = Diary()
    for turn in range(3):
        diary.note(turn * 20_000, "a", "recurred" if turn else "raised")
        diary.note(turn * 20_000 + 5000, "a", "returned", "Returned")
    diary.note(0, "calm", "raised")
    diary.note(90_000, "calm", "resolved", "Resolved", user="anna")
    (one,) = diary.measured().report()["chattering"]
    assert (one["origin"], one["transitions"], one["peak_per_minute"], one["episodes"]) == ("alarm:a", 6, 6, 1)


def test_time_to_acknowledge_and_what_still_waits() -> None:
    diary = Diary()
    for number, took in enumerate([10_000, 20_000, 30_000]):
        diary.note(number * MINUTE, f"a{number}", "raised")
        diary.note(number * MINUTE + took, f"a{number}", "acknowledged", "Acknowledged", user="anna")
    diary.note(5 * MINUTE, "late", "raised")
    report = diary.measured(end_ms=10 * MINUTE).report()
    assert (report["acknowledge"]["count"], report["acknowledge"]["median_ms"]) == (3, 20_000)
    assert (report["acknowledge"]["waiting"], report["acknowledge"]["oldest_waiting_ms"]) == (1, 5 * MINUTE)


def test_stale_is_active_for_a_day() -> None:
    """The journal knows better than the record since when: one that recurred an hour ago is not stale."""
    diary = Diary()
    diary.note(0, "old", "raised")
    diary.note(0, "again", "raised")
    diary.note(1000, "again", "returned", "Returned")
    diary.note(DAY_MS, "again", "recurred")
    measured = diary.measured(end_ms=DAY_MS + 3_600_000)
    measured.standing("again", START)
    measured.standing("older", START - DAY_MS)
    assert [(one["alarm"], one["hours"]) for one in measured.report()["stale"]] == [("older", 49.0), ("old", 25.0)]


def test_what_differs_from_the_approved_set() -> None:
    approved: dict[str, dict[str, Any]] = {
        "a": {"id": "a", "limit": 80},
        "b": {"id": "b", "limit": 1},
        "c": {"id": "c"},
    }
    running = [
        {"id": "a", "limit": 85, "version": 2, "author": "ben", "reason": "quieter", "updated_at_ms": 5},
        {"id": "c", "version": 1}, {"id": "d", "version": 1},
    ]  # fmt: skip
    found = differences(approved, running)
    assert (found["same"], found["missing"], found["added"]) == (False, ["b"], ["d"])
    assert found["changed"] == [{
        "id": "a", "fields": {"limit": {"approved": 80, "running": 85}}, "author": "ben", "reason": "quieter",
        "version": 2, "updated_at_ms": 5,
    }]  # fmt: skip
    assert differences({"c": {"id": "c"}}, [{"id": "c", "version": 9}])["same"]
