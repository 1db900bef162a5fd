"""The plugin: blocks a device, arrays from replies, writes, and the stream beside the polls.

Every point is polled; what the gateway pushes comes earlier, with the device's own time, and the
next poll tells whether it still holds. So a gateway without a stream works, and a lost event is
made good by the next poll.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Final

from libs.errors import InvalidError
from libs.numbers import EXACT_LIMIT
from libs.points import PointKind
from libs.services import resolve_port
from libs.tasks import cancel
from libs.validation import Model
from services.comsrv.backoff import Backoff
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import (
    QUALITY,
    Block,
    Capabilities,
    ComBase,
    DeviceError,
    Knowledge,
    MalformedError,
    NotConnectedError,
    ReadBack,
    Reading,
    RefusedError,
    Sink,
    Write,
)
from services.comsrv.plugins.grpc.parameters import Mapping, Parameters
from services.comsrv.plugins.grpc.values import Addressed, block_of, events_of, reading_of, stream_request

if TYPE_CHECKING:
    from services.comsrv.plugins.grpc import gateway_pb2 as pb
    from services.comsrv.plugins.grpc.link import Link

log = logging.getLogger(__name__)

# Messages of the stream that are read ahead of Redis; behind them HTTP/2 holds the gateway back.
AHEAD: Final = 64
# Points of the channel that the gateway does not describe, as the log names them.
NAMED: Final = 5


class Grpc(ComBase):
    """A device gateway over gRPC."""

    capabilities: ClassVar[Capabilities] = Capabilities(subscribes=True)
    description: ClassVar[str] = "a device gateway in another process, over gRPC (gateway.proto)"
    parameters: ClassVar[type[Model]] = Parameters
    mapping: ClassVar[type[Model] | None] = Mapping

    @classmethod
    def missing(cls) -> str:
        """Say that grpcio is not installed, where it is not."""
        lacking = [
            package for module, package in (("grpc", "grpcio"), ("google.protobuf", "protobuf")) if not _has(module)
        ]
        text = "the protocol grpc needs {}: pip install 'voltageems[grpc]'"
        return text.format(" and ".join(lacking)) if lacking else ""

    @classmethod
    def check(cls, kind: PointKind, point: Point, mapping: Model | None, parameters: Model) -> list[str]:
        """Return what is wrong with a point."""
        _ = mapping, parameters
        found = []
        if point.family == "double":
            found.append("data_type: a gateway gives a double point as two states")
        if point.limits != "show":
            found.append("limits: what a gateway gives is shown as it is; let the gateway limit it")
        if point.family == "text" and not kind.readable:
            found.append("data_type: texts are read only")
        return found

    async def initialize(self, channel: Channel, *, port_base: int) -> None:
        """Plan the requests: those of a device and a poll group together, up to max_points each."""
        if problem := self.missing():
            raise InvalidError(problem)
        self._parameters = Parameters.model_validate(channel.parameters)
        self._port = resolve_port(self._parameters.port, port_base)
        self.timeout_ms = self._parameters.timeout_ms
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._again = asyncio.Event()
        self._cursor = ""
        self._plan(channel)

    def _plan(self, channel: Channel) -> None:
        self._points = [
            Addressed(kind, point, Mapping.model_validate(point.mapping))
            for kind in PointKind
            for point in channel.points.of(kind)
        ]
        groups: dict[tuple[str, str], list[Addressed]] = {}
        for found in self._points:
            if found.kind.readable:
                groups.setdefault((found.mapping.device, found.mapping.poll_group), []).append(found)
        size = self._parameters.max_points
        blocks = []
        for (device, group), members in groups.items():
            # Texts stand behind the numbers of all requests of the group.
            members.sort(key=lambda found: found.point.family == "text")
            for start in range(0, len(members), size):
                name = f"{device or 'read'}-{group}-{start // size}" if group else f"{device or 'read'}-{start // size}"
                blocks.append(block_of(name[-64:], device, group, members[start : start + size]))
        self.blocks = tuple(blocks)

    def adopt(self, channel: Channel) -> bool:
        """Take other points over; the stream is asked for anew, from where it was."""
        self._plan(channel)
        self._again.set()
        return True

    def replan(self, knowledge: Knowledge) -> tuple[Block, ...]:
        """Return the blocks of the present points; there is nothing to learn."""
        _ = knowledge
        return self.blocks

    # The connection.

    async def connect(self) -> None:
        """Connect and compare the gateway's points with the channel's."""
        from services.comsrv.plugins.grpc.link import Link

        link = Link(self._parameters, self._port)
        try:
            described = await link.open()
        except BaseException:
            await link.close()
            raise
        self._link = link
        self._connected.set()
        self._compare(described)

    def _compare(self, described: pb.Description) -> None:
        """Say in the log which points the gateway does not have: their quality says it too, with less reason."""
        there = {(point.device, point.name): point.writable for point in described.points}
        if not there:
            return
        wrong = [
            f"{found.kind}:{found.point.id} ({found.mapping.device}/{found.mapping.name})"
            for found in self._points
            if not there.get((found.mapping.device, found.mapping.name), False)
            and (not found.kind.readable or (found.mapping.device, found.mapping.name) not in there)
        ]
        if wrong:
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            text = "%s %s does not have these points, or they can't be written: %s%s"
            log.warning(text, described.name or "the gateway", described.version, ", ".join(wrong[:NAMED]), more)

    async def close(self) -> None:
        """Give the connection back."""
        link, self._link = self._link, None
        self._connected.clear()
        if link is not None:
            await link.close()

    def _standing(self) -> Link:
        if self._link is None:
            raise NotConnectedError("no connection")
        return self._link

    # Reading.

    async def read_batch(self, block: Block) -> Reading:
        """Read a block with one call."""
        return reading_of(block, await self._standing().read(block.plan.request))

    async def read_within(self, block: Block, timeout_ms: int) -> Reading:
        """Read a block and wait at most so long."""
        return reading_of(block, await self._standing().read(block.plan.request, timeout_ms / 1000))

    # Writing.

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Check and un-scale."""
        if not abs(value) <= EXACT_LIMIT:
            raise InvalidError(f"{value} is no number up to 2^53")
        if point.family == "bool" and value not in {0, 1}:
            raise InvalidError(f"{value:.15g} is neither 0 nor 1")
        if point.min is not None and value < point.min:
            raise InvalidError(f"{value:.15g} is below the minimum {point.min:.15g}")
        if point.max is not None and value > point.max:
            raise InvalidError(f"{value:.15g} is above the maximum {point.max:.15g}")
        raw = (
            float((value != 0) is not point.reverse) if point.family == "bool" else (value - point.offset) / point.scale
        )
        return Write(kind, point, value, plan=(Mapping.model_validate(point.mapping), raw))

    async def write_point(self, write: Write) -> None:
        """Write one point; the id lets a gateway know a write it has seen."""
        from services.comsrv.plugins.grpc import gateway_pb2

        mapping, raw = write.plan
        request = gateway_pb2.WriteRequest(id=uuid.uuid4().hex, device=mapping.device, name=mapping.name, number=raw)
        await self._standing().write(request)

    async def read_back(self, write: Write) -> ReadBack:
        """Read what was written, or the point that shows it."""
        mapping, raw = write.plan
        found = Addressed(
            write.kind, write.point, mapping.model_copy(update={"name": mapping.verify_name or mapping.name})
        )
        block = block_of("read-back", mapping.device, "", [found])
        reading = await self.read_batch(block)
        if QUALITY[int(reading.quality[0])].startswith("bad:"):
            raise MalformedError(f"{mapping.name} reads {QUALITY[int(reading.quality[0])]}")
        value = float(reading.values[0])
        tolerance = 1e-6 * abs(raw * write.point.scale) + 1e-9
        return ReadBack(value, matches=math.isclose(value, write.number, rel_tol=1e-6, abs_tol=tolerance))

    # The stream.

    async def subscribe(self, sink: Sink) -> None:
        """Hand on what the gateway pushes, over whatever connection stands, for ever."""
        backoff = Backoff(250, 10_000)
        while True:
            await self._connected.wait()
            link = self._standing()
            self._again.clear()
            listening = asyncio.create_task(self._listen(link, sink, backoff))
            others = [asyncio.create_task(self._again.wait()), asyncio.create_task(link.closed.wait())]
            try:
                await asyncio.wait({listening, *others}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancel(listening, *others)
            if not listening.cancelled() and (error := listening.exception()) is not None:
                if not isinstance(error, (DeviceError, ExceptionGroup)):
                    raise error
                log.log(logging.DEBUG if backoff.attempts else logging.INFO, "the stream ended: %s", error)
            if not self._again.is_set():
                await backoff.pause()

    async def _listen(self, link: Link, sink: Sink, backoff: Backoff) -> None:
        """Read the stream of one connection: messages ahead of Redis up to a bound, then the gateway waits."""
        points = [found for found in self._points if found.kind.readable and found.point.family != "text"]
        if not self._parameters.stream or not points:
            await link.closed.wait()
            return
        messages: asyncio.Queue[pb.Events | None] = asyncio.Queue(AHEAD)
        handing = asyncio.create_task(self._hand_on(points, messages, sink))
        try:
            async for message in link.listen(stream_request(points, self._cursor)):
                backoff.reset()
                if handing.done():
                    break
                await messages.put(message)
        except RefusedError as error:
            if not getattr(error, "unimplemented", False):
                raise
            log.info("the gateway pushes nothing; its points are polled")
            await link.closed.wait()
        finally:
            results = await cancel(handing)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _hand_on(self, points: list[Addressed], messages: asyncio.Queue[pb.Events | None], sink: Sink) -> None:
        """Hand events on in order; a cursor is kept once Redis has what came before it."""
        while True:
            batch = [await messages.get()]
            while not messages.empty():
                batch.append(messages.get_nowait())
            events = [event for message in batch if message is not None for event in events_of(points, message)]
            if events:
                await sink(events)
            self._cursor = next(
                (message.cursor for message in reversed(batch) if message and message.cursor), self._cursor
            )


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
