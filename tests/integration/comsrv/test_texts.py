"""A text point and an enumeration, from the registers to the API; and what a lost device makes of them."""

from __future__ import annotations

from typing import Any

from tests.integration.comsrv.site import Site
from tests.integration.comsrv.test_api import Api, api  # noqa: F401 - the fixture

PATH = "/api/channels/1001/points"
NAME = "Zähler 7"


def points() -> dict[str, list[dict[str, Any]]]:
    """Return a name, a mode and a breaker of two bits, beside a number."""
    row = {"slave_id": 1, "function_code": 3}
    number = {**row, "register_address": 0, "data_type": "int16"}
    return {
        "T": [
            {"id": 1, "name": "P", "data_type": "int16", "mapping": number},
            {
                "id": 7,
                "name": "name",
                "data_type": "string",
                "mapping": {
                    **row, "register_address": 20, "data_type": "string", "register_count": 8, "encoding": "utf-8",
                },
            },
            {
                "id": 8,
                "name": "mode",
                "data_type": "enum",
                "value_map": "0=Off; 5=Grid forming",
                "mapping": {**row, "register_address": 28, "data_type": "uint16"},
            },
        ],
        "S": [
            {
                "id": 1,
                "name": "breaker",
                "data_type": "double_point",
                "mapping": {**row, "register_address": 29, "data_type": "double_point", "bit_position": 3},
            }
        ],
    }  # fmt: skip


def write_name(site: Site, name: str) -> None:
    data = name.encode().ljust(16, b"\0")
    site.device.set_registers(20, *(int.from_bytes(data[at : at + 2], "big") for at in range(0, 16, 2)))


async def test_a_text_and_what_values_mean_reach_the_api(api: Api, site: Site):  # noqa: F811
    """Its reference says that it is a text; a lost device leaves the last one, marked."""
    write_name(site, NAME)
    site.device.set_registers(28, 5, 0b10 << 3)
    status, answer = await api.call("PATCH", "/api/channels/1001", {"points": points()})
    assert status == 200, answer
    name = await api.point(f"{PATH}/T/7", NAME)
    assert (name["ref"], name["quality"], name["label"]) == ("comsrv:1001:X:7", "good", None)
    assert name["seen_at_ms"] is not None
    assert (await api.point(f"{PATH}/T/8", 5.0))["label"] == "Grid forming"
    assert (await api.point(f"{PATH}/S/1", 2.0))["label"] == "closed"
    _, page = await api.call("GET", f"{PATH}?type=T")
    assert [item["ref"] for item in page["items"]] == ["comsrv:1001:T:1", "comsrv:1001:X:7", "comsrv:1001:T:8"]
    write_name(site, "another")
    await api.point(f"{PATH}/T/7", "another")
    await site.device.stop()
    await site.becomes("T:8", "bad:not_connected")
    _, lost = await api.call("GET", f"{PATH}/T/7")
    assert (lost["value"], lost["quality"]) == ("another", "bad:not_connected")
    await site.device.start()
    await site.becomes("T:8", "5.000000")
    _, found = await api.call("GET", f"{PATH}/T/7")
    assert found["quality"] == "good"


async def test_a_command_outside_an_enumeration_is_refused_when_it_is_submitted(api: Api, site: Site):  # noqa: F811
    """And one inside is written and read back."""
    site.device.set_registers(40, 0)
    mapping = {"slave_id": 1, "function_code": 6, "register_address": 40, "data_type": "uint16"}
    mode = {"id": 1, "name": "mode", "data_type": "enum", "value_map": "0=Off; 5=Grid forming", "mapping": mapping}
    status, answer = await api.call("PATCH", "/api/channels/1001", {"points": points() | {"C": [mode]}})
    assert status == 200, answer
    status, refused = await api.call("POST", "/api/channels/1001/commands", {"type": "C", "point": 1, "value": 3})
    assert (status, refused["code"]) == (422, "INVALID")
    command = {"type": "C", "point": 1, "value": 5}
    _, done = await api.call("POST", "/api/channels/1001/commands?wait_ms=5000", command)
    assert (done["state"], site.device.registers[1, 3, 40]) == ("verified", 5)
    assert (await api.point(f"{PATH}/C/1", 5.0))["label"] == "Grid forming"


async def test_a_text_is_written_and_read_back(api: Api, site: Site):  # noqa: F811
    """From the API to the registers; what the device can't hold is refused, what it shows else is a mismatch."""
    mapping = {"slave_id": 1, "function_code": 16, "register_address": 50, "data_type": "string", "register_count": 4}
    label = {"id": 2, "name": "label", "data_type": "string", "mapping": mapping}
    site.device.set_registers(50, 0, 0, 0, 0)
    status, answer = await api.call("PATCH", "/api/channels/1001", {"points": points() | {"A": [label]}})
    assert status == 200, answer
    commands = "/api/channels/1001/commands?wait_ms=5000"
    _, done = await api.call("POST", commands, {"type": "A", "point": 2, "value": "Grid 7"})
    assert (done["state"], done["value"], done["read_back"]) == ("verified", "Grid 7", "Grid 7")
    assert [site.device.registers[1, 3, 50 + at] for at in range(4)] == [0x4772, 0x6964, 0x2037, 0]
    shown = await api.point(f"{PATH}/A/2", "Grid 7")
    assert (shown["ref"], shown["quality"]) == ("comsrv:1001:X:2", "good")
    for value, reason in (("123456789", "at most 8 bytes"), ("Zähler", "not ASCII"), (5, "must be a text")):
        status, refused = await api.call("POST", commands, {"type": "A", "point": 2, "value": value})
        assert (status, refused["code"]) == (422, "INVALID")
        assert reason in refused["detail"]
    _, journal = await api.call("GET", "/api/commands/journal?limit=1")
    assert (journal["items"][0]["value"], journal["items"][0]["state"]) == ("Grid 7", "verified")
    site.device.frozen.update((1, 3, 50 + at) for at in range(4))
    _, done = await api.call("POST", commands, {"type": "A", "point": 2, "value": "new"})
    assert (done["state"], done["read_back"]) == ("mismatch", "Grid 7")
    assert done["reason"].startswith('read back "Grid 7" instead of "new"')
    assert "still shows its previous value" in done["reason"]


async def test_a_text_that_is_written_shares_its_number_with_no_telemetry_point(api: Api, site: Site):  # noqa: F811
    _ = site
    mapping = {"slave_id": 1, "function_code": 16, "register_address": 50, "data_type": "string", "register_count": 4}
    label = {"id": 7, "name": "label", "data_type": "string", "mapping": mapping, "command": {"fallback": 1}}
    status, answer = await api.call("PATCH", "/api/channels/1001", {"points": points() | {"A": [label]}})
    assert status == 422
    assert "fallback is not for a text" in str(answer)
    del label["command"]
    status, answer = await api.call("PATCH", "/api/channels/1001", {"points": points() | {"A": [label]}})
    assert (status, "shares its numbers with the telemetry points" in str(answer)) == (422, True)
