"""Measure comsrv_ingest: points a second, microseconds a block, the cost of each stage, the budget.

A server of its own with an append-only file (everysec). Every value of every block changes at
every call, which is the worst case; comsrv sends only what changed.

    make bench-ingest ARGS="--server redis --seconds 1"
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import click
import orjson

from bench import load, report
from bench.load import Block, Client
from bench.report import Row
from libs.redis import bundle
from libs.redis.resp import information
from tests.support.servers import RedisServer, free_port

RULES: Final = (0, 1000, 4000, 10_000)
SIZES: Final = (125, 500)
FLIGHTS: Final = (1, 4)
BUDGET_REPEATS: Final = 60
ROUNDS: Final = 5


class Case(NamedTuple):
    """What a row of the table was measured with."""

    size: int
    flight: int
    rules: int
    models: bool

    def __str__(self) -> str:
        models = "models" if self.models else "no models"
        return f"{self.size} points, {self.flight} in flight, {self.rules} rules, {models}"


class Measured(NamedTuple):
    """What a run gave."""

    points_s: float
    server_us: float
    call_us: float
    redis_cpu: float
    client_cpu: float
    aof_bytes: float


@contextmanager
def server(kind: str, *, tcp: bool) -> Iterator[Client]:
    """Start a server with an append-only file and the library; yield a connection."""
    with tempfile.TemporaryDirectory(prefix="voltage-bench-") as folder:
        port = free_port()
        options = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-min-size", "1gb"]
        running = RedisServer(kind, Path(folder), *options, *(["--port", str(port)] if tcp else []))
        try:
            with Client(f"redis://127.0.0.1:{port}" if tcp else running.url, 30.0) as client:
                yield client
        finally:
            running.stop()


def fresh(client: Client, channels: int = load.CHANNELS) -> int:
    """Empty the server, load the library, take the channels; return the epoch."""
    client.call("FLUSHALL")
    client.call("FUNCTION", "LOAD", "REPLACE", bundle.bundle().text)
    return load.claim(client, channels)


def cpu(client: Client) -> float:
    """Return the seconds of CPU the server's main thread took."""
    info = information(client, "cpu")
    return float(info["used_cpu_sys_main_thread"]) + float(info["used_cpu_user_main_thread"])


def aof_size(client: Client) -> int:
    """Return the size of the append-only file."""
    return int(information(client, "persistence")["aof_current_size"])


def command_us(client: Client) -> dict[str, tuple[int, float]]:
    """Return calls and microseconds of each command since CONFIG RESETSTAT."""
    found = {}
    for name, text in information(client, "commandstats").items():
        fields = dict(pair.split("=") for pair in text.split(","))
        found[name.removeprefix("cmdstat_")] = (int(fields["calls"]), float(fields["usec"]))
    return found


def drive(client: Client, blocks: list[Block], epoch: int, first_seq: int, flight: int, seconds: float) -> int:
    """Send blocks round and round with `flight` calls on their way; return how many were answered."""
    end = time.perf_counter() + seconds
    sent = answered = 0
    while time.perf_counter() < end:
        client.send(*load.words(blocks[sent % len(blocks)], epoch, first_seq + sent // len(blocks)))
        sent += 1
        if sent - answered >= flight:
            client.take()
            answered += 1
    while answered < sent:
        client.take()
        answered += 1
    return sent


def measure(client: Client, case: Case, epoch: int, first_seq: int, seconds: float) -> Measured:
    """Run one case in a few rounds and return the best: what the machine gives when nobody else takes it."""
    blocks = load.make_blocks(case.size)
    drive(client, blocks, epoch, first_seq, case.flight, 0.1)
    rounds = [
        measure_round(client, case, blocks, epoch, first_seq + (1 + number) * 1_000_000, seconds / ROUNDS)
        for number in range(ROUNDS)
    ]
    return max(rounds, key=lambda measured: measured.points_s)


def measure_round(
    client: Client, case: Case, blocks: list[Block], epoch: int, first_seq: int, seconds: float
) -> Measured:
    """Run one case once."""
    client.call("CONFIG", "RESETSTAT")
    redis_before, aof_before, client_before = cpu(client), aof_size(client), time.process_time()
    began = time.perf_counter()
    calls = drive(client, blocks, epoch, first_seq, case.flight, seconds)
    took = time.perf_counter() - began
    client_took = time.process_time() - client_before
    points = calls * case.size
    return Measured(
        points / took,
        command_us(client)["fcall"][1] / calls,
        1e6 * took / calls,
        (cpu(client) - redis_before) / took,
        client_took / took,
        (aof_size(client) - aof_before) / points,
    )


def matrix(client: Client, seconds: float, limits: dict[int, float]) -> list[Row]:
    """Run every case and print the table."""
    rows: list[Row] = []
    lines = []
    for models in (False, True):
        for rules in RULES:
            epoch = fresh(client)
            load.put_rules(client, rules)
            if models:
                load.put_models(client)
            for number, (size, flight) in enumerate((s, f) for s in SIZES for f in FLIGHTS):
                case = Case(size, flight, rules, models)
                got = measure(client, case, epoch, number * 10_000_000 + 1, seconds)
                lines.append(
                    [
                        str(case),
                        f"{got.points_s:,.0f}",
                        f"{got.points_s / limits[size]:.2f}",
                        f"{got.points_s / got.redis_cpu:,.0f}",
                        f"{got.server_us:.0f}",
                        f"{got.call_us:.0f}",
                        f"{100 * got.redis_cpu:.0f} %",
                        f"{100 * got.client_cpu:.0f} %",
                        f"{got.aof_bytes:.0f}",
                    ]
                )
                rows += [
                    Row(str(case), "points", got.points_s, "points/s", limits[size]),
                    Row(str(case), "points a second of Redis' CPU", got.points_s / got.redis_cpu, "points/s"),
                    Row(str(case), "server time a block", got.server_us, "us"),
                    Row(str(case), "round trip a block", got.call_us, "us"),
                    Row(str(case), "redis cpu", got.redis_cpu, "cores"),
                    Row(str(case), "client cpu", got.client_cpu, "cores"),
                    Row(str(case), "append-only file", got.aof_bytes, "bytes/point"),
                ]
    heads = ["case", "points/s", "of HSET", "a CPU second", "us in Redis", "us a call"]
    heads += ["Redis CPU", "client CPU", "AOF bytes/point"]
    report.table("comsrv_ingest, every value changing", heads, lines)
    return rows


def hset_limit(client: Client, size: int, seconds: float) -> float:
    """Return the points a second of plain HSET of the same points: values alone, 4 in flight."""
    client.call("FLUSHALL")
    blocks = load.make_blocks(size)
    flat = [
        [[word for pair in zip(b.ids, values, strict=True) for word in pair] for values in b.values] for b in blocks
    ]
    sent = answered = 0
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        which = sent % len(blocks)
        client.send("HSET", f"comsrv:{blocks[which].channel}:T", *flat[which][sent // len(blocks) % load.VARIANTS])
        sent += 1
        if sent - answered >= max(FLIGHTS):
            client.take()
            answered += 1
    while answered < sent:
        client.take()
        answered += 1
    return sent * size / (time.perf_counter() - began)


def empty_call(client: Client) -> float:
    """Return the microseconds in Redis of a function that does nothing."""
    fresh(client)
    client.call("CONFIG", "RESETSTAT")
    for _ in range(5000):
        client.call("FCALL_RO", "voltage_version", 0)
    return command_us(client)["fcall_ro"][1] / 5000


def probe(client: Client, commands: list[tuple[str | bytes | int, ...]]) -> tuple[float, dict[str, float]]:
    """Return the microseconds of a call (lower quartile) and the mean of each command inside it."""
    costs = []
    for words in commands:
        before = command_us(client).get("fcall", (0, 0.0))[1]
        client.call(*words)
        costs.append(command_us(client)["fcall"][1] - before)
    found = command_us(client)
    inner = {n: us / len(commands) for n, (_, us) in found.items() if n not in {"fcall", "info", "config|resetstat"}}
    return sorted(costs)[len(costs) // 4], inner


def stage_probe(
    client: Client, *, kind: str = "T", marked: bool = False, rules: int = 0, models: bool = False, repeat: bool = False
) -> tuple[float, dict[str, float]]:
    """Return what a call with 125 points costs, prepared so that two probes differ in one stage."""
    epoch = fresh(client)
    if models:
        load.put_models(client)
    load.put_rules(client, rules)
    block = load.make_blocks(125)[0]
    quality = dict.fromkeys(block.ids, "uncertain:not_verified") if marked else None
    calls: list[tuple[str | bytes | int, ...]] = []
    for seq in range(1, 201):
        blob = load.document(block, epoch, 1 if repeat else seq, kind, quality)
        calls.append(("FCALL", "comsrv_ingest", 1, block.channel, blob, block.texts[seq % load.VARIANTS]))
    probe(client, calls[:20])
    client.call("CONFIG", "RESETSTAT")
    return probe(client, calls[20:])


def stages(client: Client, frame: float) -> list[Row]:
    """Measure the stages of a 125-point call by difference and print them."""
    refused, _ = stage_probe(client, repeat=True)
    stored, _ = stage_probe(client, kind="A")
    recorded, inner = stage_probe(client)
    marked, _ = stage_probe(client, marked=True)
    ruled, _ = stage_probe(client, rules=load.CHANNELS * load.POINTS)
    modelled, _ = stage_probe(client, models=True)
    publish = inner.get("publish", 0.0)
    costs = {
        "an empty function": frame,
        "decode, check, clock, epoch and sequence": refused - frame,
        "values, instants, counters, publish": stored - refused,
        "of that, publish": publish,
        "history": recorded - stored,
        "quality, every point marked": marked - recorded,
        "rules, one a point": ruled - recorded,
        "models, every point in one": modelled - recorded,
        "whole call, no rules and models": recorded,
        "of that, commands inside": sum(inner.values()),
    }
    lines = [[name, f"{us:.0f}"] for name, us in costs.items()]
    report.table("stages of a call with 125 points, microseconds in Redis", ["stage", "us"], lines)
    report.table(
        "commands inside a call with 125 points",
        ["command", "us"],
        [[n, f"{u:.1f}"] for n, u in sorted(inner.items(), key=lambda item: -item[1])],
    )
    return [Row("stages, 125 points", name, us, "us") for name, us in costs.items()]


def budget_case(client: Client, affected: int, turning: int) -> tuple[float, float, float]:
    """Return the best tenth, median and worst microseconds of a call; `turning` of the `affected` rules turn.

    The rules sit on 125 points; a turning rule fires at one call and clears at the next, raising
    and ending an alarm each time.
    """
    epoch = fresh(client)
    load.put_rules(client, 0)
    block = load.make_blocks(125)[0]
    for number in range(affected):
        rule = {
            "name": f"rule {number}",
            "conditions": [
                {
                    "source": f"comsrv:{block.channel}:T:{number % 125 + 1}",
                    "operator": ">",
                    "value": 50 if number < turning else 1000,
                }
            ],
            "actions": [{"type": "create_alarm", "params": {"title": f"high {number}", "level": "Warning"}}],
        }
        client.call("FCALL", "rule_upsert", 1, f"r{number}", orjson.dumps(rule))
    costs = []
    for seq in range(1, BUDGET_REPEATS + 1):
        level = f"{90 if seq % 2 else 10}.{seq:06d}"
        values = [level] * 125
        points = ",".join(f'"{i}":{level}' for i in block.ids)
        document = load.document(block._replace(values=[values] * load.VARIANTS), epoch, seq)
        client.call("CONFIG", "RESETSTAT")
        client.call("FCALL", "comsrv_ingest", 1, block.channel, document, f'"points":{{{points}}},"quality":{{}}')
        costs.append(command_us(client)["fcall"][1])
        while orjson.loads(client.call("FCALL", "voltage_tick", 0))["drained"]:
            pass
    costs = sorted(costs[2:])
    return costs[len(costs) // 10], median(costs), costs[-1]


def budget(client: Client) -> list[Row]:
    """Measure the budget of a call: under 1 ms for 125 points, 1,000 affected rules and 10 transitions."""
    rows, lines = [], []
    for affected, turning in ((0, 0), (1000, 0), (1000, 10), (1000, 1000), (10_000, 10)):
        best, middle, worst = budget_case(client, affected, turning)
        case = f"125 points, {affected:,} affected rules, {turning:,} turn"
        lines.append([case, f"{best:.0f}", f"{middle:.0f}", f"{worst:.0f}"])
        rows += [Row(case, "best tenth", best, "us", 1000.0)]
        rows += [Row(case, "median", middle, "us", 1000.0), Row(case, "worst", worst, "us", 1000.0)]
    report.table(
        "budget of a call: 1,000 us (10,000 rules are past it)",
        ["case", "best tenth us", "median us", "worst us"],
        lines,
    )
    return rows


@click.command()
@click.option("--server", "kind", type=click.Choice(["valkey", "redis"]), default="valkey", help="Which server.")
@click.option("--tcp", is_flag=True, help="Over TCP loopback instead of a Unix socket.")
@click.option("--seconds", default=1.5, help="How long each case runs, in five rounds; the best one counts.")
@click.option("--only", type=click.Choice(["matrix", "stages", "budget"]), help="One part; nothing is written.")
def main(kind: str, tcp: bool, seconds: float, only: str | None) -> None:
    """Measure comsrv_ingest and write bench/results/ingest.json."""
    rows: list[Row] = []
    with server(kind, tcp=tcp) as client:
        version = information(client, "server")
        name = f"{kind} {version.get('valkey_version', version['redis_version'])}, {'TCP' if tcp else 'Unix socket'}"
        print(f"{name}, append-only file everysec")
        frame = empty_call(client)
        rows.append(Row("limit", "an empty function", frame, "us"))
        # First what is measured a call at a time: thousands of rules leave work for Lua's collector.
        if only in {None, "stages"}:
            rows += stages(client, frame)
        if only in {None, "budget"}:
            rows += budget(client)
        if only in {None, "matrix"}:
            limits = {size: hset_limit(client, size, seconds) for size in SIZES}
            rows += [Row("limit", f"HSET of {size} points, 4 in flight", limits[size], "points/s") for size in SIZES]
            rows += matrix(client, seconds, limits)
    if only is None:
        print(report.write("ingest" if kind == "valkey" else "ingest-redis", rows, server=name))


if __name__ == "__main__":
    main()
