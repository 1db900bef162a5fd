"""The load of the ingest benchmark: a site of channels, and blocks of changing values.

Values change at every poll, in every point: the worst a site can do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import hiredis
import msgpack
import orjson

from libs.redis.resp import Connection

CHANNELS: Final = 4
POINTS: Final = 1000
MODEL_POINTS: Final = 100
VARIANTS: Final = 8
FIRST_CHANNEL: Final = 1001


class Client(Connection):
    """A connection that can have calls on their way."""

    def send(self, *words: str | bytes | int) -> None:
        """Send a command without waiting for its reply."""
        self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says a tuple of one

    def take(self) -> bytes:
        """Return the next reply; an error stops the benchmark."""
        reply = self.next(30.0)
        if isinstance(reply, Exception):
            raise reply
        return reply  # type: ignore[no-any-return]  # a function replies with bytes


class Block(NamedTuple):
    """A block of a channel and its value texts, in a few variants that differ in every point."""

    channel: str
    name: str
    ids: list[str]
    values: list[list[str]]
    texts: list[bytes]


def make_block(channel: int, first: int, size: int) -> Block:
    """Return a block of `size` points from `first` on; values lie between 0 and 100."""
    rng = random.Random(channel * 100_000 + first)
    ids = [str(first + i) for i in range(size)]
    values, texts = [], []
    for variant in range(VARIANTS):
        numbers = [rng.uniform(0, 12) * 8 + variant / 1000 for _ in ids]
        values.append([f"{number:.6f}" for number in numbers])
        points = ",".join(f'"{i}":{value}' for i, value in zip(ids, values[-1], strict=True))
        texts.append(f'"points":{{{points}}},"quality":{{}}'.encode())
    return Block(str(channel), f"b{first}", ids, values, texts)


def make_blocks(size: int, channels: int = CHANNELS) -> list[Block]:
    """Return all blocks of the site, channel by channel in turn, so that neighbors differ in channel."""
    return [
        make_block(FIRST_CHANNEL + ch, first, size) for first in range(1, POINTS + 1, size) for ch in range(channels)
    ]


def document(
    block: Block, epoch: int, seq: int, kind: str = "T", quality: dict[str, str] | None = None, at: int | None = None
) -> bytes:
    """Return the msgpack document of one call."""
    at = int(time.time() * 1000) if at is None else at
    packed: bytes = msgpack.packb(
        {
            "epoch": epoch,
            "seq": seq,
            "now_ms": at,
            "origin": "poll",
            "channel": int(block.channel),
            "block": block.name,
            "at_ms": at,
            "previous_at_ms": at - 1000,
            "sections": [
                {"type": kind, "ids": block.ids, "values": block.values[seq % VARIANTS], "quality": quality or {}}
            ],
            "counters": {"polled": len(block.ids)},
        }
    )
    return packed


def words(block: Block, epoch: int, seq: int) -> tuple[str | bytes | int, ...]:
    """Return the command of one call, as comsrv sends it: the document and the text for publishing."""
    return ("FCALL", "comsrv_ingest", 1, block.channel, document(block, epoch, seq), block.texts[seq % VARIANTS])


def claim(connection: Client, channels: int = CHANNELS) -> int:
    """Take every channel for a lease of an hour and return the epoch."""
    for ch in range(channels):
        claimed = connection.call(
            "FCALL", "channel_claim", 1, FIRST_CHANNEL + ch, '{"owner":"bench","interval_ms":1200000}'
        )
    return int(orjson.loads(claimed)["epoch"])


def references() -> Iterator[str]:
    """Yield the reference of every point, spread over the channels."""
    for point in range(1, POINTS + 1):
        for ch in range(CHANNELS):
            yield f"comsrv:{FIRST_CHANNEL + ch}:T:{point}"


def put_rules(connection: Client, count: int, *, at: Callable[[int], float] = lambda _: 1000.0) -> None:
    """Store `count` rules spread evenly over the points; by default none ever fires.

    `at` gives the limit of a rule by its number.
    """
    points = list(references())
    for number in range(count):
        source = points[number * len(points) // count if count < len(points) else number % len(points)]
        rule = {
            "name": f"rule {number}",
            "conditions": [{"source": source, "operator": ">", "value": at(number)}],
            "actions": [{"type": "create_alarm", "params": {"title": f"high {number}", "level": "Minor"}}],
        }
        connection.send("FCALL", "rule_upsert", 1, f"r{number}", orjson.dumps(rule))
        if number % 100 == 99:
            for _ in range(100):
                connection.take()
    for _ in range(count % 100):
        connection.take()


def put_models(connection: Client) -> None:
    """Map every point of the site into a model of 100 points."""
    for ch in range(CHANNELS):
        for first in range(1, POINTS + 1, MODEL_POINTS):
            channel = FIRST_CHANNEL + ch
            model = {
                "name": f"model {first}",
                "mapping": {
                    "channel": channel,
                    "data": {f"point_{i:03d}": first + i for i in range(MODEL_POINTS)},
                },
            }
            connection.call("FCALL", "model_upsert", 1, f"m{channel}_{first}", orjson.dumps(model))
