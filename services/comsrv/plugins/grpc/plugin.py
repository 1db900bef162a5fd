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
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.clock import now_ms
from libs.errors import InvalidError
from libs.numbers import EXACT_LIMIT
from libs.points import PointKind
from libs.services import resolve_port
from libs.validation import Model
from services.comsrv.backoff import Backoff
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import (
    GOOD,
    NAN,
    OUT_OF_RANGE,
    QUALITY,
    Block,
    Capabilities,
    Codes,
    ComBase,
    DeviceError,
    Event,
    Knowledge,
    MalformedError,
    NotConnectedError,
    ReadBack,
    Reading,
    RefusedError,
    Sink,
    Values,
    Write,
    quality_code,
    sections_of,
)
from services.comsrv.plugins.grpc.parameters import Mapping, Parameters

if TYPE_CHECKING:
    from services.comsrv.plugins.grpc import gateway_pb2 as pb
    from services.comsrv.plugins.grpc.link import Link

log = logging.getLogger(__name__)

# Messages of the stream that are read ahead of Redis; behind them HTTP/2 holds the gateway back.
AHEAD: Final = 64
# An instant of the gateway further than this from ours is not taken for the order of polls and events.
TOLERANCE_MS: Final = 2000
# Points of the channel that the gateway does not describe, as the log names them.
NAMED: Final = 5


class Addressed(NamedTuple):
    """A point with its address at the gateway."""

    kind: PointKind
    point: Point
    mapping: Mapping


class Plan(NamedTuple):
    """What a block's request says, and how its numbers become values."""

    request: pb.ReadRequest
    numbers: int
    scale: Values
    offset: Values
    states: NDArray[np.bool_]
    reverse: Values


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
                blocks.append(_block(name[-64:], device, group, members[start : start + size]))
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
        return _reading(block, await self._standing().read(block.plan.request))

    async def read_within(self, block: Block, timeout_ms: int) -> Reading:
        """Read a block and wait at most so long."""
        return _reading(block, await self._standing().read(block.plan.request, timeout_ms / 1000))

    # Writing.

    def prepare_write(self, kind: PointKind, point: Point, value: float) -> Write:
        """Check and un-scale."""
        if not abs(value) <= EXACT_LIMIT:
            raise InvalidError(f"{value} is no number up to 2^53")
        if point.family == "bool" and value not in {0, 1}:
            raise InvalidError(f"{value:g} is neither 0 nor 1")
        if point.min is not None and value < point.min:
            raise InvalidError(f"{value:g} is below the minimum {point.min:g}")
        if point.max is not None and value > point.max:
            raise InvalidError(f"{value:g} is above the maximum {point.max:g}")
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
        block = _block("read-back", mapping.device, "", [found])
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
                for task in (listening, *others):
                    task.cancel()
                await asyncio.gather(listening, *others, return_exceptions=True)
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
            async for message in link.listen(_stream_request(points, self._cursor)):
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
            handing.cancel()
            results = await asyncio.gather(handing, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _hand_on(self, points: list[Addressed], messages: asyncio.Queue[pb.Events | None], sink: Sink) -> None:
        """Hand events on in order; a cursor is kept once Redis has what came before it."""
        while True:
            batch = [await messages.get()]
            while not messages.empty():
                batch.append(messages.get_nowait())
            events = [event for message in batch if message is not None for event in _events(points, message)]
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


def _block(name: str, device: str, group: str, members: Sequence[Addressed]) -> Block:
    """Return a block whose numbers stand before its texts, kinds together."""
    from services.comsrv.plugins.grpc import gateway_pb2

    by_kind = sorted(members, key=lambda found: (found.point.family == "text", list(PointKind).index(found.kind)))
    numbers = [found for found in by_kind if found.point.family != "text"]
    texts = [found for found in by_kind if found.point.family == "text"]
    request = gateway_pb2.ReadRequest(
        device=device,
        numbers=[found.mapping.name for found in numbers],
        texts=[found.mapping.name for found in texts],
    )
    points = [found.point for found in numbers]
    plan = Plan(
        request,
        len(numbers),
        np.array([point.scale for point in points], np.float64),
        np.array([point.offset for point in points], np.float64),
        np.array([point.family == "bool" for point in points], np.bool_),
        np.array([float(point.reverse) for point in points], np.float64),
    )
    thresholds = np.array([found.point.threshold for found in by_kind], np.float64)
    return Block(name, device, sections_of([(found.kind, found.point) for found in by_kind]), thresholds, plan, group)


def _reading(block: Block, reply: pb.ReadReply) -> Reading:
    """Make arrays of a reply."""
    plan: Plan = block.plan
    texts = block.size - plan.numbers
    if len(reply.numbers) != plan.numbers or len(reply.texts) != texts:
        wanted, got = f"{plan.numbers} numbers and {texts} texts", f"{len(reply.numbers)} and {len(reply.texts)}"
        raise MalformedError(f"{got} values for {wanted}")
    values, quality = _scaled(plan, np.array(reply.numbers, np.float64))
    if texts:
        values = np.concatenate((values, np.zeros(texts)))
        quality = np.concatenate((quality, np.zeros(texts, np.uint8)))
    for place, text in reply.quality.items():
        if place >= block.size:
            raise MalformedError(f"a quality for position {place} of {block.size}")
        quality[place] = _code(text)
    values[np.array([text.startswith("bad:") for text in QUALITY])[quality]] = 0.0
    now = now_ms()
    at_ms = reply.at_ms if abs(reply.at_ms - now) <= TOLERANCE_MS else now
    return Reading(at_ms, values, quality, tuple(text.encode()[:256].decode(errors="ignore") for text in reply.texts))


def _scaled(plan: Plan, raw: Values) -> tuple[Values, Codes]:
    """Scale numbers, make states 0 or 1; say which are no value."""
    with np.errstate(all="ignore"):
        values = raw * plan.scale + plan.offset
        if plan.states.any():
            values = np.where(plan.states & np.isfinite(raw), np.abs((raw != 0) - plan.reverse), values)
        good = np.abs(values) <= EXACT_LIMIT
    quality = np.zeros(raw.size, np.uint8)
    if not good.all():
        quality[~good] = np.where(np.isnan(raw[~good]), NAN, OUT_OF_RANGE)
        values = np.where(good, values, 0.0)
    return values, quality


def _code(text: str) -> int:
    try:
        return quality_code(text)
    except InvalidError as error:
        raise MalformedError(str(error)) from None


def _stream_request(points: Iterable[Addressed], cursor: str) -> pb.StreamRequest:
    from services.comsrv.plugins.grpc import gateway_pb2

    wanted = [gateway_pb2.StreamPoint(device=found.mapping.device, name=found.mapping.name) for found in points]
    return gateway_pb2.StreamRequest(points=wanted, cursor=cursor)


def _events(points: list[Addressed], message: pb.Events) -> Iterable[Event]:
    """Return the events of a message; what is said of a point that was not asked for ends the stream."""
    now = now_ms()
    for event in message.events:
        if event.point >= len(points):
            raise MalformedError(f"an event of point {event.point}, of {len(points)}")
        kind, point, _ = points[event.point]
        value, quality = _value(point, event.number, _code(event.quality))
        # An instant from the future would keep every later value out.
        at_ms = event.at_ms if 0 < event.at_ms <= now + TOLERANCE_MS else now
        yield Event(kind, str(point.id), at_ms, value, quality)


def _value(point: Point, raw: float, code: int) -> tuple[float, int]:
    """Return an event's value and quality code."""
    if code != GOOD and QUALITY[code].startswith("bad:"):
        return 0.0, code
    if not math.isfinite(raw):
        return 0.0, NAN
    if point.family == "bool":
        return float((raw != 0) is not point.reverse), code
    value = raw * point.scale + point.offset
    return (value, code) if abs(value) <= EXACT_LIMIT else (0.0, OUT_OF_RANGE)
