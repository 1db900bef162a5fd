"""From a device's response to the entry in the journal of alarms, while values flow at 100,000 points a second."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from typing import Any, Final

import orjson

from bench import load, report
from bench.ingest import fresh
from bench.load import Block, Client
from bench.report import Row

# What comsrv sends of devices of float32: four blocks of 62 points in a call (services/comsrv/waiting.py). Every value
# changes.
BLOCK: Final = 62
BLOCKS: Final = 4
POINTS_S: Final = 100_000
LIMIT_MS: Final = 5.0


def watch(url: str, ending: multiprocessing.connection.Connection) -> None:
    """Read the journal as it grows, in a process of its own; send when each value arrived once told to end."""
    last, seen = "$", {}
    with Client(url, 30.0) as client:
        client.call("PING")
        ending.send("ready")
        while not ending.poll():
            reply: Any = client.call("XREAD", "BLOCK", 200, "COUNT", 1000, "STREAMS", "alarmsrv:journal", last)
            arrived = time.perf_counter()
            found = reply[b"alarmsrv:journal"] if isinstance(reply, dict) else reply[0][1] if reply else []
            for entry_id, fields in found:
                last = entry_id
                entry = dict(zip(fields[::2], fields[1::2], strict=True))
                seen[entry[b"value"].decode()] = arrived
    ending.send(seen)


@contextmanager
def watching(url: str) -> Iterator[dict[str, float]]:
    """Watch the journal meanwhile; what was seen is there afterwards, by value."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=watch, args=(url, theirs))
    process.start()
    seen: dict[str, float] = {}
    try:
        ours.recv()
        # The first XREAD is on its way.
        time.sleep(0.3)
        yield seen
        time.sleep(0.3)
        ours.send("end")
        seen |= ours.recv()
    finally:
        process.terminate()
        process.join()


def with_value(block: Block, seq: int, value: str) -> Block:
    """Return the block with another value of its first point at that poll."""
    variant = seq % load.VARIANTS
    values, text = list(block.values), list(block.texts)
    values[variant] = [value, *block.values[variant][1:]]
    text[variant] = block.texts[variant].replace(f'"1":{block.values[variant][0]}'.encode(), f'"1":{value}'.encode(), 1)
    return block._replace(values=values, texts=text)


def flow(client: Client, epoch: int, seconds: float) -> tuple[dict[str, float], float]:
    """Send values at the pace of the flow; return when each value that turns was there, and the points a second."""
    blocks = load.make_blocks(BLOCK)
    calls = [
        part[start : start + BLOCKS]
        for part in ([one for one in blocks if one.channel == ch] for ch in sorted({one.channel for one in blocks}))
        for start in range(0, len(part), BLOCKS)
    ]
    pause = BLOCK * BLOCKS / POINTS_S
    began = due = time.perf_counter()
    responded: dict[str, float] = {}
    sent = 0
    while time.perf_counter() < began + seconds:
        part, seq = calls[sent % len(calls)], sent // len(calls) + 1
        response = time.perf_counter()
        if part[0].ids[0] == "1":
            value = f"{(2000 if seq % 2 else 0) + sent / 1e5:.6f}"
            part = [with_value(part[0], sent + 1, value), *part[1:]]
            responded[value] = response
        # A channel's calls count on; each block of it is in one of them.
        several = [load.words(block, epoch, sent + 1) for block in part]
        client.call(*several[0][:4], *(word for words in several for word in words[4:]))
        sent += 1
        due += pause
        time.sleep(max(0.0, due - time.perf_counter()))
    return responded, sent * BLOCK * BLOCKS / (time.perf_counter() - began)


def latency(client: Client, url: str, seconds: float) -> list[Row]:
    """Measure from a device's response to the entry in the journal, while values flow at 100,000 points a second."""
    epoch = fresh(client)
    for ch in range(load.CHANNELS):
        source = f"comsrv:{load.FIRST_CHANNEL + ch}:T:1"
        definition = {"source": source, "detector": "Hi", "limit": 1000, "level": "Warning"}
        client.call("FCALL", "alarm_define", 1, f"d{ch}", orjson.dumps(definition))
    with watching(url) as seen:
        responded, points = flow(client, epoch, seconds)
    delays = sorted(1000 * (seen[value] - at) for value, at in responded.items() if value in seen)
    cuts = quantiles(delays, n=100)
    lost = len(responded) - len(delays)
    report.table(
        "from a device's response to the journal",
        ["points/s meanwhile", "transitions", "lost", "p50 ms", "p99 ms", "worst ms"],
        [[f"{points:,.0f}", str(len(delays)), str(lost), f"{cuts[49]:.2f}", f"{cuts[98]:.2f}", f"{delays[-1]:.2f}"]],
    )
    case = "response to journal"
    return [
        Row(case, "points meanwhile", points, "points/s"),
        Row(case, "p50", cuts[49], "ms", LIMIT_MS),
        Row(case, "p99", cuts[98], "ms", LIMIT_MS),
        Row(case, "worst", delays[-1], "ms"),
        Row(case, "lost", float(lost), "transitions", 0.0),
    ]
