"""What people are told about documents that can't be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from libs.errors import InvalidError
from libs.http.bodies import validate
from libs.validation import Model, examined
from services.alarmsrv.definition import AlarmDefinition
from services.alarmsrv.notify.schemas import AlarmRoute
from services.alarmsrv.schemas import NewAlarm
from services.rulesrv.schemas import Rule, Simulation
from tests.support.processes import ROOT


def told(model: type[Model], document: Any) -> list[str]:
    return [str(problem) for problem in examined(model, document)[1]]


def rule(value: Any, operator: str = "<") -> dict[str, Any]:
    leaf = {"source": "comsrv:1:T:1", "operator": operator, "value": value}
    return {"id": "peak", "name": "Peak", "conditions": {"all": [leaf]}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (rule({"source": "nope"}), "conditions.all[0].value.source: 'nope' is no reference"),
        (rule({"sourc": "comsrv:1:T:2"}), "conditions.all[0].value.source: is required"),
        (rule(["a", {}], "in"), "conditions.all[0].value[1]: must be a text"),
        (rule([1, 2, "a"], "in"), "conditions.all[0].value[2]: must be a number, not 'a'"),
        (rule("rotten", "quality"), "value of operator quality must be good, bad, uncertain or missing"),
        ({**rule(1), "conditions": "x"}, "conditions: must be a mapping, not 'x'"),
        ({**rule(1), "conditions": {"time": {"zone": "Europe/Nowhere"}}}, "conditions.time.zone: Europe/Nowhere is no"),
        (
            {**rule(1), "actions": [{"type": "command", "params": {"target": "comsrv:1:T:1", "value": 1}}]},
            "actions[0].params.target: comsrv:1:T:1 is a value that is read",
        ),
    ],
)
def test_a_rule_is_told_the_place_and_nothing_of_the_inside(document: dict[str, Any], said: str) -> None:
    found = told(Rule, document)
    assert said in found[0]
    assert not any("function-" in one or "union[" in one or "OtherPoint" in one for one in found)


HOT = {"id": "hot", "source": "comsrv:1:T:1", "detector": "Hi", "limit": 5, "level": "Minor"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"detector": "Deviation"}, "other: is needed for detector Deviation"),
        ({"other": "comsrv:1:T:2"}, "other: does not go with detector Hi"),
        ({"deadband": 1, "deadband_percent": 1}, "deadband_percent: does not go beside deadband"),
        ({"limit": "a"}, "limit: must be a number for detector Hi"),
        ({"limit": {}}, "limit: must be a number or a text"),
        ({"detector": "Quality", "limit": "rotten"}, "limit: must be good, bad, uncertain or missing"),
        ({"level": "Info", "latching": True}, "latching: does not go with level Info"),
    ],
)
def test_a_definition_whose_fields_do_not_fit_is_told_which(change: dict[str, Any], said: str) -> None:
    found = told(AlarmDefinition, {**HOT, **change})
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_key_that_is_wrong_is_told_by_itself() -> None:
    (said,) = told(Simulation, {"values": {"x": 1}})
    assert said.startswith("values.x: 'x' is no reference")


def test_a_quality_with_its_reason_is_one() -> None:
    assert told(AlarmDefinition, {**HOT, "detector": "Quality", "limit": "bad:stale"}) == []
    assert told(Rule, rule("uncertain", "quality")) == []


WRONG_ROUTE = {
    "id": "day",
    "to": ["bogus"],
    "levels": ["Bad"],
    "events": [],
    "enabled": 1,
    "schedule": {"time_zone": "UTC", "days": [], "start": "25:00", "end": 7},
    "escalation": [{"after_s": 0, "to": True}, {"after_s": "x", "to": []}],
}


def test_what_is_wrong_with_a_route_is_said_as_people_do() -> None:
    assert told(AlarmRoute, WRONG_ROUTE) == [
        "enabled: must be true or false, not 1",
        "levels[0]: must be Critical, Major, Minor, Warning or Info, not 'Bad'",
        "events: must have at least 1",
        "to[0]: 'bogus' must begin with email:, webhook: or mqtt:",
        "schedule.days: must have at least 1",
        "schedule.start: must be HH:MM, 00:00 to 23:59, not '25:00'",
        "schedule.end: must be a text, not 7",
        "escalation[0].after_s: must be at least 1, not 0",
        "escalation[0].to: must be a list, not true",
        "escalation[1].after_s: must be a whole number, not 'x'",
        "escalation[1].to: must have at least 1",
    ]


def test_a_refusal_says_how_many_problems_it_does_not_name() -> None:
    with pytest.raises(InvalidError, match=r"; and 7 more$") as caught:
        validate(AlarmRoute, WRONG_ROUTE)
    assert len(caught.value.problems) == 11
    with pytest.raises(InvalidError, match=r"^title: must not be empty; level: is required$"):
        validate(NewAlarm, {"title": ""})


def test_lengths_are_counted_and_not_shown() -> None:
    assert told(NewAlarm, {"title": "x" * 300, "level": "Minor"}) == [
        "title: must have at most 256 characters, not 300"
    ]


def test_every_pattern_of_a_field_has_words() -> None:
    for path in (*ROOT.glob("libs/**/*.py"), *ROOT.glob("services/**/*.py")):
        for given in re.findall(r"\bpattern=(\S+)", path.read_text()):
            assert given.startswith(("worded(", "NAMESPACE_PATTERN", "TIME_PATTERN", "PATTERN")), f"{path}: {given}"
