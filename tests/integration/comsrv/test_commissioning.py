"""A point tried before it is saved, and registers looked at, through the link of a running channel."""

from __future__ import annotations

import struct
from typing import Any

from tests.integration.comsrv.site import Site
from tests.integration.comsrv.test_api import Api, api  # noqa: F401 - the fixture

PATH = "/api/channels/1001"


def mapping(address: int, data_type: str, **more: Any) -> dict[str, Any]:
    return {"slave_id": 1, "function_code": 3, "register_address": address, "data_type": data_type, **more}


async def tried(api: Api, data_type: str, own: dict[str, Any], kind: str = "T", **point: Any) -> dict[str, Any]:  # noqa: F811
    """Try a point and return the answer."""
    body = {"type": kind, "point": {"data_type": data_type, "mapping": own, **point}}
    status, found = await api.call("POST", f"{PATH}/try", body)
    assert status == 200
    answer: dict[str, Any] = found
    return answer


async def test_a_point_is_tried_on_the_channels_own_link(api: Api, site: Site):  # noqa: F811
    """Registers, value and label; the device sees one client, and nothing of it reaches the image."""
    await site.becomes("T:1", "12.300000")
    points = (await site.functions.get(1001))["points"]
    points["T"][0]["group"] = "power"
    change = {"points": points, "reporting": {"groups": {"power": {"heartbeat_s": 60}}}}
    status, answer = await api.call("PATCH", PATH, change)
    assert status == 200, answer
    site.device.set_registers(60, *struct.unpack(">HH", struct.pack(">f", 230.5)), 5)
    found = await tried(api, "float32", mapping(60, "float32"))
    assert (found["value"], found["quality"], found["address"]) == (230.5, "good", 60)
    assert (found["registers"], found["problems"]) == ([0x4366, 0x8000], [])
    found = await tried(api, "enum", mapping(62, "uint16"), value_map="5=Grid forming")
    assert (found["value"], found["label"]) == (5.0, "Grid forming")
    found = await tried(api, "float64", mapping(10, "int16", function_code=6), kind="A", scale=0.1)
    assert (found["value"], found["registers"]) == (0.0, [0])
    assert site.device.most_connections == 1
    assert (await site.functions.image(1001, "T")).values.keys() == {"1", "2"}


async def test_what_is_wrong_with_a_point_is_said_all_at_once(api: Api):  # noqa: F811
    """Of its declaration and of its mapping; a device that refuses is a problem too."""
    found = await tried(api, "bool", mapping(0, "flaot32", byte_order="ABDC"), scale=0)
    assert found["problems"] == ["point: scale must not be 0; a bool has no scale or offset"]
    found = await tried(api, "float32", mapping(0, "int16", bit_position=9))
    assert found["problems"] == ["mapping: bit_count: how many bits of the int16 from bit 9 on"]
    found = await tried(api, "float32", mapping(900, "float32"))
    assert (found["quality"], found["value"]) == ("bad:illegal_address", None)
    assert found["problems"][0].endswith("exception 2, illegal data address (read 2 holding registers from 900)")


async def test_registers_are_read_and_those_of_a_point_not_written(api: Api, site: Site):  # noqa: F811
    """What a command guards (limits, tags, the ledger) is not gone round."""
    await site.becomes("T:1", "12.300000")
    _, found = await api.call("GET", f"{PATH}/registers?address=0&count=3")
    assert found["values"] == [123, 0x10000 - 5, 0x0200]
    _, found = await api.call("GET", f"{PATH}/registers?address=900")
    assert (found["exception_code"], found["values"]) == (2, [])
    status, found = await api.call("PUT", f"{PATH}/registers", {"address": 10, "values": [5]})
    assert (status, found["detail"]) == (409, "A:1 of channel 1001 writes there; send it a command")
    site.device.set_registers(70, 0)
    status, found = await api.call("PUT", f"{PATH}/registers", {"address": 70, "values": [7]})
    assert (status, found["problem"], site.device.registers[1, 3, 70]) == (200, None, 7)
    assert site.device.most_connections == 1
