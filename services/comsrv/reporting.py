"""Report by exception: which changes of a point are worth sending, and how long it may stay silent.

Said at the point, at its group or at the channel; the nearest that says anything about it wins,
for the deadband (absolute and percentage together) and for the heartbeat apart.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.points import PointKind
from services.comsrv.channel import Channel, Point, Reporting
from services.comsrv.contract import Block, Values

_NOTHING: Final = Reporting()


class Report(NamedTuple):
    """What is worth sending of a block's points, in its order; a heartbeat of 0 is none, without any it is None."""

    thresholds: Values
    heartbeats_ms: NDArray[np.int64] | None


class Reports:
    """What is worth sending of each point of a channel."""

    def __init__(self, channel: Channel) -> None:
        """Work out the levels once; points that no level says anything about cost nothing."""
        self._thresholds: dict[tuple[PointKind, str], float] = {}
        self._heartbeats_ms: dict[tuple[PointKind, str], int] = {}
        levels = channel.reporting
        for kind in PointKind:
            for point in channel.points.of(kind):
                group = levels.groups.get(point.group, _NOTHING)
                key = kind, str(point.id)
                own = Reporting(**{name: getattr(point, name) for name in Reporting.model_fields})
                threshold = _threshold(point, (own, group, levels))
                if threshold is not None:
                    self._thresholds[key] = threshold
                heartbeat = next((each.heartbeat_s for each in (own, group, levels) if each.heartbeat_s is not None), 0)
                if heartbeat:
                    self._heartbeats_ms[key] = round(heartbeat * 1000)

    def of(self, block: Block) -> Report | None:
        """Return what is worth sending of a block; None where the block says it itself."""
        points = [(section.kind, point) for section in block.sections for point in section.ids]
        said = [self._thresholds.get(point) for point in points]
        beats = [self._heartbeats_ms.get(point, 0) for point in points]
        if not any(beats) and all(each is None for each in said):
            return None
        given = block.thresholds.tolist()
        thresholds = [mine if own is None else own for own, mine in zip(said, given, strict=True)]
        return Report(np.array(thresholds, np.float64), np.array(beats, np.int64) if any(beats) else None)


def _threshold(point: Point, levels: tuple[Reporting, ...]) -> float | None:
    """Return the change worth sending as the nearest level says; None where none says anything.

    A deadband is for numbers that measure: not for states, texts and what has labels.
    """
    if point.family != "number" or point.value_map is not None:
        return None
    span = None if point.min is None or point.max is None else point.max - point.min
    for level in levels:
        if level.deadband is not None or level.deadband_percent is not None:
            # A percentage is of the span; a point without one keeps to the absolute one.
            percent = (level.deadband_percent or 0.0) / 100 * (span or 0.0)
            return max(level.deadband or 0.0, percent)
    return None
