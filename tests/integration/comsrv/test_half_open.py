"""A connection that is dead without a word: the poller tries another one soon."""

from __future__ import annotations

import asyncio
from collections import Counter

from services.comsrv.channel import Polling
from services.comsrv.contract import NoAnswerError, NotConnectedError
from services.comsrv.plugins.modbus.tcp import ModbusTcp
from tests.integration.comsrv.site import meter
from tests.support.servers import free_port

REQUEST = 12
TIMEOUTS = (NoAnswerError, NotConnectedError)


class Device:
    """Answers on new connections; on those it had when it hung, never again."""

    def __init__(self) -> None:
        self.hung: set[int] = set()
        self.unanswered: Counter[int] = Counter()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                request = await reader.readexactly(REQUEST)
                if number in self.hung:
                    self.unanswered[number] += 1
                    continue
                count = int.from_bytes(request[10:12])
                pdu = bytes((request[7], 2 * count)) + bytes(2 * count)
                writer.write(request[:4] + (len(pdu) + 1).to_bytes(2) + request[6:7] + pdu)
        except asyncio.IncompleteReadError:
            writer.close()

    def hang(self) -> None:
        self.hung = set(range(1, self.connections + 1))


async def test_two_requests_without_an_answer_of_the_only_unit_end_the_connection():
    device, port = Device(), free_port()
    server = await asyncio.start_server(device.serve, "127.0.0.1", port)
    plugin = ModbusTcp()
    await plugin.initialize(meter(port, polling=Polling(interval_ms=50).model_dump()), port_base=6000)
    await plugin.connect()
    block = plugin.blocks[0]
    await plugin.read_batch(block)
    # The second time it hangs before the new connection has carried an answer.
    for _ in range(2):
        device.hang()
        kinds = []
        while not kinds or kinds[-1] is not NotConnectedError:
            try:
                await plugin.read_batch(block)
            except TIMEOUTS as error:
                kinds.append(type(error))
        assert kinds == [NoAnswerError, NotConnectedError]
        await plugin.connect()
    assert (await plugin.read_batch(block)).values.size == block.size
    assert device.unanswered == {1: 2, 2: 2}
    await plugin.close()
    server.close()
    await server.wait_closed()
