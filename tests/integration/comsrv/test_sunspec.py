"""A SunSpec inverter whose registers pysunspec2 made and pyModbusTCP serves, read by us and by pysunspec2's client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pyModbusTCP.server import DataBank, ModbusServer
from sunspec2 import device as sunspec
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from libs.points import PointKind
from services.comsrv.channel import Channel
from tests.integration.comsrv.site import Site
from tests.support.servers import free_port
from tests.support.wait import wait_until

BASE = 40000
WIRE = {
    "int16": "int16", "uint16": "uint16", "enum16": "uint16", "acc32": "uint32", "bitfield32": "uint32",
    "string": "string",
}  # fmt: skip
NAMEPLATE = {"Mn": "Acme Solar", "Md": "PV-30", "Opt": "", "Vr": "1.2.3", "SN": "SN-0042", "DA": 1}
INVERTER = {
    "A": 4123, "AphA": 1374, "A_SF": -2, "PhVphA": 2305, "PhVphB": 2311, "V_SF": -1, "W": -1250, "W_SF": 1,
    "Hz": 49987, "Hz_SF": -3, "PF": -998, "PF_SF": -3, "WH": 123456789, "WH_SF": 0, "DCV": 6504, "DCV_SF": -1,
    "TmpCab": 41, "Tmp_SF": 0, "St": 4, "Evt1": 0x81,
}  # fmt: skip


def model(number: int, values: dict[str, Any]) -> sunspec.Model:
    """Return a model with values; what is not given is unimplemented, as pysunspec2 writes it."""
    made = sunspec.Model(number)
    for name, point in made.points.items():
        if name not in {"ID", "L"}:
            point.set_mb(sunspec.mb.create_unimpl_value(point.pdef["type"], point.len))
    for name, value in values.items():
        made.points[name].value = value
    return made


@pytest.fixture
async def inverter() -> AsyncIterator[tuple[int, DataBank, list[sunspec.Model]]]:
    """Give port, registers and models of the device."""
    models = [model(1, NAMEPLATE), model(103, INVERTER)]
    image = b"SunS" + b"".join(one.get_mb() for one in models) + b"\xff\xff\0\0"
    bank = DataBank()
    bank.set_holding_registers(BASE, [int.from_bytes(image[at : at + 2], "big") for at in range(0, len(image), 2)])
    port = free_port()
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=bank)
    await asyncio.to_thread(server.start)
    yield port, bank, models
    await asyncio.to_thread(server.stop)


def points_of(models: list[sunspec.Model]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return a point table made from the models' definitions: (kind of hash, id) -> point."""
    found = {}
    address = BASE + 2
    for one in models:
        for name, point in one.points.items():
            if name in {"ID", "L"} or point.pdef["type"] not in WIRE:
                continue
            wire = WIRE[point.pdef["type"]]
            mapping: dict[str, Any] = {
                "slave_id": 1, "function_code": 3, "register_address": address + point.offset, "data_type": wire,
                "sentinel": "0" if point.pdef["type"] == "acc32" else "sunspec",
            }  # fmt: skip
            if wire == "string":
                mapping["register_count"] = point.len
            scale = point.pdef.get("sf")
            if isinstance(scale, str):
                mapping["scale_register"] = address + one.points[scale].offset
            number = len(found) + 1
            row = {"id": number, "name": name, "data_type": "string" if wire == "string" else "float64"}
            found["text" if wire == "string" else "T", str(number)] = {**row, "mapping": mapping}
        address += len(one.get_mb()) // 2
    return found


def client_values(port: int) -> dict[str, Any]:
    """Return what pysunspec2's client makes of the device."""
    client = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port)
    client.scan()
    found = {name: point.cvalue for one in (1, 103) for name, point in client.models[one][0].points.items()}
    client.close()
    return found


async def test_every_point_of_the_models_is_what_pysunspec2_reads(
    site: Site, inverter: tuple[int, DataBank, list[sunspec.Model]]
):
    """Scale factors, strings, unimplemented values and a scale factor that changes while it runs."""
    port, bank, models = inverter
    table = points_of(models)
    channel = Channel.model_validate(
        {
            "id": 1001,
            "name": "Inverter",
            "protocol": "modbus_tcp",
            "parameters": {"host": "127.0.0.1", "port": port},
            "polling": {"interval_ms": 50},
            "points": {"T": list(table.values())},
        }
    )
    await site.run(channel)

    async def values() -> dict[str, Any]:
        images = {kind: await site.functions.image(1001, kind) for kind in (PointKind.TELEMETRY, "text")}
        found: dict[str, Any] = {}
        for (kind, number), row in table.items():
            image = images[kind]
            bad = image.quality.get(number)
            text = image.values.get(number)
            found[row["name"]] = bad or (text if kind == "text" or text is None else float(text))
        return found

    async def agree() -> bool:
        expected = await asyncio.to_thread(client_values, port)
        return all(same(found, expected[name]) for name, found in (await values()).items())

    await wait_until(agree, "all points are those of pysunspec2")
    found = await values()
    assert (found["PhVphA"], found["W"], found["Mn"], found["PhVphC"]) == (
        230.5,
        -12500.0,
        "Acme Solar",
        "bad:sentinel",
    )
    # A power ten times as high, said with another scale factor: never 1250 * 10 ** 2 in between.
    power, scale = (BASE + 2 + 68 + models[1].points[name].offset for name in ("W", "W_SF"))
    bank.set_holding_registers(power, [0x10000 - 1250, 2])
    assert scale == power + 1
    await wait_until(agree, "the new scale factor counts")
    assert (await values())["W"] == -125000.0


def same(found: Any, expected: Any) -> bool:
    """Say whether our value is theirs; None of theirs is our sentinel."""
    if expected is None or expected == "":
        return bool(found == "bad:sentinel")
    if isinstance(expected, str):
        return bool(found == expected)
    return isinstance(found, float) and math.isclose(found, expected, rel_tol=1e-9)


async def test_mbpoll_reads_what_we_wrote(site: Site):
    """A float in both word orders, a BCD number, a bit by mask write, and a value through its scale register."""
    port = free_port()
    bank = DataBank()
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=bank)
    await asyncio.to_thread(server.start)
    bank.set_holding_registers(20, [0x00F0])
    bank.set_holding_registers(31, [0xFFFF])

    def point(number: int, address: int, data_type: str, code: int = 16, **more: Any) -> dict[str, Any]:
        mapping = {"slave_id": 1, "function_code": code, "register_address": address, "data_type": data_type, **more}
        return {"id": number, "name": f"a{number}", "data_type": "float64", "mapping": mapping}

    channel = Channel.model_validate(
        {
            "id": 1001,
            "name": "Peer",
            "protocol": "modbus_tcp",
            "parameters": {"host": "127.0.0.1", "port": port},
            "points": {
                "A": [
                    point(1, 0, "float32"),
                    point(2, 2, "float32", byte_order="CDAB"),
                    point(3, 4, "bcd32"),
                    point(4, 20, "uint16", 16, bit_position=8, bit_count=4, read_modify_write=True),
                    point(5, 30, "int16", 6, scale_register=31),
                ]
            },
        }
    )
    try:
        await site.run(channel)
        for number, value in ((1, 230.5), (2, -49.75), (3, 12345678.0), (4, 5.0), (5, 231.5)):
            source = {"kind": "user", "name": "ann"}
            document = {"type": "A", "point": str(number), "value": value, "source": source}
            final = await site.final(await site.functions.submit(1001, document))
            assert (final["state"], final["reason"]) == ("verified", None)
        assert await mbpoll(port, 0, "4:float", "-B") == ["230.5"]
        assert await mbpoll(port, 2, "4:float") == ["-49.75"]
        assert await mbpoll(port, 4, "4:hex", "-c", "2") == ["0x1234", "0x5678"]
        assert await mbpoll(port, 20, "4:hex") == ["0x05F0"]
        assert await mbpoll(port, 30, "4") == ["2315"]
    finally:
        await asyncio.to_thread(server.stop)


async def mbpoll(port: int, address: int, kind: str, *options: str) -> list[str]:
    """Return the values that mbpoll prints."""
    process = await asyncio.create_subprocess_exec(
        "mbpoll", "-0", "-1", "-q", "-p", str(port), "-t", kind, "-r", str(address), *options, "127.0.0.1",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    lines = [line for line in output.decode().splitlines() if line.startswith("[")]
    return [line.split("]:")[1].split()[0] for line in lines]
