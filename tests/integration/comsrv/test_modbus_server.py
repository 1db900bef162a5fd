"""The site as a Modbus TCP server, asked by masters that are not ours: mbpoll, pyModbusTCP and plain bytes."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from pyModbusTCP.client import ModbusClient
from pyModbusTCP.utils import decode_ieee, encode_ieee, long_list_to_word, word_list_to_long

from libs.redis import client
from libs.redis.functions import Functions
from services.comsrv.functions import ComsrvFunctions
from services.comsrv.serving.server import ModbusServer, build
from services.comsrv.serving.settings import ModbusServerSettings
from services.comsrv.serving.table import Served
from tests.integration.comsrv.site import Site
from tests.support.servers import free_port
from tests.support.wait import wait_until

ROWS = (
    {"table": "input", "address": 0, "reference": "comsrv:1001:T:1"},
    {"table": "input", "address": 2, "reference": "comsrv:1001:T:2", "data_type": "int16"},
    {"table": "discrete", "address": 0, "reference": "comsrv:1001:S:1"},
    {"table": "holding", "address": 10, "reference": "comsrv:1001:A:1", "writable": True},
    {"table": "holding", "address": 12, "reference": "comsrv:1001:T:1"},
    {"table": "coil", "address": 5, "reference": "comsrv:1001:C:1", "writable": True},
)


async def serve(site: Site, *, functions: Functions | None = None, **settings: Any) -> ModbusServer:
    """Run the meter and serve it until the end of the test."""
    runner = await site.run()
    await site.becomes("T:1", "12.300000")
    options = ModbusServerSettings.model_validate(
        {"enabled": True, "cache_ms": 0, "write_from": ["127.0.0.0/8"], **settings}
    )
    rows = tuple(Served.model_validate(row) for row in ROWS)
    calls = ComsrvFunctions(functions) if functions else site.functions
    server = build(calls, {1001: runner}, options, rows, free_port())
    await server.open()
    site.stack.push_async_callback(server.close)
    return server


async def mbpoll(server: ModbusServer, *arguments: str) -> str:
    """Read once with mbpoll, which counts addresses from 1."""
    command = ("mbpoll", "-1", "-q", "-p", str(server.port), *arguments, "127.0.0.1")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return output.decode()


def master(server: ModbusServer) -> ModbusClient:
    """Return pyModbusTCP's client; it blocks, so it is used in a thread."""
    return ModbusClient(host="127.0.0.1", port=server.port, timeout=5.0)


async def read_float(server: ModbusServer, address: int) -> float | None:
    words = await asyncio.to_thread(master(server).read_input_registers, address, 2)
    return None if words is None else float(decode_ieee(word_list_to_long(words)[0]))


async def attempt(server: ModbusServer, call: str, *arguments: Any) -> int:
    """Ask with pyModbusTCP; return 0, or the exception code of the answer."""
    asked = master(server)
    done = await asyncio.to_thread(getattr(asked, call), *arguments)
    return 0 if done else int(asked.last_except)


async def test_mbpoll_reads_values_with_their_quality_and_age(site: Site):
    server = await serve(site)
    assert "12.3" in await mbpoll(server, "-t", "3:float", "-B", "-r", "1")
    assert "-5" in await mbpoll(server, "-t", "3", "-r", "3")
    assert "192" in await mbpoll(server, "-t", "3", "-r", "20001")
    age = (await mbpoll(server, "-t", "3", "-r", "40001")).split("[40001]:")[1]
    assert int(age) <= 5
    assert "[1]: \t1" in await mbpoll(server, "-t", "1", "-r", "1")


async def test_a_write_is_a_command_of_the_network_and_answered_when_the_device_shows_it(site: Site):
    server = await serve(site)
    words = long_list_to_word([encode_ieee(42.5)])
    assert await attempt(server, "write_multiple_registers", 10, words) == 0
    assert site.device.registers[1, 3, 10] == 425
    assert await attempt(server, "write_single_coil", 5, True) == 0
    assert site.device.bits[1, 1, 0] is True
    commands = (await site.functions.commands({}))["items"]
    assert [(command["state"], command["source"]) for command in commands] == [
        ("verified", {"kind": "network", "name": "modbus 127.0.0.1"})
    ] * 2
    shown = await asyncio.to_thread(master(server).read_holding_registers, 10, 2)
    assert decode_ieee(word_list_to_long(shown)[0]) == 42.5


async def test_what_may_not_be_written_is_refused_and_changes_nothing(site: Site):
    server = await serve(site)
    before = dict(site.device.registers)
    assert await attempt(server, "write_multiple_registers", 12, [0, 0]) == 2, "not in the allow-list"
    assert await attempt(server, "write_single_register", 10, 1) == 2, "half a value"
    assert await attempt(server, "write_multiple_registers", 10, long_list_to_word([encode_ieee(100.5)])) == 3
    assert await attempt(server, "write_multiple_registers", 10, long_list_to_word([encode_ieee(float("nan"))])) == 3
    assert site.device.registers == before
    assert (await site.functions.commands({}))["items"] == []


async def test_a_master_of_another_network_may_only_read(site: Site):
    server = await serve(site, write_from=["10.0.0.0/8"])
    assert await attempt(server, "write_single_coil", 5, True) == 1
    assert await read_float(server, 0) is not None


async def test_a_device_that_refuses_or_does_not_answer_is_said(site: Site):
    server = await serve(site)
    site.device.frozen[1, 3, 10] = 0
    assert await attempt(server, "write_multiple_registers", 10, long_list_to_word([encode_ieee(42.5)])) == 4
    site.device.silent_units = {1}
    assert await attempt(server, "write_single_coil", 5, True) == 11


async def test_stale_values_answer_exception_11_and_come_back(site: Site):
    server = await serve(site)
    site.device.silent_units = {1}
    await site.becomes("T:1", "bad:timeout")
    assert await attempt(server, "read_input_registers", 0, 2) == 11
    assert await attempt(server, "read_input_registers", 20_000, 2) == 0, "the quality can be read"
    site.device.silent_units = set()
    await site.becomes("T:1", "12.300000")

    async def answers() -> bool:
        return await read_float(server, 0) is not None

    await wait_until(answers, "the value is served again")


async def test_held_values_say_that_they_are_bad(site: Site):
    server = await serve(site, stale="hold")
    site.device.silent_units = {1}
    await site.becomes("T:1", "bad:timeout")
    value = await read_float(server, 0)
    assert value is not None
    assert abs(value - 12.3) < 1e-5
    assert await asyncio.to_thread(master(server).read_input_registers, 20_000, 1) == [0]


async def test_a_redis_that_is_away_makes_everything_stale(site: Site):
    away = client.connect(f"redis://127.0.0.1:{free_port()}")
    site.stack.push_async_callback(away.aclose)
    server = await serve(site, functions=Functions(away))
    assert await attempt(server, "read_input_registers", 0, 2) == 11
    assert await attempt(server, "write_single_coil", 5, True) == 11


async def test_requests_that_come_in_one_segment_are_answered_in_order(site: Site):
    server = await serve(site)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    asked = [(7, 4, 2, 1), (8, 3, 500, 1), (9, 2, 0, 1)]
    writer.write(
        b"".join(
            struct.pack(">HHHBBHH", number, 0, 6, 1, code, address, count) for number, code, address, count in asked
        )
    )
    answers = []
    for _ in asked:
        number, _, length, _ = struct.unpack(">HHHB", await reader.readexactly(7))
        answers.append((number, await reader.readexactly(length - 1)))
    assert answers == [(7, b"\x04\x02\xff\xfb"), (8, b"\x83\x02"), (9, b"\x02\x01\x01")]
    writer.close()


async def test_what_is_not_served_has_its_own_exception(site: Site):
    server = await serve(site)
    assert await attempt(server, "read_input_registers", 3, 1) == 2, "an address between the rows"
    assert await attempt(server, "read_coils", 0, 1) == 2
    asked = master(server)
    asked.unit_id = 9
    await asyncio.to_thread(asked.read_input_registers, 0, 2)
    assert asked.last_except == 10
    asked.unit_id = 255
    assert await asyncio.to_thread(asked.read_input_registers, 0, 2)


async def test_limits_of_connections_and_foreign_bytes(site: Site):
    server = await serve(site, max_clients=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    async def known() -> bool:
        return len(server.document()["clients"]) == 1

    await wait_until(known, "the first client is known")
    second, unused = await asyncio.open_connection("127.0.0.1", server.port)
    assert await second.read() == b""
    unused.close()
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    assert server.document()["counts"]["foreign_frames"] == 1
    assert server.document()["counts"]["refused_connections"] == 1
