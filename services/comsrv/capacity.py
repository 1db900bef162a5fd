"""Does what is to be polled fit on the link? The arithmetic of lines, before anything runs.

On a serial line a request takes 8 characters, its answer 5 and two for each register; before
each of them the line is silent for 3.5 characters (MODBUS over Serial Line V1.02, 2.5.1.1), and
the device takes its time between. In a network it is the round trip that counts. What was
learned from a device's own traffic replaces what is assumed of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import Final, NamedTuple

from services.comsrv.channel import Channel
from services.comsrv.contract import Block, ComBase, Cost, Speed

# Of what a link can take: from here on it is tight, as commands, retries and silent units need time too.
TIGHT: Final = 0.8
# What a device in the network takes to answer, and one on a serial line to begin with it, where nothing is known.
ROUND_TRIP_MS: Final = 5.0
TURNAROUND_MS: Final = 5.0


class Load(NamedTuple):
    """What reading a block takes.

    Attributes:
        channel: who reads it.
        block: what is read.
        interval_ms: how often.
        sent: bytes on the wire, request and answer, without those of TCP.
        time_ms: how long it takes.
        least_ms: how long it takes if the device answers at once.
        measured: whether the time was learned from the device's traffic.
    """

    channel: Channel
    block: Block
    interval_ms: int
    sent: int
    time_ms: float
    least_ms: float
    measured: bool


class LinkLoad(NamedTuple):
    """What all that is polled over a link takes of it, in parts of 1."""

    name: str
    speed: Speed
    channels: tuple[int, ...]
    requests: float
    share: float
    least: float

    @property
    def verdict(self) -> str:
        """Say in a word whether it fits."""
        if self.least > 1:
            return "impossible"
        if self.share > 1:
            return "too much"
        return "tight" if self.share > TIGHT else "fits"

    @property
    def text(self) -> str:
        """Say it in a sentence."""
        channels = " and ".join(map(str, self.channels))
        if self.least > 1:
            return (
                f"{self.name} would be taken {self.least:.0%} by channel {channels} even if every device answered at "
                "once; poll less often, in groups, or raise the speed"
            )
        return f"{self.name} is taken {self.share:.0%} by channel {channels}"


def loads(channel: Channel, plugin: ComBase, blocks: Iterable[Block], costs: dict[str, Cost]) -> list[Load]:
    """Return what each block takes; nothing for a protocol that does not say how fast its link is."""
    speed = plugin.speed
    if speed is None:
        return []
    return [_load(channel, plugin, block, speed, costs.get(block.unit)) for block in blocks]


def links(found: Iterable[tuple[Speed, Load]]) -> list[LinkLoad]:
    """Return what is taken of each link; channels that share one add up."""
    by_link: dict[str, list[tuple[Speed, Load]]] = {}
    for speed, load in found:
        by_link.setdefault(speed.key, []).append((speed, load))
    return [_link([load for _, load in members], members[0][0]) for members in by_link.values()]


def _load(channel: Channel, plugin: ComBase, block: Block, speed: Speed, cost: Cost | None) -> Load:
    span = plugin.span(block)
    registers = plugin.length(block) or (span.length if span is not None else 0)
    sent = speed.request_bytes + speed.answer_bytes + ceil(2 * registers)
    wire_ms = 1000 * (sent * speed.character_s + 2 * speed.gap_s)
    least_ms = wire_ms + 1000 * speed.pause_s
    if cost is not None:
        time_ms = max(cost.request + cost.register * registers, least_ms)
    else:
        time_ms = least_ms + (TURNAROUND_MS if speed.character_s else ROUND_TRIP_MS)
    interval_ms = channel.polling.interval_of(block.group)
    return Load(channel, block, interval_ms, sent, time_ms, least_ms, cost is not None)


def _link(members: list[Load], speed: Speed) -> LinkLoad:
    return LinkLoad(
        name=speed.name,
        speed=speed,
        channels=tuple(dict.fromkeys(load.channel.id for load in members)),
        requests=sum(1000 / load.interval_ms for load in members),
        share=sum(load.time_ms / load.interval_ms for load in members),
        least=sum(load.least_ms / load.interval_ms for load in members),
    )
