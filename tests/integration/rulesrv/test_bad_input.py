"""Bad rules over HTTP: each a clear error with the path to the field, and nothing stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.redis.functions import Functions
from services.rulesrv.app import create_app
from services.rulesrv.settings import RulesrvSettings
from tests.support.servers import RedisServer
from tests.support.service import Service, running

T1 = "comsrv:1001:T:1"


@pytest.fixture
async def service(redis_server: RedisServer, functions: Functions, tmp_path: Path) -> AsyncIterator[Service]:
    given = {"redis": {"url": redis_server.url}, "data_dir": tmp_path / "data", "config_dir": tmp_path}
    del functions
    async with running(create_app, RulesrvSettings.model_validate(given)) as started:
        yield started


def leaf(operator: str = ">", value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"conditions": [{"source": T1, "operator": operator, "value": value, **more}]}


def time(**spec: Any) -> dict[str, Any]:
    return {"conditions": [{"time": {"zone": "Europe/Berlin", **spec}}]}


def acting(kind: str, **params: Any) -> dict[str, Any]:
    return leaf() | {"actions": [{"type": kind, "params": params}]}


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        (leaf("~"), "conditions[0].operator", "must be =="),
        (leaf(">", "warm"), "conditions[0]", "value of operator > must be a number"),
        (leaf("between", [5, 1]), "conditions[0]", "value of operator between must be [low, high]"),
        (leaf("in", 5), "conditions[0]", "value of operator in must be a list of numbers"),
        (leaf("rising", 5), "conditions[0]", "value does not go with operator rising"),
        (leaf(source="alarm:hot"), "conditions[0]", "operator of the state of alarm must be one of"),
        (leaf("==", "hot", source="alarm:hot"), "conditions[0]", "value must be Normal, New"),
        (leaf(source="comsrv:1001:X:1"), "conditions[0]", "operator of a text must be"),
        (leaf(source="command:x"), "conditions[0].source", "is not a state"),
        (leaf(source="battery"), "conditions[0].source", "is no reference"),
        (leaf(aggregate="mean"), "conditions[0]", "give window_ms"),
        (leaf(for_ms="1s"), "conditions[0].for_ms", ""),
        (leaf(hystersis=1), "conditions[0].hystersis", ""),
        (time(**{"from": "25:00"}), "conditions[0].time.from", "must be a time of day"),
        (time(zone="Europe/Atlantis"), "conditions[0].time.zone", "is no time zone"),
        (time(dates=["2027-02-29"]), "conditions[0].time.dates", "must be a date"),
        (acting("explode"), "actions[0]", "create_alarm"),
        (acting("create_alarm", title="{valu}"), "actions[0].params.title", "valu"),
        (acting("create_alarm", title="{value" * 20), "actions[0].params.title", "stands alone"),
        (acting("create_alarm", title=f"{{point:{T1}}}" * 12), "actions[0].params.title", ""),
        (acting("create_alarm", title="x" * 300), "actions[0].params.title", "256"),
        (acting("command", target="comsrv:1001:A:1", expression="1 +"), "actions[0].params", "expression"),
        (acting("command", target="comsrv:1001:A:1", value="full"), "actions[0].params.value", "number"),
        (acting("model_action", model="m", value=1), "actions[0].params.action", ""),
        (acting("resolve_alarm", alarm="hot"), "actions[0].params.alarm", "alarm:<definition>"),
        (acting("enable_rule"), "actions[0].params", "give rule or group"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named_with_its_path(
    service: Service, wrong: dict[str, Any], field: str, message: str
) -> None:
    answer = await service.ask("POST", "/api/rules", {"id": "r1", "name": "r1", **wrong})
    assert (answer.status, answer.body["code"]) == (422, "INVALID"), answer.body
    # What only the functions can tell has its path in the text.
    said = answer.body.get("errors", [{"field": field, "message": answer.body["detail"]}])
    assert field in str(answer.body)
    assert any(message in one["message"] for one in said if one["field"].startswith(field)), answer.body
    assert (await service.get("/api/rules/r1")).status == 404


async def test_a_circle_is_told_with_the_way_round(service: Service) -> None:
    """Also where the rules are of other people."""
    watches = [{"source": "rule:b", "operator": "==", "value": "active"}]
    assert (await service.ask("POST", "/api/rules", {"id": "a", "name": "a", "conditions": watches})).status == 201
    back = [{"source": "rule:a", "operator": "==", "value": "active"}]
    answer = await service.ask("POST", "/api/rules", {"id": "b", "name": "b", "conditions": back})
    assert (answer.status, answer.body["code"]) == (422, "INVALID")
    assert "rule b turns, rule a turns, which rule b watches" in answer.body["detail"]


async def test_what_is_too_large_is_refused(service: Service) -> None:
    """A megabyte of JSON, or more conditions than a rule may have."""
    answer = await service.ask("POST", "/api/rules", {"name": "x" * 1_000_000, **leaf()})
    assert (answer.status, answer.body["code"]) == (413, "LIMIT")
    many = {"name": "x", "conditions": leaf()["conditions"] * 257}
    answer = await service.ask("POST", "/api/rules", many)
    assert (answer.status, answer.body["code"]) == (422, "INVALID")
    assert "256" in answer.body["detail"]


async def test_the_form_of_the_documents_is_taken_as_written(service: Service) -> None:
    document = {
        "rule": {
            "id": "rule_001",
            "name": "High Temperature Alert",
            "conditions": [{"source": T1, "operator": ">", "value": 80}],
            "actions": [
                {"type": "create_alarm", "params": {"level": "Warning", "title": "Temperature exceeds threshold"}}
            ],
        }
    }
    answer = await service.ask("POST", "/api/rules", document)
    assert (answer.status, answer.body["id"]) == (201, "rule_001")
