"""Measure rules: microseconds a rule, evaluations a second, and what a change costs with 10,000 of them loaded.

A server of its own with an append-only file (everysec). A block of 125 points comes, in which every
value changes; a share of the rules is on these points, the rest on others. No rule turns, as is the
rule on a site; what a turn costs is in bench-ingest (budget).

    make bench-rules ARGS="--server redis"
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final, NamedTuple

import click
import orjson

from bench import load, report
from bench.ingest import command_us, cpu, fresh, server
from bench.load import Block, Client
from bench.report import Row
from libs.redis.resp import information

COUNTS: Final = (1000, 10_000)
SHARES: Final = (0.01, 0.1, 1.0)
SIZE: Final = 125
ROUNDS: Final = 3
SECONDS: Final = 0.4
UPSERTS: Final = 100
CHANGE_ROUNDS: Final = 6
REACH_US: Final = 0.5
REACH_EVALUATIONS: Final = 150_000
REACH_UPSERT_US: Final = 1000.0

Maker = Callable[[str, int], Any]


def simple(channel: str, number: int) -> Any:
    """Return one comparison."""
    return [leaf(channel, number, ">", 1000)]


def five(channel: str, number: int) -> Any:
    """Return five conditions with holds and hysteresis; what is alternative keeps it false."""
    return {
        "all": [
            leaf(channel, number, ">", -1, for_ms=1, hysteresis=1),
            leaf(channel, number + 1, "<", 1000, hysteresis=1),
            {"any": [leaf(channel, number + 2, ">", 1000, for_ms=5000), leaf(channel, number + 3, ">", 1000)]},
            {"not": leaf(channel, number + 4, "between", [1000, 2000], hysteresis=1)},
        ]
    }


def crossing(channel: str, number: int) -> Any:
    """Return five conditions of which a hold begins or ends at every call."""
    tree = five(channel, number)
    tree["all"][0] = leaf(channel, number, ">", 50, for_ms=60_000, hysteresis=1)
    return tree


def aggregate(channel: str, number: int) -> Any:
    """Return a mean over five minutes."""
    return [leaf(channel, number, ">", 1000, aggregate="mean", window_ms=300_000)]


MAKERS: Final[dict[str, Maker]] = {
    "one comparison": simple, "five conditions": five, "five, a hold begins or ends": crossing, "a mean": aggregate,
}  # fmt: skip


def leaf(channel: str, number: int, operator: str, value: Any, **more: Any) -> dict[str, Any]:
    """Return a condition on one of the 125 points of a channel."""
    return {"source": f"comsrv:{channel}:T:{number % SIZE + 1}", "operator": operator, "value": value, **more}


def put_rules(client: Client, count: int, affected: int, make: Maker) -> None:
    """Store rules: so many on the first channel's points, the rest on another's."""
    for number in range(count):
        channel = str(load.FIRST_CHANNEL + (0 if number < affected else 1))
        client.send("FCALL", "rule_upsert", 1, f"r{number}", rule_of(make(channel, number), number))
        client.take()


def rule_of(conditions: Any, number: int) -> bytes:
    """Return a rule's document."""
    actions = [{"type": "create_alarm", "params": {"title": f"high {number}", "level": "Minor"}}]
    return orjson.dumps({"name": f"rule {number}", "conditions": conditions, "actions": actions})


def call_of(block: Block, epoch: int, seq: int) -> tuple[str | bytes | int, ...]:
    """Return a call in which every value changes, all up at one call and all down at the next."""
    level = f"{90 if seq % 2 else 10}.{seq % 1000000:06d}"
    document = load.document(block._replace(values=[[level] * SIZE] * load.VARIANTS), epoch, seq)
    points = ",".join(f'"{i}":{level}' for i in block.ids)
    return ("FCALL", "comsrv_ingest", 1, block.channel, document, f'"points":{{{points}}},"quality":{{}}')


def cost(client: Client, *words: str | bytes | int) -> float:
    """Return the microseconds of one function call in the server."""
    before = command_us(client).get("fcall", (0, 0.0))[1]
    client.call(*words)
    return command_us(client)["fcall"][1] - before


class Measured(NamedTuple):
    """Microseconds of the server's CPU a call, and calls a second with one in flight."""

    call_us: float
    calls_s: float


def measure(client: Client, count: int, affected: int, make: Maker) -> Measured:
    """Measure the calls of a block that `affected` of `count` rules watch."""
    epoch = fresh(client)
    block = load.make_blocks(SIZE)[0]
    put_rules(client, count, affected, make)
    for seq in range(1, 21):
        client.call(*call_of(block, epoch, seq))
    while orjson.loads(client.call("FCALL", "voltage_tick", 0))["fired"]:
        # Holds that end after the first values.
        pass
    best = [measure_round(client, block, epoch, 100_000 * number) for number in range(1, ROUNDS + 1)]
    return Measured(min(one.call_us for one in best), max(one.calls_s for one in best))


def measure_round(client: Client, block: Block, epoch: int, seq: int) -> Measured:
    """Measure once. CPU time of the server's thread: others on the machine change it little."""
    before, began, calls = cpu(client), time.perf_counter(), 0
    while time.perf_counter() < began + SECONDS:
        client.call(*call_of(block, epoch, seq + calls))
        calls += 1
    took = time.perf_counter() - began
    return Measured(1e6 * (cpu(client) - before) / calls, calls / took)


def evaluations(client: Client) -> list[Row]:
    """Measure what a rule costs, by the difference to a call that no rule watches."""
    rows, lines = [], []
    unwatched = {count: measure(client, count, 0, simple).call_us for count in COUNTS}
    for name, make in MAKERS.items():
        for count, none in unwatched.items():
            for share in SHARES:
                affected = round(count * share)
                got = measure(client, count, affected, make)
                each, rate = (got.call_us - none) / affected, got.calls_s * affected
                case = f"{name}, {count:,} rules, {100 * share:g} % affected"
                limit = REACH_US if make is simple else None
                lines.append([case, f"{none:.0f}", f"{got.call_us:.0f}", f"{each:.2f}", f"{rate:,.0f}"])
                rows += [
                    Row(case, "a call that no rule watches", none, "us"),
                    Row(case, "a call", got.call_us, "us"),
                    Row(case, "a rule", each, "us", limit),
                    Row(case, "evaluations", rate, "1/s", REACH_EVALUATIONS if share == 1 else None),
                ]
    heads = ["case", "us a call, no rule watches", "us a call", "us a rule", "evaluations/s"]
    report.table("125 points, every value changing, one call in flight", heads, lines)
    return rows


CHANGES: Final[dict[str, Callable[[str, int], tuple[str | bytes | int, ...]]]] = {
    "a new rule": lambda ch, n: ("rule_upsert", 1, f"new{n}", rule_of(simple(ch, n), n)),
    "a rule changed": lambda ch, n: ("rule_upsert", 1, f"r{n}", rule_of([leaf(ch, n, ">", 2000)], n)),
    "a rule switched off": lambda _, n: ("rule_enable", 1, f"r{n}", "false"),
    "a rule deleted": lambda _, n: ("rule_delete", 1, f"r{n}"),
}
PLAIN: Final = "no change"
Costs = dict[str, list[float]]


def change_round(client: Client) -> Costs:
    """Return what each change cost in the server, and the call after it, each in its turn; 10,000 rules are loaded."""
    epoch = fresh(client)
    block = load.make_blocks(SIZE)[0]
    put_rules(client, max(COUNTS), 1000, simple)
    for seq in range(1, 21):
        client.call(*call_of(block, epoch, seq))
    found: Costs = {PLAIN: [cost(client, *call_of(block, epoch, seq)) for seq in range(21, 21 + UPSERTS)]}
    seq = 21 + UPSERTS
    for name, words in CHANGES.items():
        own, after = found.setdefault(name, []), found.setdefault(f"after {name}", [])
        for number in range(UPSERTS):
            own.append(cost(client, "FCALL", *words(block.channel, number)))
            after.append(cost(client, *call_of(block, epoch, seq)))
            seq += 1
    return found


def changes(client: Client) -> list[Row]:
    """Measure what a change of a rule costs, itself and the next call, with 10,000 loaded.

    The same is done in several rounds. What is ours costs the same each time, so of each step the best counts, and
    the worst of the steps is shown; what the host takes away comes at random, to calls without a change, too.
    """
    rounds = [change_round(client) for _ in range(CHANGE_ROUNDS)]
    best = {name: [min(steps) for steps in zip(*(one[name] for one in rounds), strict=True)] for name in rounds[0]}
    worst = {name: max(max(one[name]) for one in rounds) for name in rounds[0]}
    plain = median(best[PLAIN])
    rows, lines = [], []
    for name in CHANGES:
        own, after = best[name], best[f"after {name}"]
        more = median(after) - plain
        figures = median(own), max(own), worst[name], median(after), max(after), more
        lines.append([name, *(f"{figure:.0f}" for figure in figures)])
        rows += [
            Row(name, "itself, median", median(own), "us", REACH_UPSERT_US),
            Row(name, "itself, worst step", max(own), "us", REACH_UPSERT_US),
            Row(name, "itself, worst of any round", worst[name], "us"),
            Row(name, "more for the next call, median", more, "us", REACH_UPSERT_US),
            Row(name, "more for the next call, worst step", max(after) - max(best[PLAIN]), "us", REACH_UPSERT_US),
            Row(name, "next call, worst of any round", worst[f"after {name}"], "us"),
        ]
    heads = ["10,000 rules loaded, 1,000 affected", "us median", "worst step", "worst of any round",
             "the next call", "its worst step", "more than without"]  # fmt: skip
    beside = f"a call without a change takes {plain:.0f} us, the worst step {max(best[PLAIN]):.0f}"
    report.table(f"{beside}, the worst of any round {worst[PLAIN]:.0f}", heads, lines)
    rows += [
        Row("a call without a change", "median", plain, "us"),
        Row("a call without a change", "worst step", max(best[PLAIN]), "us"),
        Row("a call without a change", "worst of any round", worst[PLAIN], "us"),
    ]
    return [*rows, rebuilt(client)]


def rebuilt(client: Client) -> Row:
    """Measure how long the server takes to compile all rules."""
    client.call("SET", "voltage:generation", "other")
    took = cost(client, "FCALL", "voltage_tick", 0) / 1000
    print(f"compiling all of them, as after a restart of the server: {took:.0f} ms")
    return Row("after a restart of the server", "compiling 10,000 rules", took, "ms")


@click.command()
@click.option("--server", "kind", type=click.Choice(["valkey", "redis"]), default="valkey", help="Which server.")
@click.option("--only", type=click.Choice(["evaluations", "changes"]), help="One part; nothing is written.")
def main(kind: str, only: str | None) -> None:
    """Measure rules and write bench/results/rules.json."""
    rows: list[Row] = []
    with server(kind, tcp=False) as client:
        version = information(client, "server")
        name = f"{kind} {version.get('valkey_version', version['redis_version'])}, Unix socket"
        print(f"{name}, append-only file everysec")
        if only in {None, "evaluations"}:
            rows += evaluations(client)
        if only in {None, "changes"}:
            rows += changes(client)
    if only is None:
        print(report.write("rules" if kind == "valkey" else "rules-redis", rows, server=name))


if __name__ == "__main__":
    main()
