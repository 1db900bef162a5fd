"""The protocol modbus_tcp."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from libs.clock import now_ms
from libs.errors import InternalError
from libs.points import PointKind
from libs.services import resolve_port
from libs.validation import Model
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import Block, Capabilities, ComBase, ReadBack, Reading, Write
from services.comsrv.plugins.modbus import codec, planner
from services.comsrv.plugins.modbus.client import Client
from services.comsrv.plugins.modbus.mapping import Addressing, Mapping, Wire, check, resolve


class Parameters(Model):
    """Parameters of a modbus_tcp channel."""

    host: str = Field(min_length=1)
    port: int | str = Field(502, description="a number, or base+20 to count from the port base")
    timeout_ms: int = Field(1000, ge=10, le=60_000, description="for connecting and for each answer")
    addressing: Addressing = "zero"


class ModbusTcp(ComBase):
    """Modbus over TCP: function codes 1 to 6, 15 and 16."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    description: ClassVar[str] = "Modbus TCP, function codes 1 to 6, 15 and 16"
    parameters: ClassVar[type[Model]] = Parameters
    mapping: ClassVar[type[Model] | None] = Mapping

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point's mapping."""
        assert isinstance(mapping, Mapping)  # noqa: S101 - tables validated it as cls.mapping
        assert isinstance(parameters, Parameters)  # noqa: S101 - and these as cls.parameters
        found = ["expression: is for virtual channels"] if point.expression else []
        return found + check(kind, point, mapping, parameters.addressing)

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Plan the blocks."""
        parameters = Parameters.model_validate(channel.parameters)
        self._client = Client(parameters.host, resolve_port(parameters.port, port_base), parameters.timeout_ms)
        wires: dict[PointKind, dict[int, Wire]] = {
            kind: {
                point.id: resolve(kind, point, Mapping.model_validate(point.mapping), parameters.addressing)
                for point in channel.points.of(kind)
            }
            for kind in PointKind
        }
        self._wires = wires
        readable = [wire for kind in PointKind if kind.readable for wire in wires[kind].values()]
        self.blocks = planner.plan(readable, channel.polling)

    async def connect(self) -> None:
        """Connect, or raise NotConnectedError."""
        await self._client.connect()

    async def read_batch(self, block: Block) -> Reading:
        """Read a block with one request."""
        request: planner.Request = block.plan
        decoder = request.decoder
        data = await self._client.read(request.unit, request.code, request.address, request.count, decoder.byte_count)
        at_ms = now_ms()
        values, quality = decoder.decode(data)
        return Reading(at_ms, values, quality)

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Un-scale, round and range-check; raise InvalidError."""
        wire = self._wires[kind][point.id]
        return Write(kind, point, value, (wire, codec.encode(wire, value)))

    async def write_point(self, write: Write) -> None:
        """Send the write and await the answer."""
        wire, data = _planned(write)
        if wire.is_bit:
            await self._client.write_bit(wire.unit, wire.code, wire.address, on=data != bytes(2))
        else:
            await self._client.write_registers(wire.unit, wire.code, wire.address, data)

    async def read_back(self, write: Write) -> ReadBack:
        """Read the written address, or the one declared for it, and compare the bytes."""
        wire, data = _planned(write)
        byte_count = 1 if wire.is_bit else 2 * wire.width
        count = 1 if wire.is_bit else wire.width
        found = await self._client.read(wire.unit, wire.read_code, wire.verify_address, count, byte_count)
        if wire.is_bit:
            found = bytes((0, found[0] & 1))
        return ReadBack(codec.from_device(wire, found), matches=found == data)

    def split(self, block: Block) -> tuple[Block, ...]:
        """Take a block apart that the device refuses."""
        return planner.split(block)

    async def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _planned(write: Write) -> tuple[Wire, bytes]:
    if not isinstance(write.plan, tuple):
        raise InternalError("a write that was not prepared")
    wire, data = write.plan
    return wire, data
