"""Templates: a change reaches every model that uses it, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest

from libs.errors import InvalidError, NotFoundError, StateError
from libs.redis.functions import Functions
from tests.support.definitions import said
from tests.support.site import Site, keyspace


def template(**points: int) -> dict[str, Any]:
    return {"name": "Meter", "data_points": {name: {"base_id": base} for name, base in points.items()}}


async def test_life_of_a_template(functions: Functions) -> None:
    text = b'{"name":"Meter",  "data_points":{"p":{"base_id":1,"kind":"T","unit":"kW"}},"actions":{}}'
    stored = await functions.call("template_upsert", "meter", text)
    assert said(stored) == b'{"id":"meter",' + text[1:]
    assert await functions.read("template_get", "meter") == stored
    page = await functions.read_json("template_list", None)
    assert [one["id"] for one in page["items"]] == ["meter"]
    await functions.call("model_upsert", "m1", {"name": "x", "template": "meter"})
    with pytest.raises(StateError, match="used by 1"):
        await functions.call("template_delete", "meter")
    await functions.call("model_upsert", "m1", {"name": "x"})
    assert await functions.json("template_delete", "meter") == {"deleted": "meter"}
    for name in ("template_get", "template_delete"):
        with pytest.raises(NotFoundError):
            await functions.call(name, "meter")


async def test_a_change_expands_its_models_anew(functions: Functions) -> None:
    site = await Site(functions).start()
    await site.put({1: 1, 2: 2, 3: 3, 4: 4})
    await functions.call("template_upsert", "meter", template(p=1, q=2))
    auto = {"name": "x", "template": "meter", "mapping": {"channel": 1001, "data_offset": "auto"}}
    for name in ("a", "b"):
        await functions.call("model_upsert", name, auto)
    await functions.call(
        "alarm_define", "high", {"source": "modsrv:b:p", "detector": "Hi", "limit": 3.5, "level": "Major"}
    )
    assert await site.alarms() == []
    await functions.call("template_upsert", "meter", template(q=1, p=2))
    assert await site.hash("modsrv:a:measurement") == {"p": "2.000000", "q": "1.000000"}
    assert await site.hash("modsrv:b:measurement") == {"p": "4.000000", "q": "3.000000"}
    assert [one["status"] for one in await site.alarms()] == ["New"]
    await functions.call("template_upsert", "meter", template(p=1, q=2, r=3))
    found = [(await functions.read_json("model_expand", name))["data_offset"] for name in ("a", "b")]
    assert found == [0, 3], "a span that grew makes room"


async def test_refusals_change_nothing(functions: Functions) -> None:
    await functions.call("template_upsert", "meter", template(p=1))
    mapping = {"channel": 1001, "data_offset": 0, "action": {"q": 1}}
    await functions.call("model_upsert", "m1", {"name": "x", "template": "meter", "mapping": mapping})
    before = await keyspace(functions)
    with pytest.raises(InvalidError, match=r"action\.q"):
        await functions.call("template_upsert", "meter", template(p=1, q=2))
    bad = {
        "name": 1, "size": 1, "actions": {"p": {"base_id": 1, "kind": "T"}, "q": 5},
        "data_points": {"p": {"base_id": 0, "unit": "kW", "scale": 2}, "a b": {"base_id": 1}, "r": {"base_id": 1.5}},
    }  # fmt: skip
    with pytest.raises(InvalidError) as caught:
        await functions.call("template_upsert", "meter", bad)
    for part in ("name", "size", "actions.p.kind", "actions.q", "data_points.p.base_id", "data_points.p.scale", '"a b"',
                 "data_points.r.base_id", "actions.p is a name of data_points too"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(InvalidError):
        await functions.call("template_upsert", "meter", {"id": "other", "name": "x"})
    assert await keyspace(functions) == before
