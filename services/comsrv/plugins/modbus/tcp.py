"""The protocol modbus_tcp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from libs.clock import now_ms
from libs.errors import InternalError
from libs.points import PointKind
from libs.validation import Model
from services.comsrv.capacity import TURNAROUND_MS
from services.comsrv.channel import Channel, Point, Polling
from services.comsrv.contract import (
    MAX_TEXT_BYTES,
    Block,
    Capabilities,
    ComBase,
    Cost,
    Knowledge,
    MalformedError,
    Outline,
    ReadBack,
    Reading,
    Span,
    Trial,
    Write,
)
from services.comsrv.plugins.modbus import joining, planner, trying, writing
from services.comsrv.plugins.modbus.checks import check, check_length
from services.comsrv.plugins.modbus.client import Client
from services.comsrv.plugins.modbus.links import place_of
from services.comsrv.plugins.modbus.mapping import MAX_READ, READS, Mapping, Wire, resolve
from services.comsrv.plugins.modbus.parameters import TcpParameters, Timing


class ModbusTcp(ComBase):
    """Modbus over TCP: function codes 1 to 6, 15, 16, 22 and 23."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    description: ClassVar[str] = "Modbus TCP, function codes 1 to 6, 15, 16, 22 and 23"
    parameters: ClassVar[type[Timing]] = TcpParameters
    mapping: ClassVar[type[Model] | None] = Mapping
    # What a request costs before anything was learned; None where it costs more than any hole.
    prior: Cost | None = None

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point's mapping."""
        assert isinstance(mapping, Mapping)  # noqa: S101 - tables validated it as cls.mapping
        assert isinstance(parameters, cls.parameters)  # noqa: S101 - and these as cls.parameters
        found = ["expression: is for virtual channels"] if point.expression else []
        return found + check(kind, point, mapping, parameters.addressing)

    @classmethod
    def shared(cls, parameters: Model, port_base: int) -> tuple[str, dict[str, Any]] | None:
        """Return the endpoint and the settings of its link."""
        assert isinstance(parameters, cls.parameters)  # noqa: S101 - the caller validated them as these
        place = place_of(parameters, port_base)
        return ":".join(place.key[1:]).rstrip(":"), place.settings.declared

    @classmethod
    def check_length(
        cls, kind: PointKind, point: Point, mapping: Model, parameters: Model, polling: Polling
    ) -> list[str]:
        """Return what is wrong with a value longer than a request of its unit may be."""
        assert isinstance(mapping, Mapping)  # noqa: S101 - as in check
        assert isinstance(parameters, cls.parameters)  # noqa: S101 - as in check
        return check_length(kind, point, mapping, parameters.addressing, polling)

    @classmethod
    def room(cls, point: Point) -> tuple[int, bool]:
        """Return what the registers of a text hold."""
        mapping = Mapping.model_validate(point.mapping)
        each = 1 if "0" in mapping.byte_order else 2
        return min(each * mapping.width, MAX_TEXT_BYTES), mapping.encoding == "ascii"

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Plan the blocks."""
        parameters = self.parameters.model_validate(channel.parameters)
        self._client = Client(parameters, port_base, f"channel {channel.id}")
        self.line, self.traffic = self._client.line, self._client.traffic
        self._lay_out(channel, parameters)
        self.timeout_ms, self.speed = parameters.timeout_ms, self._client.speed
        if self.speed.character_s:
            # The arithmetic of a serial line, until the devices' own traffic says more.
            frame_s = (self.speed.request_bytes + self.speed.answer_bytes) * self.speed.character_s
            fixed_ms = 1000 * (frame_s + 2 * self.speed.gap_s + self.speed.pause_s) + TURNAROUND_MS
            self.prior = Cost(fixed_ms, 2000 * self.speed.character_s)
        self._polling = channel.polling
        self.blocks = self.replan(Knowledge())

    def _lay_out(self, channel: Channel, parameters: Timing) -> None:
        """Resolve where each point stands."""

        def place(kind: PointKind, point: Point) -> Wire:
            mapping = Mapping.model_validate(point.mapping)
            # Asked for where it counts alone: there may be 100,000 points.
            scaled = mapping.scale_register is not None
            longest = channel.polling.of(mapping.slave_id).max_registers if scaled else MAX_READ
            return resolve(kind, point, mapping, parameters.addressing, longest)

        wires = {kind: {point.id: place(kind, point) for point in channel.points.of(kind)} for kind in PointKind}
        self._wires = wires
        self._readable = [wire for kind in PointKind if kind.readable for wire in wires[kind].values()]
        self._runs = joining.runs(wire for kind in PointKind if not kind.readable for wire in wires[kind].values())

    def adopt(self, channel: Channel) -> bool:
        """Resolve the points anew; the link stays as it is."""
        self._lay_out(channel, self.parameters.model_validate(channel.parameters))
        return True

    async def connect(self) -> None:
        """Connect, or raise NotConnectedError."""
        await self._client.connect(self.reconnect_max_ms)

    async def read_batch(self, block: Block) -> Reading:
        """Read a block with one request."""
        return await self._read(block, None)

    async def read_within(self, block: Block, timeout_ms: int) -> Reading:
        """Read a block and wait at most so long for the answer, once."""
        return await self._read(block, timeout_ms)

    async def _read(self, block: Block, timeout_ms: int | None) -> Reading:
        request: planner.Request = block.plan
        decoder = request.decoder
        data, at_ms = await (self._read_scaled if request.far else self._read_plain)(request, timeout_ms)
        values, quality = decoder.decode(data)
        return Reading(at_ms, values, quality, decoder.texts)

    async def _read_plain(self, request: planner.Request, timeout_ms: int | None) -> tuple[bytes, int]:
        data = await self._client.read(request.unit, request.code, request.address, request.count, timeout_ms)
        return data, now_ms()

    async def _read_scaled(self, request: planner.Request, timeout_ms: int | None) -> tuple[bytes, int]:
        """Read a block whose scales need requests of their own, which follow.

        Values count when their scales are after them what they were before, in the poll before as a rule.
        """
        scales = request.scales or await self._scales(request, timeout_ms)
        for _ in range(2):
            data, at_ms = await self._read_plain(request, timeout_ms)
            before, scales = scales, await self._scales(request, timeout_ms)
            request.scales = scales
            if scales == before:
                return data + scales, at_ms
        raise MalformedError("the scale of its values changes while they are read")

    async def _scales(self, request: planner.Request, timeout_ms: int | None) -> bytes:
        found = [
            await self._client.read(request.unit, request.code, stretch.address, stretch.registers, timeout_ms)
            for stretch in request.far
        ]
        return b"".join(found)

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Un-scale, round and range-check; raise InvalidError."""
        return Write(kind, point, value, writing.prepare(self._wires[kind][point.id], value))

    def prepare_text(self, kind: PointKind, point: Point, text: str) -> Write:
        """Make the bytes of a text; raise InvalidError."""
        return Write(kind, point, text, writing.prepare_text(self._wires[kind][point.id], text))

    async def write_point(self, write: Write) -> None:
        """Send the write and await the answer."""
        await writing.write(self._client, _planned(write))

    def unit_of(self, write: Write) -> str:
        """Return the unit of a write."""
        return str(_planned(write).wire.unit)

    def neighbours(self, write: Write) -> tuple[str, ...]:
        """Return the points whose addresses touch, one after the other."""
        return self._runs.get(f"{write.kind}:{write.point.id}", ())

    def together(self, writes: Sequence[Write]) -> list[list[Write]]:
        """Put writes of neighboring addresses together."""
        return joining.together(writes)

    async def write_together(self, writes: Sequence[Write]) -> None:
        """Send them with function code 15 or 16."""
        await joining.write_together(self._client, writes)

    async def read_back(self, write: Write) -> ReadBack:
        """Read the written address, or the one declared for it, and compare what was written."""
        return await writing.read_back(self._client, _planned(write))

    def pieces(self, block: Block) -> int:
        """Return how many values, those of the very same addresses counted once, a block has."""
        return planner.pieces(block)

    def part(self, block: Block, start: int, stop: int) -> Block:
        """Return the block of some values of a block."""
        return planner.part(block, start, stop)

    def span(self, block: Block) -> Span:
        """Return what a block's request reads."""
        return planner.span(block)

    def length(self, block: Block) -> float:
        """Return how many registers, or sixteen bits each, a block's request reads; 0 where others follow it."""
        request: planner.Request = block.plan
        return 0.0 if request.far else planner.length(request.code, request.count)

    def replan(self, knowledge: Knowledge) -> tuple[Block, ...]:
        """Plan the blocks with what was learned."""
        return planner.plan(self._readable, self._polling, knowledge, self.prior)

    def outline(self, knowledge: Knowledge) -> Sequence[Outline]:
        """Plan the requests, without their decoders."""
        return planner.outline(self._readable, self._polling, knowledge, self.prior)

    async def try_point(self, kind: PointKind, point: Point) -> Trial:
        """Read the registers of the point; of one that is written, what the device holds."""
        return await trying.try_wire(self._client, self._wires[kind][point.id])

    async def read_registers(self, unit: int, code: int, address: int, count: int) -> list[int]:
        """Read registers or bits as they are."""
        return await trying.read_numbers(self._client, unit, code, address, count)

    async def write_registers(self, unit: int, code: int, address: int, values: list[int]) -> None:
        """Write registers or bits as they are."""
        await trying.write_numbers(self._client, unit, code, address, values)

    def written_by(self, unit: int, code: int, address: int, count: int) -> str | None:
        """Return a point that writes one of these addresses."""
        table = READS.get(code)
        for kind in (PointKind.CONTROL, PointKind.ADJUSTMENT):
            for wire in self._wires[kind].values():
                if (wire.unit, wire.read_code) == (unit, table) and address < wire.end and wire.start < address + count:
                    return f"{kind}:{wire.point.id}"
        return None

    async def close(self) -> None:
        """Leave the link; its last channel closes the connection."""
        await self._client.close()


def _planned(write: Write) -> writing.Planned:
    if not isinstance(write.plan, writing.Planned):
        raise InternalError("a write that was not prepared")
    return write.plan
