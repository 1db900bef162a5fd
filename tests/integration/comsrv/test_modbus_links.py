"""Links: one connection for all channels of an endpoint, fallback and return, frames that are no answer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from libs.points import PointKind
from services.comsrv.channel import Channel
from services.comsrv.contract import ComBase, MalformedError, NoAnswerError, NotConnectedError, UnreachableError
from services.comsrv.plugins.modbus.tcp import ModbusTcp
from services.comsrv.tables import check_channel
from tests.integration.comsrv.device import Device
from tests.integration.comsrv.test_modbus_tcp import point, row
from tests.support.servers import free_port
from tests.support.wait import wait_until


def channel(number: int, listening: int, unit: int = 1, **parameters: Any) -> Channel:
    """Return a channel of one register of a unit, and one to write."""
    mapping = {**row(3, 0, "uint16"), "slave_id": unit}
    document = {
        "id": number,
        "name": f"channel {number}",
        "protocol": "modbus_tcp",
        "parameters": {"host": "127.0.0.1", "port": listening, "timeout_ms": 800, **parameters},
        "points": {"T": [point(1, mapping)], "A": [point(1, {**mapping, "function_code": 6})]},
    }
    return Channel.model_validate(document)


class Plugins:
    """Plugins that are closed at the end."""

    def __init__(self) -> None:
        self.all: list[ModbusTcp] = []

    async def __call__(self, declared: Channel, *, connect: bool = True) -> ModbusTcp:
        plugin = ModbusTcp()
        self.all.append(plugin)
        await plugin.initialize(declared, port_base=6000)
        if connect:
            await plugin.connect()
        return plugin


@pytest.fixture
async def plugins() -> AsyncIterator[Plugins]:
    found = Plugins()
    yield found
    for plugin in found.all:
        await plugin.close()


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    found = Device()
    for unit in (1, 2, 3):
        found.set_registers(0, 10 * unit, unit=unit)
    await found.start()
    yield found
    await found.stop()


async def value(plugin: ComBase) -> float:
    return float((await plugin.read_batch(plugin.blocks[0])).values[0])


def rejected(plugin: ComBase) -> dict[str, int]:
    assert plugin.traffic is not None
    return dict(plugin.traffic.rejected)


# Sharing.


async def test_channels_of_one_endpoint_share_one_connection(device: Device, plugins: Plugins):
    one, two = await plugins(channel(1, device.port)), await plugins(channel(2, device.port, unit=2))
    device.delay_s = 0.01
    assert await asyncio.gather(value(one), value(two), value(one)) == [10.0, 20.0, 10.0]
    assert (device.connections, device.most_in_flight) == (1, 1)
    assert one.line is two.line
    assert one.traffic is two.traffic


async def test_who_leaves_does_not_drop_the_others(device: Device, plugins: Plugins):
    one, two = await plugins(channel(1, device.port)), await plugins(channel(2, device.port, unit=2))
    await one.close()
    assert await value(two) == 20.0
    await one.connect()
    assert await value(one) == 10.0
    assert device.connections == 1
    await one.close()
    await two.close()

    async def gone() -> bool:
        return device.open == 0

    await wait_until(gone, "the last one closes the connection")


async def test_a_request_whose_asker_is_gone_is_waited_for(device: Device, plugins: Plugins):
    """The device is busy with it, so nobody else's request goes out before its answer."""
    one, two = await plugins(channel(1, device.port)), await plugins(channel(2, device.port, unit=2))
    device.delay_s = 0.1
    asking = asyncio.create_task(value(one))

    async def asked() -> bool:
        return device.in_flight == 1

    await wait_until(asked, "the request is with the device")
    asking.cancel()
    assert await value(two) == 20.0
    assert device.most_in_flight == 1
    assert rejected(two) == {}


async def test_a_name_gives_a_connection_of_ones_own(device: Device, plugins: Plugins):
    one = await plugins(channel(1, device.port))
    two = await plugins(channel(2, device.port, unit=2, connection="second"))
    assert await asyncio.gather(value(one), value(two)) == [10.0, 20.0]
    assert device.connections == 2


async def test_channels_that_do_not_agree_on_their_link_are_told(device: Device, plugins: Plugins):
    one = await plugins(channel(1, device.port))
    two = await plugins(channel(2, device.port, unit=2, pause_ms=5), connect=False)
    with pytest.raises(NotConnectedError, match=r"shared with channel 1, which has parameters\.pause_ms 0, not 5"):
        await two.connect()
    await one.close()
    await two.connect()
    assert await value(two) == 20.0


async def test_a_command_of_one_channel_goes_before_the_polls_of_another(device: Device, plugins: Plugins):
    one, two = await plugins(channel(1, device.port)), await plugins(channel(2, device.port, unit=2))
    device.delay_s = 0.01
    order: list[str] = []

    async def poll(name: str) -> None:
        assert one.line is not None
        async with one.line.for_poll():
            await value(one)
            order.append(name)

    async def command() -> None:
        declared = channel(2, device.port, unit=2)
        write = two.prepare_write(PointKind.ADJUSTMENT, declared.points.A[0], 7.0)
        assert two.line is not None
        async with two.line.for_command():
            await two.write_point(write)
            order.append("command")

    polls = [asyncio.create_task(poll(f"poll {number}")) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.gather(command(), *polls)
    assert order == ["poll 0", "command", "poll 1", "poll 2"]


# Connections.


async def test_no_second_connection_while_the_device_has_one(device: Device, plugins: Plugins):
    """A device that takes one client: reloads one after the other, and its pause between two connections."""
    declared = channel(1, device.port, reconnect_pause_ms=50)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        plugin = await plugins(declared)
        assert await value(plugin) == 10.0
        await plugin.close()
        closed = loop.time()
    plugin = await plugins(declared)
    assert loop.time() - closed >= 0.05
    assert (device.connections, device.most_connections) == (4, 1)


async def test_a_slow_device_gets_its_pauses(device: Device, plugins: Plugins):
    loop = asyncio.get_running_loop()
    plugin = await plugins(channel(1, device.port, connect_pause_ms=60, pause_ms=40))
    began = loop.time()
    assert await value(plugin) == 10.0
    first = loop.time()
    assert await value(plugin) == 10.0
    assert await value(plugin) == 10.0
    assert first - began >= 0.055
    assert loop.time() - first >= 0.075


async def test_attempts_in_vain_are_counted_once_for_all_channels(device: Device, plugins: Plugins):
    await device.stop()
    one = await plugins(channel(1, device.port), connect=False)
    two = await plugins(channel(2, device.port, unit=2), connect=False)
    outcomes = await asyncio.gather(one.connect(), two.connect(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotConnectedError, NotConnectedError]
    assert one.traffic is not None
    assert one.traffic.connection_failures == 1
    pauses = [outcome.retry_after_ms for outcome in outcomes if isinstance(outcome, NotConnectedError)]
    assert pauses[0] == pauses[1]
    await device.start()
    await asyncio.gather(one.connect(), two.connect())
    assert await asyncio.gather(value(one), value(two)) == [10.0, 20.0]
    assert device.connections == 1


async def test_a_connection_without_any_answer_is_an_attempt_in_vain(device: Device, plugins: Plugins):
    device.silent_units = {1}
    plugin = await plugins(channel(1, device.port, timeout_ms=150))
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            await value(plugin)
    with pytest.raises(NotConnectedError) as caught:
        await value(plugin)
    assert caught.value.sent
    assert caught.value.retry_after_ms
    assert caught.value.retry_after_ms > 0


async def test_dead_units_in_a_row_do_not_cost_a_living_one_its_connection(device: Device, plugins: Plugins):
    """Three channels of dead units time out one after the other; the fourth keeps its connection."""
    device.silent_units = {4, 5, 6}
    well = await plugins(channel(1, device.port))
    assert await value(well) == 10.0
    for unit in (4, 5, 6):
        dead = await plugins(channel(unit, device.port, unit=unit, timeout_ms=150))
        with pytest.raises(NoAnswerError):
            await value(dead)
    assert await value(well) == 10.0
    assert device.connections == 1


# Fallback.


async def test_the_fallback_is_used_while_the_first_is_away_and_left_when_it_is_back(device: Device, plugins: Plugins):
    other = Device()
    other.set_registers(0, 99)
    await other.start()
    fallback = {"host": "127.0.0.1", "port": other.port}
    await device.stop()
    plugin = await plugins(channel(1, device.port, fallback=fallback, return_after_s=1))
    assert await value(plugin) == 99.0
    assert plugin.traffic is not None
    assert plugin.traffic.endpoint == f"127.0.0.1:{other.port}"
    await device.start()

    async def returned() -> bool:
        return await value(plugin) == 10.0

    await wait_until(returned, "the first endpoint is used again")
    assert (device.connections, other.connections, other.open) == (1, 1, 0)
    await other.stop()


async def test_a_return_in_vain_goes_on_with_the_fallback(device: Device, plugins: Plugins):
    nobody = free_port()
    fallback = {"host": "127.0.0.1", "port": device.port}
    plugin = await plugins(channel(1, nobody, fallback=fallback, return_after_s=1))
    assert plugin.traffic is not None

    async def tried() -> bool:
        assert await value(plugin) == 10.0
        assert plugin.traffic is not None
        return plugin.traffic.connection_failures == 2

    await wait_until(tried, "the first endpoint is tried again")
    assert await value(plugin) == 10.0
    assert device.most_connections == 1


async def test_a_first_endpoint_that_takes_connections_and_says_nothing_is_left(device: Device, plugins: Plugins):
    other = Device()
    other.set_registers(0, 99)
    await other.start()
    device.silent_units = {1}
    fallback = {"host": "127.0.0.1", "port": other.port}
    plugin = await plugins(channel(1, device.port, fallback=fallback, timeout_ms=150))

    async def answered() -> bool:
        try:
            return await value(plugin) == 99.0
        except NotConnectedError:
            await plugin.connect()
        except NoAnswerError:
            pass
        return False

    await wait_until(answered, "the fallback answers")
    assert device.open == 0
    await other.stop()


# Answers that are none.


@pytest.mark.parametrize(
    ("twist", "kind"),
    [
        (lambda frame: other_header(frame, transaction=4711) + frame, "wrong_transaction"),
        (lambda frame: other_header(frame, unit=9) + frame, "wrong_unit"),
        (lambda frame: frame[:7] + b"\x04" + frame[8:] + frame, "wrong_function"),
        (lambda frame: b"\x00\x01\x02\x03 garbage" + frame, "malformed"),
    ],
)
async def test_what_comes_before_the_answer_is_passed_over(
    device: Device, plugins: Plugins, twist: Callable[[bytes], bytes], kind: str
):
    plugin = await plugins(channel(1, device.port))
    device.twists.append(twist)
    assert await value(plugin) == 10.0
    assert rejected(plugin) == {kind: 1}
    assert await value(plugin) == 10.0
    assert device.connections == 1


async def test_a_doubled_answer_is_taken_once(device: Device, plugins: Plugins):
    plugin = await plugins(channel(1, device.port))
    device.twists.append(lambda frame: frame + frame)
    assert await value(plugin) == 10.0
    device.set_registers(0, 11)
    assert await value(plugin) == 11.0
    assert rejected(plugin) == {"duplicate": 1}


async def test_a_late_answer_is_known_as_such(device: Device, plugins: Plugins):
    plugin = await plugins(channel(1, device.port))
    device.answer_late_once = True
    with pytest.raises(NoAnswerError):
        await value(plugin)
    device.set_registers(0, 11)
    assert await value(plugin) == 11.0
    assert rejected(plugin) == {"late": 1}


async def test_an_answer_of_the_wrong_length_is_no_value(device: Device, plugins: Plugins):
    plugin = await plugins(channel(1, device.port))
    device.twists.append(lambda frame: frame[:4] + struct.pack(">HBBBHH", 7, frame[6], 3, 4, 1, 2))
    with pytest.raises(MalformedError, match="4 bytes where 2 were asked for"):
        await value(plugin)
    assert rejected(plugin) == {"wrong_byte_count": 1}
    assert await value(plugin) == 10.0


async def test_half_an_answer_does_not_spoil_the_next(device: Device, plugins: Plugins):
    plugin = await plugins(channel(1, device.port))
    device.twists.append(lambda frame: frame[:9])
    with pytest.raises(NoAnswerError, match="only 9 bytes"):
        await value(plugin)
    assert await value(plugin) == 10.0
    assert rejected(plugin) == {"partial": 1}


async def test_half_an_answer_and_then_the_whole_is_no_value(device: Device, plugins: Plugins):
    """The first bytes of the second would pass for the last ones of the first."""
    plugin = await plugins(channel(1, device.port))
    device.twists.append(lambda frame: frame[:10] + frame)
    with pytest.raises(MalformedError, match="runs into another frame"):
        await value(plugin)
    assert rejected(plugin) == {"malformed": 1}
    assert await value(plugin) == 10.0


async def test_any_unit_takes_answers_that_name_another(device: Device, plugins: Plugins):
    plugin = await plugins(channel(1, device.port, any_unit=True))
    device.twists.append(lambda frame: other_header(frame, unit=255))
    assert await value(plugin) == 10.0


async def test_reads_are_tried_again_and_writes_are_not(device: Device, plugins: Plugins):
    declared = channel(1, device.port, retries=2)
    plugin = await plugins(declared)
    device.twists.extend([lambda _: b"", lambda _: b""])
    assert await value(plugin) == 10.0
    assert plugin.traffic is not None
    assert (plugin.traffic.retries, plugin.traffic.timeouts) == (2, 2)
    device.twists.append(lambda _: b"")
    write = plugin.prepare_write(PointKind.ADJUSTMENT, declared.points.A[0], 7.0)
    with pytest.raises(NoAnswerError):
        await plugin.write_point(write)
    assert [request[1] for request in device.requests] == [3, 3, 3, 6]


async def test_a_gateway_that_does_not_reach_its_unit_is_a_silent_unit(device: Device, plugins: Plugins):
    plugin = await plugins(channel(1, device.port))
    device.twists.append(lambda frame: frame[:4] + bytes((0, 3, frame[6], 0x83, 11)))
    with pytest.raises(UnreachableError) as caught:
        await value(plugin)
    assert caught.value.quality == "bad:exception_11"
    assert plugin.traffic is not None
    assert plugin.traffic.statistics()["exceptions"] == {"11": 1}


# Parameters.


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"port": 70_000}, "parameters.port: 70000 is no port"),
        ({"retries": 11}, "parameters.retries"),
        ({"fallback": {"host": "x", "port": "base-1"}}, "parameters.fallback.port: 'base-1' is no port"),
        ({"baud_rate": 9600}, "parameters.baud_rate: unknown key"),
        ({"conection": "x"}, "parameters.conection: unknown key; did you mean connection?"),
    ],
)
def test_wrong_parameters_are_refused_with_the_field(parameters: dict[str, Any], message: str):
    problems = [str(problem) for problem in check_channel(channel(1, 502, **parameters), 6000)]
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"port": "ttyUSB0"}, "parameters.port: 'ttyUSB0' is no device file"),
        ({"data_bits": 7}, "parameters.data_bits: an RTU frame has 8 data bits, not 7"),
        ({"parity": "E"}, "parameters.parity"),
        ({"stop_bits": 3}, "parameters.stop_bits"),
        ({"frame_gap_ms": -1}, "parameters.frame_gap_ms: -1 is not from 0 to 1000, nor auto"),
    ],
)
def test_wrong_serial_parameters_are_refused_with_the_field(parameters: dict[str, Any], message: str):
    document = channel(1, 502).model_dump(mode="json")
    document |= {"protocol": "modbus_rtu", "parameters": {"port": "/dev/ttyUSB0", **parameters}}
    problems = [str(problem) for problem in check_channel(Channel.model_validate(document), 6000)]
    assert any(message in problem for problem in problems), problems


def other_header(frame: bytes, transaction: int | None = None, unit: int | None = None) -> bytes:
    """Return a frame with another transaction or unit."""
    head = frame[:2] if transaction is None else transaction.to_bytes(2, "big")
    return head + frame[2:6] + (frame[6:7] if unit is None else bytes((unit,))) + frame[7:]
