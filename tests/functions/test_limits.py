"""What a service takes and what its functions take have the same limits: each is tried at its edges, with both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, ValidationError

from libs.definitions import METADATA
from libs.errors import InvalidError
from libs.redis.functions import Functions
from services.alarmsrv.definition import AlarmDefinition
from services.alarmsrv.notify.schemas import AlarmRoute
from services.hissrv.recording import Mapping as Recorded
from services.modsrv.schemas import DeviceModel, Template
from services.netsrv.schemas import Network, Route
from services.rulesrv.schemas import Rule
from services.rulesrv.windows import Calendar

T1, A1 = "comsrv:1001:T:1", "comsrv:1001:A:1"
LEAF = {"source": T1, "operator": ">", "value": 1}
ALARM = {"source": T1, "detector": "Hi", "limit": 80, "level": "Major"}
# Set by the functions; a type decides which place it is; which offsets fit depends on the template.
SKIPPED = METADATA | {"id", "requires_approval", "type", "data_offset", "action_offset"}
# What a field needs beside it to be taken at all.
NEEDS: dict[str, dict[str, Any]] = {
    "within_ms": {"operator": "changed", "value": None},
    "window_ms": {"operator": "rate", "value": 1},
    "coverage": {"aggregate": "mean", "window_ms": 1000},
}
ALARM_NEEDS: dict[str, dict[str, Any]] = {"window_ms": {"detector": "Rate"}, "direction": {"detector": "Rate"}}


def action(kind: str, **params: Any) -> dict[str, Any]:
    return {"name": "x", "conditions": [LEAF], "actions": [{"type": kind, "params": params}]}


class Place(NamedTuple):
    """A part of a document: where it stands, and what its fields need."""

    function: str
    model: type[BaseModel]
    document: dict[str, Any]
    path: tuple[str | int, ...] = ()
    needs: Mapping[str, dict[str, Any]] = MappingProxyType({})


HTTP = {"type": "http", "url": "http://a"}
MQTT = {"type": "mqtt", "host": "a", "commands": {"topic": "a", "response_topic": "b", "allow": []}}
POINT = {"name": "x", "data_points": {"p": {"base_id": 1}}, "actions": {"a": {"base_id": 1}}}
PLACES = {
    "rule": Place("rule_upsert", Rule, action("publish", topic="x")),
    "condition": Place("rule_upsert", Rule, action("publish", topic="x"), ("conditions", 0), NEEDS),
    "create_alarm": Place("rule_upsert", Rule, action("create_alarm", title="x"), ("actions", 0, "params")),
    "command": Place(
        "rule_upsert", Rule, action("command", channel=1, type="A", point=1, value=1), ("actions", 0, "params")
    ),
    "publish": Place("rule_upsert", Rule, action("publish", topic="x"), ("actions", 0, "params")),
    "notify": Place("rule_upsert", Rule, action("notify", message="x"), ("actions", 0, "params")),
    "alarm": Place("alarm_define", AlarmDefinition, ALARM, (), ALARM_NEEDS),
    "guidance": Place("alarm_define", AlarmDefinition, {**ALARM, "guidance": {}}, ("guidance",)),
    "calendar": Place("calendar_upsert", Calendar, {"name": "x", "dates": ["2027-01-01"], "through": "2027-12-31"}),
    "template": Place("template_upsert", Template, POINT),
    "template point": Place("template_upsert", Template, POINT, ("data_points", "p")),
    "template action": Place("template_upsert", Template, POINT, ("actions", "a")),
    "model": Place("model_upsert", DeviceModel, {"name": "x", "mapping": {"channel": 1, "data": {"p": 1}}}),
    "model's mapping": Place(
        "model_upsert",
        DeviceModel,
        {"name": "x", "template": "t", "mapping": {"channel": 1, "data": {"q": 1}}},
        ("mapping",),
    ),
    "alarm route": Place(
        "alarm_route_upsert",
        AlarmRoute,
        {"to": ["email:a@x.org"], "escalation": [{"after_s": 1, "to": ["email:a@x.org"]}]},
    ),
    "escalation": Place(
        "alarm_route_upsert",
        AlarmRoute,
        {"to": ["email:a@x.org"], "escalation": [{"after_s": 1, "to": ["email:a@x.org"]}]},
        ("escalation", 0),
    ),
    "history mapping": Place("configure_mapping", Recorded, {"source": "*", "interval_ms": 1000}),
    "network mqtt": Place("network_upsert", Network, MQTT),
    "network http": Place("network_upsert", Network, HTTP),
    "queue": Place("network_upsert", Network, {**HTTP, "queue": {}}, ("queue",)),
    "retry": Place("network_upsert", Network, {**HTTP, "retry": {}}, ("retry",)),
    "commands": Place("network_upsert", Network, MQTT, ("commands",)),
    "route": Place("route_upsert", Route, {"network": "n", "source": "*"}),
}


def put(document: Any, path: tuple[str | int, ...], members: dict[str, Any]) -> Any:
    """Return a copy with members set in the object at a path."""
    if not path:
        return {name: value for name, value in {**document, **members}.items() if value is not None}
    copy = list(document) if isinstance(document, list) else dict(document)
    copy[path[0]] = put(document[path[0]], path[1:], members)
    return copy


def takes(place: Place, document: Any) -> bool:
    try:
        place.model.model_validate(document)
    except ValidationError:
        return False
    return True


def model_at(place: Place) -> type[BaseModel]:
    """Return the model that a part of the parsed document is of."""
    found: Any = place.model.model_validate(place.document)
    for step in place.path:
        found = found[step] if isinstance(found, list | tuple | dict) else getattr(found, str(step))
    return type(found)


def edges(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield values at and past the limits that a field's schema names."""
    for kind in schema.get("anyOf", [schema]):
        of = kind.get("type")
        yield from kind.get("enum", ())
        if of in {"integer", "number"}:
            step = 1 if of == "integer" else 0.001
            low, high = kind.get("minimum", kind.get("exclusiveMinimum", -1e9)), kind.get("maximum", 1e9)
            yield from (low - step, low, low + step, high - step, high, high + step)
            if of == "integer":
                yield low + 1.5
        elif of == "string" and not kind.get("pattern"):
            for length in {kind.get("minLength", 1) - 1, kind.get("minLength", 1)}:
                yield "x" * length
            longest = kind.get("maxLength", 4096)
            yield from ("x" * longest, "x" * (longest + 1))
        elif of == "array" and kind.get("items", {}).get("type") == "string" and not kind["items"].get("pattern"):
            yield []
            yield ["x"] * kind.get("maxItems", 1)
            yield ["x"] * (kind.get("maxItems", 1000) + 1)
            for text in edges(kind["items"]):
                yield [text]
        elif of == "boolean":
            yield from (True, False, 0)


@pytest.mark.parametrize("name", PLACES)
async def test_limits_are_the_same_for_a_service_and_its_functions(functions: Functions, name: str) -> None:
    place, differ, tried = PLACES[name], [], 0
    await functions.call("network_upsert", "n", HTTP)
    await functions.call("template_upsert", "t", POINT)
    for field, schema in model_at(place).model_json_schema()["properties"].items():
        for value in edges(schema) if field not in SKIPPED else ():
            document = put(place.document, place.path, {**place.needs.get(field, {}), field: value})
            taken, problem = takes(place, document), ""
            try:
                await functions.call(place.function, "d1", document)
            except InvalidError as error:
                problem = str(error)
            if taken == bool(problem):
                differ.append((field, str(value)[:20], len(str(value)), problem or "refused by the service alone"))
            tried += taken
    assert differ == []
    assert tried > 1
