"""Devices made from point tables: comsrv and independent masters read what they hold; faults and the log are real."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pyModbusTCP.client import ModbusClient

from libs.errors import ConfigurationError, UnavailableError
from services.commands.simulate import context_of
from services.commands.twins import links_of, read_channels
from services.comsrv.contract import DeviceError
from services.comsrv.plugins.modbus.wiretypes import STRING, WIDTHS, WIRE_TYPES, orders_of
from services.comsrv.plugins.registry import protocols
from services.simulator.twins.endpoint import Endpoint
from services.simulator.twins.faults import Active, Fault, Kind
from services.simulator.twins.log import Log
from services.simulator.twins.run import Fleet
from services.simulator.twins.settings import TwinSettings, load_settings
from tests.support.brokers import make_authority, make_certificate
from tests.support.processes import free_port_base
from tests.support.wait import wait_until

POINTS = "point_id,signal_name,data_type,scale,offset,reverse,unit,description"
MAPPING = (
    "point_id,slave_id,function_code,register_address,data_type,byte_order,bit_position,register_count,scale_register"
)


def write_tables(folder: Path, name: str, rows: list[tuple[str, str]]) -> None:
    """Write a point table and its mapping; each row is (point, mapping) without the id."""
    (folder / "mapping").mkdir(parents=True, exist_ok=True)
    points = [f"{number},p{number},{point}" for number, (point, _) in enumerate(rows, 1)]
    mapping = [f"{number},{row}" for number, (_, row) in enumerate(rows, 1)]
    (folder / f"{name}.csv").write_text("\n".join([POINTS, *points]))
    (folder / "mapping" / f"{name}_mapping.csv").write_text("\n".join([MAPPING, *mapping]))


def meter(config: Path) -> None:
    """Two registers to read, one to write and read, on channel 1."""
    folder = config / "channels" / "1"
    rows = [("float64,,,,,", "1,3,0,uint16,AB,,,"), ("float64,,,,,", "1,3,1,uint16,AB,,,")]
    write_tables(folder, "telemetry", [*rows, ("float64,,,,,", "1,3,2,uint16,AB,,,")])
    write_tables(folder, "adjustment", [("float64,,,,,", "1,6,2,uint16,AB,,,")])


@asynccontextmanager
async def running(
    config: Path, log: Log | None = None, tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Fleet]:
    """Run the devices of a configuration folder."""
    channels, _ = read_channels(config)
    links = links_of(channels, first_port=None if tls else free_port_base() + 20)
    found = TwinSettings.model_validate({"step_ms": 60_000, **settings})
    fleet = Fleet(links, found, log or Log(None), tls)
    task = asyncio.create_task(fleet.run())

    async def listening() -> bool:
        assert not task.done() or task.result()
        return all(endpoint.listening for endpoint in fleet.endpoints)

    await wait_until(listening, "the devices listen")
    try:
        yield fleet
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def port_of(endpoint: Endpoint) -> int:
    assert isinstance(endpoint.place, tuple)
    return endpoint.place[1]


async def test_comsrv_reads_what_a_device_holds_in_every_type_and_order(tmp_path: Path):
    rows, address = [], 0
    for kind in WIRE_TYPES:
        for order in orders_of(kind):
            bit = "2" if kind in {"bool", "double_point"} else ""
            width = 3 if kind == STRING else WIDTHS[kind]
            count = "3" if kind == STRING else ""
            if kind not in {STRING, "bool"}:
                rows.append(("float64,0.5,,,,", f"1,3,{address},{kind},{order},{bit},{count},"))
            address += width
    rows.append(("float64,,,,,", f"1,3,{address},int16,AB,,,{address + 1}"))
    write_tables(tmp_path / "channels" / "1", "telemetry", rows)
    bits = [("bool,,,true,,", "1,3,900,bool,BA,9,,"), ("bool,,,,,", "2,1,5,bool,,,,"), ("bool,,,,,", "2,2,7,bool,,,,")]
    write_tables(tmp_path / "channels" / "1", "signal", bits)
    async with running(tmp_path, values=[{"generator": "pattern"}]) as fleet:
        (channel,), _ = read_channels(tmp_path)
        parameters = channel.parameters | {"host": "127.0.0.1", "port": port_of(fleet.endpoints[0])}
        plugin = protocols()["modbus_tcp"]()
        await plugin.initialize(channel.model_copy(update={"parameters": parameters}), port_base=6000)
        await plugin.connect()
        cells = {cell.name: (unit, cell) for unit in fleet.units for cell in unit.cells}
        seen = 0
        for block in await readable(plugin):
            reading = await plugin.read_batch(block)
            for section in block.sections:
                for place, point in zip(range(section.start, section.stop), section.ids, strict=True):
                    unit, cell = cells[f"1:{section.kind}:{point}"]
                    memory = unit.memories[cell.table]
                    held = cell.value(cell.take(memory.data, memory.at(cell.address)))
                    assert (point, reading.values[place]) == (point, pytest.approx(held, rel=1e-12))
                    seen += 1
        await plugin.close()
    assert seen == len(rows) + len(bits)


async def readable(plugin: Any) -> list[Any]:
    """Return blocks the device does not refuse: taken apart where they read through holes."""
    found, queue = [], list(plugin.blocks)
    while queue:
        block = queue.pop()
        try:
            await plugin.read_batch(block)
            found.append(block)
        except DeviceError:
            parts = plugin.split(block)
            assert parts, block.name
            queue += parts
    return found


async def ask(port: int, method: str, *arguments: Any) -> Any:
    """Ask over a connection of its own."""
    client = ModbusClient("127.0.0.1", port, timeout=0.5)
    try:
        return await asyncio.to_thread(getattr(client, method), *arguments)
    finally:
        client.close()


async def asked(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    return await wait_until(condition, what, 15)


async def test_what_is_written_is_held_and_logged_until_a_restart(tmp_path: Path):
    meter(tmp_path)
    fault = {"kind": "restart", "device": "1/1", "at_s": 1.0, "for_s": 0.1}
    with Log(tmp_path / "devices.log") as log:
        async with running(tmp_path, log, faults=[fault]) as fleet:
            port = port_of(fleet.endpoints[0])
            assert await ask(port, "write_single_register", 2, 777)
            assert (await ask(port, "read_holding_registers", 0, 3))[2] == 777
            assert await ask(port, "read_holding_registers", 3, 1) is None

            async def lost() -> bool:
                return await ask(port, "read_holding_registers", 2, 1) == [0]

            await asked(lost, "the device has forgotten")
    lines = [orjson.loads(line) for line in (tmp_path / "devices.log").read_bytes().splitlines()]
    (write,) = [line for line in lines if line["e"] == "write"]
    assert (write["d"], write["address"], write["data"], write["applied"]) == ("1/1", 2, "0309", True)
    assert write["image"]["holding"].endswith("0309")
    assert {line["e"] for line in lines} >= {"step", "request", "write", "connect", "closed"}


async def test_a_fault_by_schedule_spoils_what_it_says_and_ends(tmp_path: Path):
    meter(tmp_path)
    fault = {"kind": "exception", "code": 6, "device": "1/*", "at_s": 0.0, "count": 1, "addresses": [1, 1]}
    with Log(tmp_path / "devices.log") as log:
        async with running(tmp_path, log, faults=[fault]) as fleet:
            port = port_of(fleet.endpoints[0])
            assert await ask(port, "read_holding_registers", 0, 1) is not None
            assert await ask(port, "read_holding_registers", 0, 2) is None
            assert await ask(port, "read_holding_registers", 0, 2) is not None

            async def over() -> bool:
                return fleet.trouble.done == 1

            await asked(over, "the fault is over")
    lines = [orjson.loads(line) for line in (tmp_path / "devices.log").read_bytes().splitlines()]
    (fault_line,) = [line for line in lines if line["e"] == "fault"]
    assert (fault_line["kind"], fault_line["hits"], fault_line["unit"]) == ("exception", 1, "1/1")
    assert [line["fault"] for line in lines if line["e"] == "request"] == [0, fault_line["n"], 0]


async def test_one_client_holds_on_to_the_dead_one_and_sends_the_next_away(tmp_path: Path):
    meter(tmp_path)
    async with running(tmp_path) as fleet:
        endpoint = fleet.endpoints[0]
        first = ModbusClient("127.0.0.1", port_of(endpoint), timeout=0.3)
        assert await asyncio.to_thread(first.read_holding_registers, 0, 1) is not None
        fault = TwinSettings.model_validate({"faults": [{"kind": "one_client", "at_s": 0, "for_s": 1.5}]}).faults[0]
        disturbing = asyncio.create_task(endpoint.disturb(fault))
        assert await asyncio.to_thread(first.read_holding_registers, 0, 1) is None
        assert await ask(port_of(endpoint), "read_holding_registers", 0, 1) is None
        await disturbing
        assert await ask(port_of(endpoint), "read_holding_registers", 0, 1) is not None
        first.close()


async def test_faults_at_random_repeat_with_their_seed_and_stop_at_their_limit(tmp_path: Path):
    meter(tmp_path)
    plan = {
        "every_s": [0.0, 0.01],
        "for_s": [0.01, 0.02],
        "ms": [0, 10],
        "limit": 5,
        "kinds": {"exception": 1, "reset": 1},
    }
    runs = []
    for number in (1, 2):
        with Log(tmp_path / f"{number}.log") as log:
            async with running(tmp_path, log, random=plan, seed=5) as fleet:

                async def enough(fleet: Fleet = fleet) -> bool:
                    await ask(port_of(fleet.endpoints[0]), "read_holding_registers", 0, 2)
                    return fleet.trouble.done == 5

                await asked(enough, "five faults")
        lines = [orjson.loads(line) for line in (tmp_path / f"{number}.log").read_bytes().splitlines()]
        runs.append([(line["kind"], line["hits"]) for line in lines if line["e"] == "fault"])
    assert len(runs[0]) == 5
    assert runs[0] == runs[1]


async def test_mbpoll_reads_rtu_over_a_pseudo_terminal(tmp_path: Path):
    binary = shutil.which("mbpoll")
    assert binary, "mbpoll is missing; install it with: apt-get install mbpoll"
    meter(tmp_path)
    line = tmp_path / "line"
    channel = {"id": 1, "name": "m", "protocol": "modbus_rtu", "parameters": {"port": str(line), "baud_rate": 19200}}
    (tmp_path / "comsrv.yaml").write_bytes(orjson.dumps({"channels": [channel]}))
    async with running(tmp_path, values=[{"generator": "constant", "value": 1234}]) as fleet:
        command = [binary, "-q", "-0", "-1", "-m", "rtu", "-b", "19200", "-P", "none", "-t", "4", "-r", "0", "-c", "2"]

        async def values() -> int:
            process = await asyncio.create_subprocess_exec(*command, str(line), stdout=asyncio.subprocess.PIPE)
            output, _ = await process.communicate()
            return output.count(b"1234")

        assert [await values(), await values()] == [2, 2]
        # A line has no connection to lose: what ends one on TCP is a silence here, and passes.
        endpoint = fleet.endpoints[0]
        for kind in ("hang", "one_client", "refuse"):
            await endpoint.disturb(Fault(kind=Kind(kind), for_s=0.01))
        endpoint.begin(1, Active(1, Fault(kind=Kind.RESET), 0, 1))
        assert [await values(), await values()] == [0, 2]
    assert not line.is_symlink()


async def test_a_device_in_tls_is_read_and_comes_back_from_a_restart(tmp_path: Path):
    meter(tmp_path)
    authority = make_authority(tmp_path / "tls", "authority")
    parameters = {"host": "127.0.0.1", "port": free_port_base() + 20, "ca_file": str(authority)}
    channel = {"id": 1, "name": "m", "protocol": "modbus_tls", "parameters": parameters}
    (tmp_path / "comsrv.yaml").write_bytes(orjson.dumps({"channels": [channel]}))
    context = context_of(make_certificate(authority, "device"))
    async with running(tmp_path, tls=context, values=[{"generator": "constant", "value": 1234}]):
        (declared,), port_base = read_channels(tmp_path)
        plugin = protocols()["modbus_tls"]()
        await plugin.initialize(declared, port_base=port_base)
        await plugin.connect()
        (block,) = plugin.blocks
        assert (await plugin.read_batch(block)).values.tolist()[:2] == [1234, 1234]
        await plugin.close()
    with pytest.raises(ConfigurationError, match="holds no certificate with its key"):
        context_of(tmp_path / "comsrv.yaml")


async def test_a_fault_that_rtu_can_not_tell_never_comes_at_random(tmp_path: Path):
    """An answer to somebody else, of the same form: without transaction numbers it is as good as the right one."""
    meter(tmp_path)
    channel = {"id": 1, "name": "m", "protocol": "modbus_rtu_over_tcp", "parameters": {"host": "127.0.0.1"}}
    (tmp_path / "comsrv.yaml").write_bytes(orjson.dumps({"channels": [channel]}))
    plan = {"every_s": [0, 0], "kinds": {"wrong_transaction": 1, "stale": 1}}
    async with running(tmp_path, random=plan) as fleet:
        await fleet.trouble.run((), fleet.settings.random)
        assert fleet.trouble.done == 0


def test_a_folder_without_tables_and_a_bad_file_are_told(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="holds no folder channels"):
        read_channels(tmp_path)
    file = tmp_path / "faults.yaml"
    file.write_text("seed: x\nfaults:\n  - {at_s: 1, kind: silense}\n")
    with pytest.raises(ConfigurationError) as refused:
        load_settings(file)
    assert [problem.where.rpartition(":")[2] for problem in refused.value.problems] == ["1", "3"]


def test_a_fault_for_nobody_is_told(tmp_path: Path):
    meter(tmp_path)
    channels, _ = read_channels(tmp_path)
    settings = {"faults": [{"kind": "silence", "device": "1/2", "at_s": 1}], "values": [{"points": "2:T:*"}]}
    fleet = Fleet(links_of(channels), TwinSettings.model_validate(settings), Log(None))
    with pytest.raises(ConfigurationError) as refused:
        fleet.check("faults.yaml")
    assert [str(problem) for problem in refused.value.problems] == [
        "faults.yaml: faults[0].device: no device is named '1/2'; did you mean 1/1?",
        "faults.yaml: values[0].points: no point is named '2:T:*'; did you mean 1:T:3?",
    ]


async def test_a_taken_port_is_told(tmp_path: Path):
    meter(tmp_path)
    async with running(tmp_path) as fleet:
        channels, _ = read_channels(tmp_path)
        second = Fleet(links_of(channels, first_port=port_of(fleet.endpoints[0])), TwinSettings(), Log(None))
        with pytest.raises(UnavailableError, match="can't be opened"):
            await second.run()


def test_the_log_stays_in_bounds(tmp_path: Path):
    with Log(tmp_path / "log", 10_000) as log:
        for number in range(1000):
            log.write("step", "1/1", n=number)
        kept = log.older
    assert sum(path.stat().st_size for path in (tmp_path / "log", kept)) <= 10_000
    lines = [orjson.loads(line) for path in (kept, tmp_path / "log") for line in path.read_bytes().splitlines()]
    steps = [line["n"] for line in lines if line["e"] == "step"]
    assert steps == list(range(steps[0], 1000))
    assert any(line["e"] == "cut" for line in lines)
