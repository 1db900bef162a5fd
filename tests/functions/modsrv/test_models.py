"""Models: what their names mean, the values under them, and that nothing of an older mapping is left."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from libs.errors import InvalidError, LimitError, NotFoundError, StateError, VoltageError
from libs.redis.client import execute
from libs.redis.functions import Functions
from tests.support.definitions import said
from tests.support.site import Site, keyspace

METER: dict[str, Any] = {
    "name": "Meter",
    "class": "grid_meter",
    "data_points": {
        "active_power": {"base_id": 1, "kind": "T", "unit": "kW"},
        "energy": {"base_id": 3, "kind": "T", "unit": "kWh"},
        "closed": {"base_id": 1, "kind": "S", "value_map": {"0": "open", "1": "closed"}},
    },
    "actions": {"set_limit": {"base_id": 1, "kind": "A"}},
}


def model(mapping: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "one", "mapping": {"channel": 1001, **mapping}, **more}


async def expansion(functions: Functions, name: str = "m1") -> tuple[dict[str, str], dict[str, str]]:
    found = await functions.read_json("model_expand", name)
    return found["data"], found["action"]


async def test_model_get_gives_the_document_byte_for_byte(functions: Functions) -> None:
    text = (
        b'{ "name": "Feeder", "id":"model_001","mapping":{"channel":1001,"data":{"p":12}},"metadata":{"a":[],"b":1.0} }'
    )
    stored = await functions.call("model_upsert", "model_001", text)
    assert said(stored) == text.replace(b" }", b"}")
    assert await execute(functions.client, "FCALL", "model_get", 1, "model_001") == stored
    assert await execute(functions.client, "FCALL_RO", "model_get", 1, "modsrv:model:model_001") == stored
    put_in_front = await functions.call("model_upsert", "m2", '{"name":"two"}')
    assert said(put_in_front) == b'{"id":"m2","name":"two"}'


async def test_every_form_of_a_point(functions: Functions) -> None:
    await functions.call("template_upsert", "meter", METER)
    mapping = {
        "data": {"active_power": 12, "closed": 7, "breaker": "S:3", "other": "comsrv:1002:T:5", "unknown": 9},
        "action": {"set_limit": 2, "start": 4, "stop": "A:3"},
    }
    await functions.call("model_upsert", "m1", model(mapping, template="meter"))
    data, action = await expansion(functions)
    assert data == {
        "active_power": "comsrv:1001:T:12", "closed": "comsrv:1001:S:7", "breaker": "comsrv:1001:S:3",
        "other": "comsrv:1002:T:5", "unknown": "comsrv:1001:T:9",
    }  # fmt: skip
    assert action == {"set_limit": "comsrv:1001:A:2", "start": "comsrv:1001:C:4", "stop": "comsrv:1001:A:3"}


async def test_an_offset_adds_to_the_base_id_and_a_mapping_wins(functions: Functions) -> None:
    await functions.call("template_upsert", "meter", METER)
    mapping = {"data_offset": 100, "action_offset": 0, "data": {"energy": "T:7"}}
    await functions.call("model_upsert", "m1", model(mapping, template="meter"))
    assert await expansion(functions) == (
        {"active_power": "comsrv:1001:T:101", "energy": "comsrv:1001:T:7", "closed": "comsrv:1001:S:101"},
        {"set_limit": "comsrv:1001:A:1"},
    )


async def test_auto_takes_the_next_free_span_and_keeps_it(functions: Functions) -> None:
    await functions.call("template_upsert", "meter", METER)
    auto = model({"data_offset": "auto", "action_offset": "auto"}, template="meter")
    for name in ("a", "b", "c"):
        await functions.call("model_upsert", name, auto)
    found = [(await functions.read_json("model_expand", name))["data_offset"] for name in ("a", "b", "c")]
    assert found == [0, 3, 6]
    assert (await functions.read_json("model_expand", "c"))["action_offset"] == 2
    await functions.call("model_delete", "a")
    await functions.call("model_upsert", "c", auto)
    assert (await functions.read_json("model_expand", "c"))["data_offset"] == 6, "it stays where it is"
    await functions.call("model_upsert", "d", auto)
    assert (await functions.read_json("model_expand", "d"))["data_offset"] == 0, "the gap is taken again"


async def test_present_values_are_there_at_once_and_names_that_left_go(functions: Functions) -> None:
    site = await Site(functions).start()
    await site.put({1: 5, 2: 6})
    await site.put({}, {2: "bad:timeout"})
    await functions.call("model_upsert", "m1", model({"data": {"p": 1, "q": 2, "r": 3}, "action": {"set": "A:1"}}))
    values = await functions.read_json("model_get_values", "m1")
    assert values["values"] == {
        "p": {"value": 5, "quality": "good", "at_ms": site.now},
        "q": {"value": 6, "quality": "bad:timeout", "at_ms": site.now},
        "r": {"value": None, "quality": "missing", "at_ms": None},
    }
    assert values["actions"] == {"set": None}
    await functions.call("model_upsert", "m1", model({"data": {"p": 2}}))
    assert await site.hash("modsrv:m1:measurement") == {"p": "6.000000"}
    assert await site.hash("modsrv:m1:measurement:q") == {"p": "bad:timeout"}
    await site.put({1: 7, 2: 8})
    assert await site.hash("modsrv:m1:measurement") == {"p": "8.000000"}
    assert await site.hash("modsrv:m1:measurement:q") == {}


async def test_nothing_is_published_for_a_mapping(functions: Functions) -> None:
    site = await Site(functions).start()
    await site.put({1: 5})
    async with functions.client.pubsub() as pubsub:
        await pubsub.subscribe(functions.key("modsrv:updates:m1"))
        await pubsub.get_message(timeout=1)
        await functions.call("model_upsert", "m1", model({"data": {"p": 1}}))
        await site.put({1: 6})
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
        assert message is not None
        assert orjson.loads(message["data"])["points"] == {"p": 6}
        assert await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.01) is None


async def test_reverse_index_keeps_no_stale_entry(functions: Functions) -> None:
    await functions.call("model_upsert", "m1", model({"data": {"p": 1, "also": 1}, "action": {"set": "A:1"}}))
    await functions.call("model_upsert", "m2", model({"data": {"p": 1}}))
    found = await functions.read_json("model_reverse_lookup", 1001, "T", 1)
    assert sorted(found["points"]["T:1"]) == [["m1", "also"], ["m1", "p"], ["m2", "p"]]
    await functions.call("model_upsert", "m1", {"name": "one", "mapping": {"data": {"p": "comsrv:1002:S:4"}}})
    assert (await functions.read_json("model_reverse_lookup", 1001))["points"] == {"T:1": [["m2", "p"]]}
    assert (await functions.read_json("model_reverse_lookup", 1002))["points"] == {"S:4": [["m1", "p"]]}
    assert (await functions.read_json("model_reverse_lookup", 1003, "T", 1))["points"] == {}
    for name in ("m1", "m2"):
        await functions.call("model_delete", name)
    assert not [key for key in await keyspace(functions) if b"modsrv" in key], "nothing of a deleted model is left"
    for bad in (("X", "1"), ("T", "0x1"), ("T",)):
        with pytest.raises(InvalidError):
            await functions.read("model_reverse_lookup", 1001, *bad)


async def test_conditions_follow_the_mapping(functions: Functions) -> None:
    site = await Site(functions).start()
    await functions.call("model_upsert", "m1", model({"data": {"p": 1}}))
    await functions.call(
        "alarm_define", "low", {"source": "modsrv:m1:p", "detector": "Lo", "limit": 20, "level": "Major"}
    )
    await site.put({1: 10, 2: 50})
    (alarm,) = await site.alarms(open=True)
    assert (alarm["status"], alarm["value"]) == ("New", 10)
    await functions.call("model_upsert", "m1", model({"data": {"p": 2}}))
    assert [one["status"] for one in await site.alarms()] == ["Returned"]
    await functions.call("model_delete", "m1")
    await site.put({2: 1})
    assert [one["status"] for one in await site.alarms()] == ["Returned"], "unknown neither raises nor clears"
    await functions.call("model_upsert", "m1", model({"data": {"p": 2}}))
    (alarm,) = await site.alarms()
    assert (alarm["status"], alarm["count"]) == ("New", 2)


async def test_a_calculated_point_follows_the_mapping(functions: Functions) -> None:
    site = await Site(functions).start()
    await site.put({1: 5, 2: 6})
    double = [["ref", "modsrv:m1:p"], ["num", 2], ["*"]]
    definition = {"name": "calculated", "protocol": "virtual", "points": {"T": [{"id": 1, "program": double}]}}
    await functions.call("channel_upsert", 1100, definition)
    await functions.call("model_upsert", "m1", model({"data": {"p": 1}}))
    assert await site.hash("comsrv:1100:T") == {"1": "10.000000"}
    await functions.call("model_upsert", "m1", model({"data": {"p": 2}}))
    assert await site.hash("comsrv:1100:T") == {"1": "12.000000"}
    await functions.call("model_delete", "m1")
    assert await site.hash("comsrv:1100:T:q") == {"1": "bad:input"}


async def test_an_action_becomes_a_command(functions: Functions) -> None:
    await Site(functions).start()
    await functions.call("model_upsert", "m1", model({"data": {"p": 1}, "action": {"set": "A:1", "gone": "A:9"}}))
    command = await functions.json("model_set_value", "m1", {"name": "set", "value": 5, "id": "c1"})
    assert (command["channel"], command["type"], command["point"], command["value"]) == (1001, "A", 1, 5)
    assert (command["source"], command["state"]) == ({"kind": "model", "name": "m1"}, "queued")
    again = await functions.json("model_set_value", "m1", {"name": "set", "value": 6, "id": "c1"})
    assert again == command, "the id is the idempotency key"
    user = {"kind": "user", "name": "anna"}
    other = await functions.json("model_set_value", "m1", {"name": "set", "value": 6, "source": user})
    assert other["source"] == user
    before = await keyspace(functions)
    refusals: tuple[tuple[str, dict[str, Any], type[VoltageError]], ...] = (
        ("m2", {"name": "set", "value": 1}, NotFoundError),
        ("m1", {"name": "p", "value": 1}, NotFoundError),
        ("m1", {"name": "gone", "value": 1}, NotFoundError),
        ("m1", {"value": 1}, InvalidError),
        ("m1", {"name": "set", "value": 101}, InvalidError),
        ("m1", {"name": "set", "value": "high"}, InvalidError),
    )
    for name, document, error in refusals:
        with pytest.raises(error):
            await functions.call("model_set_value", name, document)
    assert await keyspace(functions) == before
    await functions.call(
        "point_tag", 1001, {"type": "A", "point": 1, "kind": "lockout", "by": "anna", "reason": "work"}
    )
    with pytest.raises(StateError, match="lockout"):
        await functions.call("model_set_value", "m1", {"name": "set", "value": 1})


async def test_all_problems_at_once_and_nothing_stored(functions: Functions) -> None:
    await functions.call("template_upsert", "meter", METER)
    await functions.call("model_upsert", "m1", model({"data": {"p": 1}}))
    before = await keyspace(functions)
    bad = {
        "name": "", "colour": 1, "metadata": "x",
        "mapping": {
            "channel": "x", "data": {"a": "X:1", "b": 1.5, "c d": 1, "f": "comsrv:1001:T:5:6"}, "action": {"d": "T:1"},
            "data_offset": "next", "action_offset": 1, "more": 1,
        },
    }  # fmt: skip
    with pytest.raises(InvalidError) as caught:
        await functions.call("model_upsert", "m1", bad)
    for part in ("name", "colour", "metadata", "mapping.channel", "data.a", "data.b", '"c d"', "data.f", "action.d",
                 "data_offset", "action_offset needs a template", "mapping.more"):  # fmt: skip
        assert part in str(caught.value)
    refusals: tuple[tuple[str, Any, type[VoltageError]], ...] = (
        ("m1", model({"data": {"p": 1}, "action": {"p": 1}}), InvalidError),
        ("m1", {"name": "x", "mapping": {"data": {"p": 1}}}, InvalidError),
        ("m1", model({"data_offset": -1}, template="meter"), InvalidError),
        ("m1", model({}, template="none"), NotFoundError),
        ("m1", {"id": "m2", "name": "x"}, InvalidError),
        ("a:b", {"name": "x"}, InvalidError),
        ("reverse", {"name": "x"}, InvalidError),
        ("m1", model({"data": {f"p{n}": n for n in range(1, 1500)}, "action": {f"a{n}": n for n in range(1, 1500)}}),
         LimitError),
        ("m1", b"[" * 1000 + b"]" * 1000, LimitError),
        ("m1", b'{"name":"' + b"x" * 1_048_576 + b'"}', LimitError),
    )  # fmt: skip
    for name, document, error in refusals:
        with pytest.raises(error):
            await functions.call("model_upsert", name, document)
    assert await keyspace(functions) == before


async def test_lists_and_counts(functions: Functions) -> None:
    site = await Site(functions).start()
    await site.put({1: 5, 3: 7}, {3: "uncertain:test"})
    await functions.call("template_upsert", "meter", METER)
    await functions.call("model_upsert", "m1", model({"data_offset": 0, "action_offset": 0}, template="meter"))
    await functions.call("model_upsert", "m2", model({"data": {"p": 1}}))
    page = await functions.read_json("model_list", None, {"limit": 1})
    assert ([one["id"] for one in page["items"]], page["cursor"]) == (["m1"], "m1")
    page = await functions.read_json("model_list", None, {"cursor": page["cursor"]})
    assert ([one["id"] for one in page["items"]], page["cursor"]) == (["m2"], None)
    page = await functions.read_json("model_list", None, {"template": "meter"})
    assert [one["id"] for one in page["items"]] == ["m1"]
    counts = await functions.read_json("model_stats", None)
    assert counts == {
        "models": 2, "templates": 1, "points": 4, "actions": 1, "good": 2, "uncertain": 1, "bad": 0, "missing": 1,
    }  # fmt: skip
    assert (await functions.read_json("model_stats", "m2"))["points"] == 1
    for name in ("model_get", "model_expand", "model_get_values", "model_stats"):
        with pytest.raises(NotFoundError):
            await functions.read(name, "m3")
    with pytest.raises(NotFoundError):
        await functions.call("model_delete", "m3")


async def test_models_of_two_namespaces_are_apart(functions: Functions) -> None:
    other = Functions(functions.client, "plant7")
    await other.call("model_upsert", "m1", model({"data": {"p": 1}}))
    assert [key for key in await keyspace(functions) if not key.startswith(b"{plant7}:")] == []
    with pytest.raises(NotFoundError):
        await functions.read("model_get", "m1")
