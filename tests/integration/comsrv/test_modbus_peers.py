"""Reads and writes against servers of others: libmodbus in C (TCP and RTU) and pyModbusTCP."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyModbusTCP.server import ModbusServer

from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import ComBase
from services.comsrv.plugins.registry import protocols
from tests.integration.comsrv.test_modbus_tcp import point, row
from tests.support.serial_line import SerialLine
from tests.support.servers import free_port

SOURCE = Path(__file__).parents[2] / "support/libmodbus_server.c"
# What libmodbus_server.c holds, in every table and up to a whole request of registers.
POINTS = [
    *(point(1 + address, row(3, address, "uint16")) for address in range(250)),
    point(300, row(4, 7, "uint16")),
    point(301, row(3, 500, "uint32")),
]
SIGNALS = [point(1, row(1, 9, "bool")), point(2, row(2, 10, "bool"))]


@pytest.fixture(scope="session")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the C server."""
    target = tmp_path_factory.mktemp("libmodbus") / "server"
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is missing; apt-get install gcc libc6-dev libmodbus-dev"
    done = subprocess.run(
        [compiler, "-O1", "-o", str(target), str(SOURCE), "-lmodbus"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"apt-get install libmodbus-dev? {done.stderr}"
    return target


@contextmanager
def running(program: Path, *words: str) -> Iterator[None]:
    """Run the C server until its standard input ends."""
    with subprocess.Popen([str(program), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()
        assert process.wait(5) == 0


@asynccontextmanager
async def plugin_of(protocol: str, points: dict[str, Any], **parameters: Any) -> AsyncIterator[tuple[ComBase, Channel]]:
    """Give a connected plugin and its channel."""
    document = {"id": 1, "name": "peer", "protocol": protocol, "parameters": parameters, "points": points}
    declared = Channel.model_validate(document)
    plugin = protocols()[protocol]()
    await plugin.initialize(declared, port_base=6000)
    await plugin.connect()
    yield plugin, declared
    assert plugin.traffic is not None
    assert dict(plugin.traffic.rejected) == {}
    await plugin.close()


async def check(protocol: str, **parameters: Any) -> None:
    """Read every point, write a register and a coil and read them back, over one connection."""
    written = {"A": [point(1, row(16, 600, "float32"))], "C": [point(1, row(5, 8, "bool"))]}
    async with plugin_of(protocol, {"T": POINTS, "S": SIGNALS, **written}, **parameters) as (plugin, declared):
        values: dict[str, float] = {}
        for block in plugin.blocks:
            reading = await plugin.read_batch(block)
            assert not reading.quality.any()
            for section in block.sections:
                found = reading.values[section.start : section.stop].tolist()
                values |= {f"{section.kind}:{name}": value for name, value in zip(section.ids, found, strict=True)}
        expected = {f"T:{1 + address}": 1000.0 + address for address in range(250)}
        expected |= {"T:300": 2007.0, "T:301": 1500.0 * 65536 + 1501, "S:1": 1.0, "S:2": 0.0}
        assert values == expected
        for kind, value in ((PointKind.ADJUSTMENT, 1.5), (PointKind.CONTROL, 1.0)):
            write = plugin.prepare_write(kind, declared.points.of(kind)[0], value)
            await plugin.write_point(write)
            assert await plugin.read_back(write) == (value, True)


async def test_libmodbus_over_tcp(libmodbus: Path):
    port = free_port()
    with running(libmodbus, "tcp", str(port)):
        await check("modbus_tcp", host="127.0.0.1", port=port)


async def test_libmodbus_over_a_serial_line(libmodbus: Path, tmp_path: Path):
    line = SerialLine(tmp_path)
    line.open()
    with running(libmodbus, "rtu", line.right, "115200", "1"):
        await check("modbus_rtu", port=line.left, baud_rate=115200, timeout_ms=1000)
    line.close()


async def test_pymodbustcp():
    port = free_port()
    server = ModbusServer("127.0.0.1", port, no_block=True)
    bank = server.data_bank
    bank.set_holding_registers(0, [1000 + address for address in range(1000)])
    bank.set_input_registers(0, [2000 + address for address in range(1000)])
    bank.set_coils(0, [bool(address % 2) for address in range(1000)])
    bank.set_discrete_inputs(0, [bool(address % 2) for address in range(1000)])
    server.start()
    try:
        await check("modbus_tcp", host="127.0.0.1", port=port)
    finally:
        server.stop()


async def test_libmodbus_changes_bits_by_mask_and_writes_and_reads_at_once(libmodbus: Path, tmp_path: Path):
    """On TCP and on a serial line: 22 changes a bit and a field of 1007 (0x03EF), the others stay as they were."""
    line = SerialLine(tmp_path)
    line.open()
    port = free_port()
    points = {
        "T": [point(1, row(3, 7, "uint16"))],
        "A": [
            point(1, row(22, 7, "uint16", bit_position=8, bit_count=4)),
            point(2, row(23, 20, "float32")),
            point(3, row(23, 30, "uint32", verify_address=20)),
        ],
        "C": [point(1, row(22, 7, "bool", bit_position=0))],
    }
    servers = {"modbus_tcp": ("tcp", str(port)), "modbus_rtu": ("rtu", line.right, "115200", "1")}
    places: dict[str, dict[str, Any]] = {
        "modbus_tcp": {"host": "127.0.0.1", "port": port},
        "modbus_rtu": {"port": line.left, "baud_rate": 115200},
    }
    for protocol, words in servers.items():
        with running(libmodbus, *words):
            async with plugin_of(protocol, points, **places[protocol]) as (plugin, declared):
                for kind, value in ((PointKind.ADJUSTMENT, 10.0), (PointKind.CONTROL, 0.0)):
                    write = plugin.prepare_write(kind, declared.points.of(kind)[0], value)
                    await plugin.write_point(write)
                    assert await plugin.read_back(write) == (value, True)
                reading = await plugin.read_batch(plugin.blocks[0])
                assert reading.values.tolist() == [float(0x0AEE)]
                for place, value, shown in ((1, 1.5, (1.5, True)), (2, 7, (float(0x3FC00000), False))):
                    write = plugin.prepare_write(
                        PointKind.ADJUSTMENT, declared.points.of(PointKind.ADJUSTMENT)[place], value
                    )
                    await plugin.write_point(write)
                    assert await plugin.read_back(write) == shown
    line.close()
