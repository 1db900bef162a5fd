"""A command on its way to the device: what is written, until when it may leave, and what comes after it."""

from __future__ import annotations

from typing import Any, NamedTuple

from libs.errors import InvalidError, NotFoundError
from libs.numbers import readable
from libs.points import PointKind
from services.comsrv.channel import Channel, Point
from services.comsrv.contract import ComBase, Value, Write
from services.comsrv.options import CommandOptions

NO_OPTIONS = CommandOptions()


class Job(NamedTuple):
    """A command that was checked.

    Attributes:
        command: its document.
        write: what is written.
        off: what is written after the pulse; None for anything but a pulse.
        deadline_ms: by the clock that never steps; after it the command must not leave.
        options: what its point asks for.
    """

    command: dict[str, Any]
    write: Write
    off: Write | None
    deadline_ms: int
    options: CommandOptions

    @property
    def id(self) -> str:
        """The command's id."""
        return str(self.command["id"])

    @property
    def point(self) -> str:
        """The commanded point: "A:1"."""
        return f"{self.command['type']}:{self.command['point']}"


def job_of(channel: Channel, plugin: ComBase, command: dict[str, Any], asked_ms: int) -> Job:
    """Return the job of a claimed command; `asked_ms` is when it was asked for.

    Raises:
        NotFoundError: the point is not there any more.
        InvalidError: the device can't hold the value.
    """
    # What was left of its life when Redis gave it out, counted on by a clock that never steps.
    left_ms = command["expires_at_ms"] - command["transitions"][-1]["at_ms"]
    kind, value = PointKind(command["type"]), value_of(command)
    point = find(channel, kind, command["point"])
    options = point.command or NO_OPTIONS
    off: Write | None = None
    if options.pulse_ms is not None and (value != 0 or options.pair is not None):
        pulsed = point if value != 0 else find(channel, PointKind.CONTROL, options.pair or 0)
        write, off = plugin.prepare_write(kind, pulsed, 1.0), plugin.prepare_write(kind, pulsed, 0.0)
    else:
        write = _write(plugin, kind, point, value)
    return Job(command, write, off, asked_ms + left_ms, options)


def find(channel: Channel, kind: PointKind, point_id: int | str) -> Point:
    """Return a point of a channel, or raise NotFoundError."""
    point = channel.find(kind, point_id)
    if point is None:
        raise NotFoundError(f"channel {channel.id} has no point {kind}:{point_id}")
    return point


def value_of(command: dict[str, Any]) -> Value:
    """Return the value of a command's document: a number, or the text of a command to a text point."""
    value = command["value"]
    return value if isinstance(value, str) else float(value)


def same(one: Value, other: Value, tolerance: float) -> bool:
    """Say whether two values are the same: numbers within a tolerance, texts letter by letter."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) <= tolerance


def shown(value: Value) -> str:
    """Return a value as a sentence says it."""
    return f'"{value}"' if isinstance(value, str) else readable(value)


def unlike(found: Value, wanted: Value) -> str:
    """Say what was read back; with more digits where it takes them to tell the two apart."""
    said = shown(found), shown(wanted)
    if said[0] == said[1]:
        said = f"{found:.9g}", f"{wanted:.9g}"
    return f"read back {said[0]} instead of {said[1]}"


def _write(plugin: ComBase, kind: PointKind, point: Point, value: Value) -> Write:
    if isinstance(value, str) != (point.family == "text"):
        raise InvalidError(f"{kind}:{point.id} takes {'a text' if point.family == 'text' else 'a number'}")
    return (
        plugin.prepare_text(kind, point, value) if isinstance(value, str) else plugin.prepare_write(kind, point, value)
    )


def prepared(channel: Channel, plugin: ComBase, point: str, value: Value) -> Write | None:
    """Return the write of a value to a point ("A:1"), None where there is none (any more)."""
    kind, _, point_id = point.partition(":")
    try:
        return _write(plugin, PointKind(kind), find(channel, PointKind(kind), point_id), value)
    except (NotFoundError, InvalidError):
        return None
