"""One Modbus connection: one transaction in flight, raw bytes out, our errors.

pymodbus does transport, framing and matching of answers to requests. Its per-register
decoding is left out: registered response classes keep the bytes (a block costs 30 us
instead of 100). Its retries, its reconnect task and the frame dump it logs on each
time-out are off: the poller decides what happens next.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from services.comsrv.contract import MalformedError, NoAnswerError, NotConnectedError, RefusedError

# After so many time-outs in a row without any answer the connection is taken for dead.
SILENCES: Final = 3
_EXCEPTIONS: Final = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "server device failure",
    5: "acknowledge", 6: "server device busy", 8: "memory parity error", 10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}  # fmt: skip
_READS: Final[dict[int, type[ModbusPDU]]] = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}


class _RawAnswer(ModbusPDU):
    """A read answer whose bytes are kept as they came."""

    rtu_byte_count_pos = 2
    raw: bytes = b""

    def decode(self, data: bytes) -> None:
        """Keep the data behind the byte count; a wrong count leaves nothing."""
        self.raw = data[1:] if data and data[0] == len(data) - 1 else b""


_RAW_ANSWERS: Final = [
    type(f"RawAnswer{code}", (_RawAnswer,), {"function_code": code, "__doc__": f"Answer to function code {code}."})
    for code in _READS
]


class Client:
    """A connection to a Modbus TCP server; `connect` again after NotConnectedError."""

    def __init__(self, host: str, port: int, timeout_ms: int) -> None:
        """Keep the address; nothing is connected yet."""
        self.address = f"{host}:{port}"
        self._host = host
        self._port = port
        self._timeout_s = timeout_ms / 1000
        self._client: ModbusBaseClient | None = None
        self._lock = asyncio.Lock()
        self._silences = 0
        # pymodbus writes the last 20 frames with each error; the poller says what matters.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

    async def connect(self) -> None:
        """Connect, or raise NotConnectedError."""
        self.close()
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection_changed,
        )
        for answer in _RAW_ANSWERS:
            client.register(answer)
        if not await client.connect():
            client.close()
            raise NotConnectedError(f"{self.address} can't be reached")
        self._client = client
        self._silences = 0

    def close(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def read(self, unit: int, code: int, address: int, count: int, byte_count: int) -> bytes:
        """Return the data bytes of a read answer.

        Raises:
            DeviceError: no connection, no answer, an exception code, or an answer of the wrong length.
        """
        answer = await self._transact(_READS[code](address=address, count=count, dev_id=unit))
        if not isinstance(answer, _RawAnswer) or len(answer.raw) != byte_count:
            raise MalformedError(f"{self.address} unit {unit}: wrong length of the answer to {count} from {address}")
        return answer.raw

    async def write_bit(self, unit: int, code: int, address: int, *, on: bool) -> None:
        """Write one coil with function code 5 or 15."""
        request = WriteSingleCoilRequest if code == 5 else WriteMultipleCoilsRequest
        await self._transact(request(address=address, bits=[on], dev_id=unit))

    async def write_registers(self, unit: int, code: int, address: int, data: bytes) -> None:
        """Write registers with function code 6 or 16; `data` is as it goes over the wire."""
        registers = [int.from_bytes(data[index : index + 2], "big") for index in range(0, len(data), 2)]
        request = WriteSingleRegisterRequest if code == 6 else WriteMultipleRegistersRequest
        await self._transact(request(address=address, registers=registers, dev_id=unit))

    async def _transact(self, request: ModbusPDU) -> ModbusPDU:
        """Send one request and await its answer; an exception code is an answer too."""
        async with self._lock:
            client = self._client
            if client is None or not client.connected:
                raise NotConnectedError(f"{self.address} is not connected")
            try:
                answer: ModbusPDU = await client.execute(False, request)
            except ConnectionException as error:
                self.close()
                raise NotConnectedError(f"{self.address}: connection lost", sent=True) from error
            except ModbusException as error:
                raise self._silent(request, client) from error
        self._silences = 0
        if isinstance(answer, ExceptionResponse):
            code = answer.exception_code
            text = _EXCEPTIONS.get(code, "unknown exception")
            raise RefusedError(code, f"{self.address} unit {request.dev_id}: exception {code}, {text}")
        if answer.function_code != request.function_code:
            raise MalformedError(f"{self.address} unit {request.dev_id}: answer to another function code")
        return answer

    def _silent(self, request: ModbusPDU, client: ModbusBaseClient) -> NoAnswerError | NotConnectedError:
        """Return the error for a request without answer, and give up the connection when it seems dead.

        One dead unit behind a gateway must not cost the others their connection, so
        it takes several time-outs with no answer of any unit between them.
        """
        self._silences += 1
        if not client.connected or self._silences >= SILENCES:
            self.close()
            return NotConnectedError(f"{self.address}: {self._silences} requests without an answer", sent=True)
        return NoAnswerError(f"{self.address} unit {request.dev_id}: no answer in {self._timeout_s:g} s")

    def _connection_changed(self, connected: bool) -> None:
        """Fail a waiting request at once when the connection is lost; pymodbus would let it time out."""
        client = self._client
        if not connected and client is not None and self._lock.locked():
            future = client.ctx.response_future
            if not future.done():
                future.set_exception(ConnectionException("lost"))
