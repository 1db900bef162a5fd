"""Tables at any width, and what of alarms is said in words."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from libs.redis import bundle
from services.alarmsrv.schemas import Noted
from services.commands import alarms, api

ENTRY = [
    "26",
    "2026-11-21 23:42:17.722",
    "al-2300-1",
    "Acknowledged",
    "Minor",
    "Door of container 3 open",
    "60",
    "anna",
]


@pytest.mark.parametrize("width", [240, 100, 60])
def test_a_table_fits_its_width_and_no_column_is_squeezed_out(width: int):
    columns = [["title", text] for text in [*ENTRY, "word " * 100]]
    widths = api._widths(columns, width)
    assert sum(widths) + api.BORDER * len(widths) + 1 <= width
    assert min(widths) >= 2


def test_words_stay_whole_while_there_is_room():
    widths = api._widths([["t", text] for text in ENTRY], 100)
    assert widths[1] >= len("23:42:17.722")
    assert widths[3] == len("Acknowledged")


def test_a_route_is_said_in_words():
    route = {
        "id": "day",
        "levels": [],
        "tags": [],
        "to": ["email:a@b.c"],
        "escalation": [{"after_s": 300, "to": ["webhook:p"]}],
    }
    said = alarms._in_words(route)
    assert said == {
        "levels": "all but Info", "tags": "any", "to": "email:a@b.c", "schedule": "always",
        "escalation": "after 5 min: webhook:p",
    }  # fmt: skip
    schedule = {"time_zone": "Europe/Berlin", "days": ["mon", "tue"], "start": "07:00", "end": "18:00"}
    found = alarms._in_words({"to": ["mqtt:x"], "levels": ["Major", "Minor"], "schedule": schedule})
    assert (found["levels"], found["schedule"]) == ("Major, Minor", "mon, tue 07:00 to 18:00 Europe/Berlin")


def test_a_value_of_the_journal_is_said_as_people_write_it():
    assert [alarms._plain(text) for text in ("60.000000", "-0.500000", '"ready"', None, "odd")] == [
        "60", "-0.5", "ready", "", "odd",
    ]  # fmt: skip


def test_every_event_that_the_journal_notes_can_be_asked_for():
    source = bundle.bundle().text
    states = re.findall(r'^\s+\{ "[\w ]+", "\w+", (?:nil|"\w+"), (?:nil|"[\w ]+"), "(\w+)"', source, re.MULTILINE)
    appended = re.findall(r'journal\.append\(ctx, [^\n]*?, alarm, (?:\w+ and )?"(\w+)"(?: or "(\w+)")?', source)
    noted = {*states, *(name for pair in appended for name in pair if name)}
    assert {"raised", "escalated", "certain", "redefined", "in_service"} <= noted
    assert noted == set(get_args(Noted))
