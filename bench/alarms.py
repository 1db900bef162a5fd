"""Measure alarms: microseconds a definition by detector, a transition, response to journal, lists and filters.

A server of its own with an append-only file (everysec).

    make bench-alarms ARGS="--server redis --only lists"
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, Final

import click
import orjson

from bench import load, report, response
from bench.ingest import command_us, cpu, empty_call, fresh, server
from bench.load import Block, Client
from bench.report import Row
from libs.redis.resp import information

BLOCK: Final = 125
DEFINITIONS: Final = 1000
CALLS: Final = 60
TURNING: Final = 10
STORM: Final = 2000
STORMS: Final = 7
# What a call may take in Redis.
BUDGET_US: Final = 1000.0
OPEN: Final = 10_000
TOTAL: Final = 100_000
# A read of 40 records is 0.7 ms; with what chooses them it is about a millisecond.
LIST_LIMIT_US: Final = 1000.0
IN_FLIGHT: Final = 100
QUIET: Final[dict[str, dict[str, Any]]] = {
    "Hi": {"limit": 1000},
    "Hi with deadband": {"detector": "Hi", "limit": 1000, "deadband": 1},
    "Hi with on-delay": {"detector": "Hi", "limit": 1000, "on_delay_ms": 1000},
    "State": {"limit": 1000},
    "Deviation": {"limit": 1000, "other": "comsrv:1001:T:1"},
    "Discrepancy": {"limit": 1000, "other": "comsrv:1001:T:1", "on_delay_ms": 1000},
    "Rate": {"limit": 1000, "window_ms": 60_000},
    "Stuck": {"limit": 60_000},
    "Quality": {},
    "NoData": {"limit": 60_000},
}


def send_many(client: Client, commands: list[tuple[str | bytes | int, ...]]) -> list[bytes]:
    """Send commands with many on their way; return their replies."""
    replies: list[bytes] = []
    for start in range(0, len(commands), IN_FLIGHT):
        part = commands[start : start + IN_FLIGHT]
        for words in part:
            client.send(*words)
        replies += [client.take() for _ in part]
    return replies


def define(client: Client, count: int, more: dict[str, Any], first: int = 0) -> None:
    """Store definitions, spread over the points of one block."""
    commands: list[tuple[str | bytes | int, ...]] = []
    for number in range(first, first + count):
        source = f"comsrv:{load.FIRST_CHANNEL}:T:{number % BLOCK + 1}"
        definition = {"source": source, "detector": "Hi", "level": "Minor", "message": f"d{number}", **more}
        commands.append(("FCALL", "alarm_define", 1, f"d{number}", orjson.dumps(definition)))
    send_many(client, commands)


def call_of(block: Block, epoch: int, seq: int, value: str | None = None) -> tuple[str | bytes | int, ...]:
    """Return the command that polls a block. `value` is that of every point."""
    if value is not None:
        points = ",".join(f'"{i}":{value}' for i in block.ids)
        text = f'"points":{{{points}}},"quality":{{}}'.encode()
        block = block._replace(values=[[value] * len(block.ids)] * load.VARIANTS, texts=[text] * load.VARIANTS)
    return load.words(block, epoch, seq)


def poll(client: Client, block: Block, epoch: int, seq: int, value: str | None = None) -> float:
    """Poll a block once; return the microseconds in Redis."""
    words = call_of(block, epoch, seq, value)
    before = command_us(client).get("fcall", (0, 0.0))[1]
    client.call(*words)
    return command_us(client)["fcall"][1] - before


def cpu_us(client: Client, block: Block, epoch: int, first: int, values: Iterable[str | None]) -> float:
    """Poll a block once a value; return the CPU microseconds of Redis a call, whatever else runs on the machine."""
    calls = [call_of(block, epoch, first + number, value) for number, value in enumerate(values)]
    began = cpu(client)
    for words in calls:
        client.call(*words)
    return 1e6 * (cpu(client) - began) / len(calls)


def spread(costs: list[float]) -> list[float]:
    """Return median, 99th percentile and worst."""
    ordered = sorted(costs)
    return [median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1]]


def detectors(client: Client) -> list[Row]:
    """Measure a definition that does not turn, by detector: every point of the block changes at every call."""
    block = load.make_blocks(BLOCK)[0]
    epoch = fresh(client)
    bare = cpu_us(client, block, epoch, 1, [None] * CALLS)
    rows, lines = [], []
    for name, more in QUIET.items():
        epoch = fresh(client)
        define(client, DEFINITIONS, {"detector": name.split(" ", maxsplit=1)[0], **more})
        cpu_us(client, block, epoch, 1, [None] * 5)
        cost = min(cpu_us(client, block, epoch, 10 + CALLS * turn, [None] * CALLS) for turn in range(3))
        each = (cost - bare) / DEFINITIONS
        rows.append(Row(f"detector {name}", "a definition evaluated", each, "us"))
        lines.append([name, f"{each:.2f}", f"{cost:.0f}"])
    heads = ["detector", "CPU us a definition", f"CPU us a call of {BLOCK} points with {DEFINITIONS:,}"]
    report.table(f"definitions evaluated in Redis (the call alone: {bare:.0f} us)", heads, lines)
    return rows


def transitions(client: Client) -> list[Row]:
    """Measure as many definitions that turn in a call as act in it, on and off."""
    block = load.make_blocks(BLOCK)[0]
    rows, lines = [], []
    for name, more in (
        ("Minor", {}),
        ("Warning", {"level": "Warning"}),
        ("Warning with a group", {"level": "Warning", "group": "g"}),
    ):
        epoch = fresh(client)
        define(client, TURNING, {"limit": 1000, **more})
        bare = median(poll(client, block, epoch, 1 + turn, f"{turn}.000000") for turn in range(2 * CALLS))
        costs: dict[str, list[float]] = {"raised": [], "ended": []}
        for turn in range(2 * CALLS):
            seq = 1000 + 2 * turn
            costs["raised"].append(poll(client, block, epoch, seq, f"{2000 + turn}.000000"))
            costs["ended"].append(poll(client, block, epoch, seq + 1, f"{turn}.000000"))
            if name == "Minor":
                acknowledge_all(client)
        for what, found in costs.items():
            case = f"transition, {name}"
            rows.append(Row(case, f"{what}, each", (median(found) - bare) / TURNING, "us"))
            rows.append(Row(case, f"{what}, the call", median(found), "us", BUDGET_US))
            figures = [(median(found) - bare) / TURNING, *spread(found)]
            lines.append([f"{what}, {name}", f"{figures[0]:.1f}", *(f"{figure:.0f}" for figure in figures[1:])])
    report.table(
        f"{TURNING} of {TURNING} definitions turn in a call of {BLOCK} points (us in Redis; without: {bare:.0f})",
        ["transition", "each", "the call, median", "p99", "worst"],
        lines,
    )
    return rows


def acknowledge_all(client: Client) -> None:
    """Acknowledge what is open, so that the next trip is a new alarm."""
    page = orjson.loads(client.call("FCALL_RO", "get_active_alarms", 0, '{"limit":1000}'))
    ids = [alarm["id"] for alarm in page["items"]]
    if ids:
        client.call("FCALL", "acknowledge_alarms_batch", 0, orjson.dumps({"ids": ids, "by": "bench"}))


def define_storm(client: Client, blocks: list[Block], more: dict[str, Any]) -> None:
    """Store 2,000 definitions on as many points, as many in each block."""
    commands: list[tuple[str | bytes | int, ...]] = []
    for place, block in enumerate(blocks):
        first, last = STORM * place // len(blocks), STORM * (place + 1) // len(blocks)
        for number in range(first, last):
            source = f"comsrv:{block.channel}:T:{block.ids[(number - first) * len(block.ids) // (last - first)]}"
            definition = {"source": source, "detector": "Hi", "limit": 1000, "level": "Warning", "message": "d", **more}
            commands.append(("FCALL", "alarm_define", 1, f"d{number}", orjson.dumps(definition)))
    send_many(client, commands)


def sweep(client: Client, blocks: list[Block], epoch: int, seq: int, value: str) -> list[float]:
    """Poll each block once; return the microseconds in Redis of each."""
    return [poll(client, block, epoch, seq, value) for block in blocks]


def drain(client: Client) -> list[float]:
    """Let ticks carry out what waits; return the microseconds in Redis of each."""
    found: list[float] = []
    while True:
        before = command_us(client)["fcall"][1]
        if not orjson.loads(client.call("FCALL", "voltage_tick", 0))["drained"]:
            return found
        found.append(command_us(client)["fcall"][1] - before)


def middle(runs: list[list[float]]) -> list[float]:
    """Return the median of each call over the storms: what a call takes, whatever the machine did meanwhile."""
    return [median(costs) for costs in zip(*runs, strict=False)]


def storm(client: Client) -> list[Row]:
    """Measure 2,000 definitions that trip within a second and return, again and again.

    In a hundred calls of 125 points 20 trip in each, which is what the budget of a call is said for; in 32 it is 62.
    """
    rows, lines = [], []
    for channels, count, more in ((13, 100, {}), (4, 32, {}), (4, 32, {"deadband": 1})):
        epoch = fresh(client, channels)
        blocks = load.make_blocks(BLOCK, channels)[:count]
        define_storm(client, blocks, more)
        # As on a site that runs: each point was polled before, and moves without a trip.
        sweep(client, blocks, epoch, 1, "1.000000")
        plain: list[list[float]] = []
        trips: list[list[float]] = []
        ticks: list[list[float]] = []
        for turn in range(STORMS):
            seq = 2 + 3 * turn
            plain.append(sweep(client, blocks, epoch, seq, f"{seq}.000000"))
            trips.append(
                sweep(client, blocks, epoch, seq + 1, "2000.000000") + sweep(client, blocks, epoch, seq + 2, "0.000000")
            )
            before = int(client.call("XLEN", "alarmsrv:journal"))
            ticks.append(drain(client))
            entries = int(client.call("XLEN", "alarmsrv:journal")) - before
        name = f"{STORM // count} a call" + (" with deadband" if more else "")
        case = f"storm of {STORM:,}, {name}"
        for what, runs in (("none trips", plain), ("trip or return", trips), ("a tick of 8", ticks)):
            costs = [cost for run in runs for cost in run]
            slowest = max(middle(runs))
            lines.append([f"{name}: {what}", *(f"{figure:.0f}" for figure in (*spread(costs), slowest))])
            rows.append(Row(case, f"{what}, median", median(costs), "us", BUDGET_US))
            rows.append(Row(case, f"{what}, slowest by the median of {STORMS}", slowest, "us", BUDGET_US))
        # The first has one more, that of the flood; its end is long after.
        rows.append(Row(case, "journal entries of the last", float(entries), "entries", 2.0 * STORM))
    report.table(
        f"{STORM:,} definitions trip and return, {STORMS} times (us in Redis a call of {BLOCK} points)",
        ["call", "median", "p99", "worst", f"slowest by the median of {STORMS}"],
        lines,
    )
    return rows


def fill(client: Client) -> None:
    """Store 100,000 alarms of which 10,000 stay open; each is in the journal."""
    rng = random.Random(1)
    levels = ("Critical", "Major", "Minor", "Warning")
    made, kept = [], []
    for number in range(TOTAL):
        document = {
            "title": f"alarm {number}",
            "level": rng.choice(levels),
            "source": f"comsrv:1001:T:{number % 1000 + 1}",
        }
        made.append(("FCALL", "store_alarm", 1, f"a{number}", orjson.dumps(document)))
        if number % 10:
            kept.append(("FCALL", "resolve_alarm", 1, f"a{number}", "bench"))
    send_many(client, [*made])
    send_many(client, [*kept])
    for number in range(0, TOTAL, 1000):
        client.call("FCALL", "acknowledge_alarm", 1, f"a{number}", "bench")


def repeat(client: Client, function: str, *arguments: bytes) -> tuple[float, int]:
    """Call a reader twenty times; return the CPU microseconds of Redis a call, and how many items came."""
    began, reply = cpu(client), b""
    for _ in range(20):
        reply = client.call("FCALL_RO", function, 0, *arguments)
    return 1e6 * (cpu(client) - began) / 20, len(orjson.loads(reply).get("items", []))


def lists(client: Client) -> list[Row]:
    """Measure lists and filters with 100,000 alarms of which 10,000 are open."""
    fresh(client)
    fill(client)
    entries = int(client.call("XLEN", "alarmsrv:journal"))
    queries: dict[str, dict[str, Any]] = {
        "open, first 40": {"open": True},
        "open and Critical": {"open": True, "level": "Critical"},
        "Acknowledged": {"status": "Acknowledged"},
        "Acknowledged and Major": {"status": "Acknowledged", "level": "Major"},
        "one source": {"source": "comsrv:1001:T:7"},
        "open of one source": {"source": "comsrv:1001:T:11", "open": True},
        "all, first 40": {},
        "open, shelved (none)": {"open": True, "shelved": True},
        "all of an area (none)": {"area": "nowhere"},
        "all of a group (none), a call of many": {"group": "nowhere"},
    }
    rows, lines = [], []
    for name, query in queries.items():
        cost, items = repeat(client, "query_alarms", orjson.dumps(query))
        rows.append(Row(f"list: {name}", "in Redis", cost, "us", LIST_LIMIT_US))
        lines.append([name, str(items), f"{cost:,.0f}"])
    cost, _ = repeat(client, "get_alarm_stats")
    lines.append(["counts (get_alarm_stats)", "", f"{cost:,.0f}"])
    rows.append(Row("list: counts", "in Redis", cost, "us", LIST_LIMIT_US))
    # Whoever asks for a thousand in one call wants them as of one instant.
    cost, items = repeat(client, "query_alarms", b'{"limit":1000}')
    lines.append(["all, 1,000 at once", str(items), f"{cost:,.0f}"])
    rows.append(Row("list: all, 1,000 at once", "in Redis", cost, "us"))
    memory = float(information(client, "memory")["used_memory"])
    title = f"{TOTAL:,} alarms, {OPEN:,} open, {entries:,} journal entries, {memory / 1e6:.0f} MB"
    report.table(title, ["list", "items", "CPU us in Redis"], lines)
    return [*rows, Row("list", "memory of Redis", memory, "bytes")]


def promises(rows: list[Row]) -> list[tuple[str, bool]]:
    """Return what has a limit, and whether this run kept it."""
    kept = []
    for row in rows:
        if row.limit is None:
            continue
        holds = row.value == row.limit if row.unit in {"entries", "transitions"} else row.value <= row.limit
        kept.append((f"{row.case}, {row.metric}: {row.value:,.5g} {row.unit} (reach {row.limit:,.5g})", holds))
    return kept


PARTS: Final = ("detectors", "transitions", "storm", "latency", "lists")


@click.command()
@click.option("--server", "kind", type=click.Choice(["valkey", "redis"]), default="valkey", help="Which server.")
@click.option("--seconds", default=10.0, help="How long values flow in the measure of the latency.")
@click.option("--only", type=click.Choice(PARTS), help="One part; nothing is written.")
def main(kind: str, seconds: float, only: str | None) -> None:
    """Measure alarms and write bench/results/alarms.json."""
    rows: list[Row] = []
    with server(kind, tcp=True) as client:
        version = information(client, "server")
        url = f"redis://127.0.0.1:{version['tcp_port']}"
        name = f"{kind} {version.get('valkey_version', version['redis_version'])}"
        print(f"{name}, append-only file everysec")
        rows.append(Row("limit", "an empty function", empty_call(client), "us"))
        parts: dict[str, Callable[[], list[Row]]] = {
            "detectors": lambda: detectors(client),
            "transitions": lambda: transitions(client),
            "storm": lambda: storm(client),
            "latency": lambda: response.latency(client, url, seconds),
            "lists": lambda: lists(client),
        }
        for part, measure in parts.items():
            if only in {None, part}:
                rows += measure()
    for text, holds in promises(rows):
        print(("ok    " if holds else "MISS  ") + text)
    if only is None:
        print(report.write("alarms" if kind == "valkey" else "alarms-redis", rows, server=name))


if __name__ == "__main__":
    main()
