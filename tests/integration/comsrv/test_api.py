"""comsrv over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from libs.clock import now_ms
from libs.errors import ConfigurationError
from libs.http import Role
from libs.http.tokens import issue, signing_key
from libs.redis.functions import Functions
from services.comsrv.app import create_app
from services.comsrv.runner import definition
from services.comsrv.settings import ComsrvSettings
from tests.integration.comsrv.site import Site, meter
from tests.support.servers import RedisServer
from tests.support.wait import wait_until

TELEMETRY = (
    "point_id,signal_name,data_type,unit,expression\n1,Twice,float64,kW,comsrv:1001:T:1 * 2\n2,Target,float64,kW,\n"
)


class Api:
    """The running service with a token."""

    def __init__(self, http: TestClient[Any, Any], key: str, folder: Path) -> None:
        self.http = http
        self.key = key
        self.folder = folder

    async def call(self, method: str, path: str, body: Any = None, role: Role = Role.ENGINEER) -> tuple[int, Any]:
        """Return status and decoded answer."""
        headers = {"Authorization": f"Bearer {issue(self.key, 'ann', role, 60)}"}
        async with self.http.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def point(self, path: str, wanted: Any) -> dict[str, Any]:
        """Wait until a point has a value."""

        async def check() -> dict[str, Any] | None:
            _, found = await self.call("GET", path)
            return found if found.get("value") == wanted else None

        found = await wait_until(check, f"{path} is {wanted}")
        assert found is not None
        return found


def tables(folder: Path, telemetry: str = TELEMETRY) -> None:
    path = folder / "channels" / "1100"
    path.mkdir(parents=True, exist_ok=True)
    (path / "telemetry.csv").write_text(telemetry)


def settings(redis_server: RedisServer, folder: Path) -> ComsrvSettings:
    virtual = {"id": 1100, "name": "Totals", "protocol": "virtual", "polling": {"interval_ms": 50}}
    return ComsrvSettings.model_validate(
        {"config_dir": folder, "data_dir": folder, "redis": {"url": redis_server.url}, "channels": [virtual]}
    )


@pytest.fixture
async def api(redis_server: RedisServer, site: Site, tmp_path: Path) -> AsyncIterator[Api]:
    """Give the service with a virtual channel from files and a Modbus channel from the API."""
    tables(tmp_path)
    options = settings(redis_server, tmp_path)
    async with TestClient(TestServer(create_app(options))) as http:
        found = Api(http, signing_key(options), tmp_path)

        async def ready() -> bool:
            return (await http.get("/health")).status == 200

        await wait_until(ready, "comsrv is ready")
        body = definition(meter(site.device.port))
        body = {name: value for name, value in body.items() if name not in {"interval_ms", "source"}}
        status, answer = await found.call("POST", "/api/channels", body)
        assert status == 201, answer
        await wait_until(ready, "comsrv is ready")
        yield found


async def test_from_the_device_to_the_api_and_through_an_expression(api: Api, site: Site):
    point = await api.point("/api/channels/1001/points/T/1", 12.3)
    assert (point["quality"], point["name"], point["ref"]) == ("good", "P", "comsrv:1001:T:1")
    assert point["seen_at_ms"] >= point["changed_at_ms"]
    twice = await api.point("/api/channels/1100/points/T/1", 24.6)
    assert twice["unit"] == "kW"
    site.device.set_registers(0, 200)
    await api.point("/api/channels/1100/points/T/1", 40.0)


async def test_points_are_listed_by_type_and_page(api: Api):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    _, page = await api.call("GET", "/api/channels/1001/points?type=T")
    assert [(item["id"], item["value"]) for item in page["items"]] == [(1, 12.3), (2, -5.0)]
    _, first = await api.call("GET", "/api/channels/1001/points?limit=3")
    _, second = await api.call("GET", f"/api/channels/1001/points?limit=3&cursor={first['cursor']}")
    shown = [f"{item['type']}:{item['id']}" for item in first["items"] + second["items"]]
    assert shown == ["T:1", "T:2", "S:1", "C:1", "A:1"]
    assert second["cursor"] is None
    assert second["items"][1]["quality"] == "bad:no_value"


async def test_a_command_with_wait_answers_with_its_final_form(api: Api, site: Site):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    status, command = await api.call(
        "POST", "/api/channels/1001/commands?wait_ms=3000", {"type": "A", "point": 1, "value": 7.5}, Role.OPERATOR
    )
    assert (status, command["state"]) == (202, "verified")
    assert command["source"] == {"kind": "user", "name": "ann"}
    assert site.device.registers[1, 3, 10] == 75
    assert (await api.call("GET", f"/api/commands/{command['id']}"))[1]["state"] == "verified"
    _, listed = await api.call("GET", "/api/commands?channel=1001&state=verified")
    assert [item["id"] for item in listed["items"]] == [command["id"]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"type": "A", "point": 1, "value": 101}, 422, "INVALID"),
        ({"type": "A", "point": 9, "value": 1}, 404, "NOTFOUND"),
        ({"type": "T", "point": 1, "value": 1}, 422, "INVALID"),
        ({"type": "A", "point": 1}, 422, "INVALID"),
        ({"type": "A", "point": 1, "value": 1, "ttl_ms": 600_001}, 422, "INVALID"),
    ],
)
async def test_commands_that_cannot_be_are_refused(api: Api, body: dict[str, Any], status: int, code: str):
    found, answer = await api.call("POST", "/api/channels/1001/commands", body)
    assert (found, answer["code"]) == (status, code)


async def test_virtual_points_keep_what_is_put_to_them(api: Api):
    path = "/api/channels/1100/points/T/2"
    status, point = await api.call("PUT", path, {"value": 5.25}, Role.OPERATOR)
    assert (status, point["value"], point["quality"]) == (200, 5.25, "good")
    _, point = await api.call("PUT", path, {"value": 6, "quality": "uncertain:estimated"})
    assert (point["value"], point["quality"]) == (6.0, "uncertain:estimated")
    assert (await api.call("POST", "/api/channels/1100/restart"))[0] == 200
    assert (await api.point(path, 6.0))["value"] == 6.0
    for other, status in (("/api/channels/1100/points/T/1", 409), ("/api/channels/1001/points/T/1", 409)):
        assert (await api.call("PUT", other, {"value": 1}))[0] == status
    assert (await api.call("PUT", "/api/channels/1100/points/T/9", {"value": 1}))[0] == 404
    assert (await api.call("PUT", path, {"value": 1}, Role.VIEWER))[0] == 403


async def test_a_channel_is_changed_stopped_started_and_deleted(api: Api, site: Site):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    status, document = await api.call("PATCH", "/api/channels/1001", {"name": "Feeder", "polling": {"interval_ms": 20}})
    assert (status, document["name"], document["interval_ms"]) == (200, "Feeder", 20)
    site.device.set_registers(0, 10)
    await api.point("/api/channels/1001/points/T/1", 1.0)
    assert (await api.call("POST", "/api/channels/1001/stop"))[1]["state"] == "stopped"
    assert (await api.call("GET", "/api/channels/1001/points/T/1"))[1]["quality"] == "bad:stale"
    await api.call("POST", "/api/channels/1001/start")
    _, shown = await api.call("GET", "/api/channels/1001/diagnostics")
    assert shown["lease"]["channel"] == 1001
    assert (await api.call("DELETE", "/api/channels/1001"))[0] == 204
    assert (await api.call("GET", "/api/channels/1001"))[0] == 404
    _, page = await api.call("GET", "/api/channels")
    assert [item["id"] for item in page["items"]] == [1100]


async def test_a_channel_with_problems_names_each(api: Api):
    mapping = {"slave_id": 1, "function_code": 3, "register_address": 65535, "data_type": "float32"}
    point = {"id": 1, "name": "p", "data_type": "float64", "mapping": mapping}
    body = {
        "id": 5,
        "name": "x",
        "protocol": "modbus_tcp",
        "parameters": {"hots": "a"},
        "points": {"T": [point, point, {"id": 2, "name": "q", "data_type": "bool"}]},
    }
    status, answer = await api.call("POST", "/api/channels", body)
    assert status == 422
    text = str(answer)
    for part in ("did you mean host?", "stands twice", "not bool", "has no row"):
        assert part in text
    assert {"parameters.host", "parameters.hots", "points.T.1"} <= {error["field"] for error in answer["errors"]}
    assert (await api.call("GET", "/api/channels/5"))[0] == 404
    assert (await api.call("POST", "/api/channels", {**body, "id": 1001, "protocol": "virtual"}))[0] == 422


async def test_a_channel_that_disagrees_with_its_link_is_refused(api: Api, site: Site):
    body = definition(meter(site.device.port))
    body = {name: value for name, value in body.items() if name not in {"interval_ms", "source"}} | {"id": 1002}
    parameters = {**body["parameters"], "connect_pause_ms": 700}
    status, answer = await api.call("POST", "/api/channels", body | {"parameters": parameters})
    (error,) = answer["errors"]
    assert (status, error["field"]) == (422, "parameters.connect_pause_ms")
    assert "channel 1001 shares" in error["message"]
    assert (await api.call("GET", "/api/channels/1002"))[0] == 404
    assert (await api.call("POST", "/api/channels", body))[0] == 201


async def test_a_file_that_disagrees_with_a_channel_of_the_api_is_refused_before_anything_changes(api: Api, site: Site):
    folder = api.folder / "channels" / "1002"
    folder.mkdir(parents=True)
    (folder / "telemetry.csv").write_text("point_id,signal_name,data_type\n1,P,float64\n")
    (folder / "mapping").mkdir()
    columns = "point_id,slave_id,function_code,register_address,data_type"
    (folder / "mapping" / "telemetry_mapping.csv").write_text(f"{columns}\n1,1,3,0,int16\n")
    link = f"host: 127.0.0.1, port: {site.device.port}, timeout_ms: 150"
    text = "channels:\n  - {id: 1002, name: M, protocol: modbus_tcp, parameters: {%s, connect_pause_ms: 700}}\n"
    (api.folder / "comsrv.yaml").write_text(text % link)
    for method, path in (("GET", "/configuration/plan"), ("POST", "/configuration/apply")):
        status, answer = await api.call(method, path, None if method == "GET" else {})
        assert status == 422
        (error,) = answer["errors"]
        assert error["field"] == f"{api.folder}/comsrv.yaml:2"
        assert "connect_pause_ms: channel 1001 shares" in error["message"]
    (api.folder / "comsrv.yaml").write_text((text % link).replace(", connect_pause_ms: 700", ""))
    status, answer = await api.call("GET", "/configuration/plan")
    assert status == 200
    assert [(one["id"], one["action"]) for one in answer["changes"]] == [(1100, "delete"), (1002, "create")]
    assert [call["function"] for call in answer["calls"]] == ["channel_delete", "channel_upsert"]


async def test_reload_takes_new_tables_and_refuses_bad_ones(api: Api):
    tables(api.folder, TELEMETRY + "3,New,float64,A,\n")
    status, document = await api.call("POST", "/api/channels/1100/reload")
    assert (status, len(document["points"]["T"])) == (200, 3)
    tables(api.folder, TELEMETRY + "3,New,flaot64,A,\n")
    status, answer = await api.call("POST", "/api/channels/1100/reload")
    assert status == 422
    assert "telemetry.csv:4" in str(answer)


async def test_the_ledger_balances_while_everything_runs(api: Api, site: Site):
    for number in range(10):
        site.device.set_registers(0, number)
        _, found = await api.call("GET", "/api/ledger")
        assert found["balanced"], found
    assert found["samples"]["polled"] > 0


async def test_metrics_tell_what_each_channel_does(api: Api):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    text = await (await api.http.get("/metrics")).text()
    assert 'voltage_channel_up{channel="1001"} 1.0' in text
    assert 'voltage_channel_polls_total{channel="1001"}' in text


async def test_protocols_and_roles(api: Api):
    _, page = await api.call("GET", "/api/protocols", role=Role.VIEWER)
    assert [item["id"] for item in page["items"]] == [
        "grpc",
        "modbus_rtu",
        "modbus_rtu_over_tcp",
        "modbus_tcp",
        "modbus_tls",
        "virtual",
    ]
    assert (await api.http.get("/api/channels")).status == 401
    assert (await api.call("POST", "/api/channels", {}, Role.OPERATOR))[0] == 403


async def test_what_left_the_files_leaves_redis_at_the_next_start(
    api: Api, functions: Functions, redis_server: RedisServer, tmp_path: Path
):
    """The API's channel stays, the file's goes."""
    without = settings(redis_server, tmp_path).model_copy(update={"channels": ()})
    async with TestClient(TestServer(create_app(without))) as http:

        async def only() -> bool:
            headers = {"Authorization": f"Bearer {issue(api.key, 'ann', Role.VIEWER, 60)}"}
            page = await (await http.get("/api/channels", headers=headers)).json()
            return [item["id"] for item in page["items"]] == [1001]

        await wait_until(only, "channel 1100 is gone")


def test_bad_tables_are_refused_before_anything_starts(redis_server: RedisServer, tmp_path: Path):
    tables(tmp_path, "point_id,signal_name\n")
    with pytest.raises(ConfigurationError, match=r"telemetry.csv:1: column 'data_type' is missing"):
        create_app(settings(redis_server, tmp_path))


async def test_diagnostics_show_polls_link_units_quarantine_and_errors(api: Api, site: Site):
    await api.point("/api/channels/1001/points/T/1", 12.3)
    del site.device.registers[1, 3, 1]

    async def quarantined() -> Any:
        _, found = await api.call("GET", "/api/channels/1001/diagnostics")
        return found if found["quarantine"] else None

    shown = await wait_until(quarantined, "an address in quarantine")
    (entry,) = shown["quarantine"]
    assert (entry["unit"], entry["table"], entry["address"], entry["points"]) == ("1", "holding", 1, ["T:2"])
    assert entry["quality"] == "bad:illegal_address"
    assert shown["polling"]["exceptions"]["2"] >= 3
    assert "exception 2" in shown["polling"]["errors"][-1]["text"]
    (group,) = shown["groups"]
    assert (group["interval_ms"], group["synchronized"], group["points"]) == (50, False, 2)
    assert shown["units"]["1"]["state"] == "running"
    assert 0 < shown["link"]["connected_at_ms"] <= now_ms()
    assert sum(shown["link"]["round_trip_ms"]["buckets"].values()) == shown["link"]["answers"] > 0
    assert {block["state"] for block in shown["blocks"]} == {"polled", "quarantine"}
    async with api.http.get("/metrics") as answer:
        text = await answer.text()
    for line in (
        'voltage_channel_quarantined{channel="1001"} 1.0',
        'voltage_unit_up{channel="1001",unit="1"} 1.0',
        'voltage_channel_exceptions_total{channel="1001",code="2"}',
        'voltage_link_bytes_total{channel="1001",direction="in",link="127.0.0.1:',
        "voltage_link_round_trip_seconds_bucket",
    ):
        assert line in text


async def test_a_group_that_is_not_declared_is_named(api: Api, site: Site):
    _, document = await api.call("GET", "/api/channels/1001")
    points = document["points"]
    points["T"][0]["mapping"]["poll_group"] = "fsat"
    body = {"points": points, "polling": {"interval_ms": 50, "groups": {"fast": {"interval_ms": 20}}}}
    status, answer = await api.call("PATCH", "/api/channels/1001", body)
    assert status == 422
    assert "did you mean fast?" in str(answer)
    points["T"][0]["mapping"]["poll_group"] = "fast"
    assert (await api.call("PATCH", "/api/channels/1001", body))[0] == 200

    async def groups() -> bool:
        _, found = await api.call("GET", "/api/channels/1001/diagnostics")
        return [group["name"] for group in found.get("groups", [])] == ["", "fast"]

    await wait_until(groups, "two groups")
