"""What people are told about documents that can't be."""

from __future__ import annotations

from typing import Any

import pytest

from libs.validation import Model, examined
from services.alarmsrv.definition import AlarmDefinition
from services.rulesrv.schemas import Rule, Simulation


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
        (rule(["a", {}], "in"), "conditions.all[0].value[1]: input should be a valid string"),
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
