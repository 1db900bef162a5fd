"""Between messages of a gateway and values: what a block's request says, and what replies and events mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.clock import now_ms
from libs.errors import InvalidError
from libs.numbers import EXACT_LIMIT
from libs.points import PointKind
from services.comsrv.channel import Point
from services.comsrv.contract import (
    GOOD,
    NAN,
    OUT_OF_RANGE,
    QUALITY,
    Block,
    Codes,
    Event,
    MalformedError,
    Reading,
    Values,
    quality_code,
    sections_of,
)
from services.comsrv.plugins.grpc.parameters import Mapping

if TYPE_CHECKING:
    from services.comsrv.plugins.grpc import gateway_pb2 as pb

# An instant of the gateway further than this from ours is not taken for the order of polls and events.
TOLERANCE_MS: Final = 2000


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


def block_of(name: str, device: str, group: str, members: Sequence[Addressed]) -> Block:
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


def reading_of(block: Block, reply: pb.ReadReply) -> Reading:
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


def stream_request(points: Iterable[Addressed], cursor: str) -> pb.StreamRequest:
    """Ask for what the gateway pushes of some points, behind a cursor."""
    from services.comsrv.plugins.grpc import gateway_pb2

    wanted = [gateway_pb2.StreamPoint(device=found.mapping.device, name=found.mapping.name) for found in points]
    return gateway_pb2.StreamRequest(points=wanted, cursor=cursor)


def events_of(points: list[Addressed], message: pb.Events) -> Iterable[Event]:
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
