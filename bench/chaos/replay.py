"""A day of the simulated site, recorded and replayed: the same journals, byte for byte.

The site runs with 60 rules and 40 alarm definitions more than it has; operators acknowledge, shelve, command and
switch rules; comsrv, rulesrv, hissrv and Redis are killed -9 one after the other; a device answers with garbage, late
or not at all for a while. Then `voltage replay` makes all of it again: its report must name no difference and no gap,
and compare as many entries as the site's own journals have. One rule is then changed: the report must name that rule,
what it did, and nothing else. No rule may have commanded on input that was not good.
Exits 1 when one of these is broken.

    make chaos-replay                                # a day in 6 minutes
    make chaos-replay ARGS="--minutes 2"
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import aiohttp
import click
import orjson

from bench.chaos import replay_site
from bench.report import Row, table, write
from tests.support.processes import Api, Site

SETTLE_S: Final = 8.0
ACT_S: Final = 0.7
# Part of the day at which somebody is killed -9.
CRASHES: Final = {"comsrv": 0.25, "rulesrv": 0.5, "hissrv": 0.7, "redis": 0.85}
BAD: Final = (0.35, 0.45)
REPLAY_S: Final = 600.0
JOURNALS: Final = ("alarmsrv:journal", "rulesrv:firings", "comsrv:journal")
# Entries whose call began before the start or ended after the end.
EDGE: Final = 5


async def live(site: Site, relay: replay_site.Relay, minutes: float, dice: random.Random) -> dict[str, Any]:
    """Live the day; return when it was, the rules, and what the operators did."""
    async with aiohttp.ClientSession() as session:
        api = Api(site, session, site.token())
        rules = await replay_site.define(api, dice)
        operators = replay_site.Operators(api, dice)
        began, start_ms = time.monotonic(), int(time.time() * 1000)
        waiting = dict(CRASHES)
        while (share := (time.monotonic() - began) / (minutes * 60)) < 1:
            relay.bad = BAD[0] <= share < BAD[1]
            for name in [name for name, at in waiting.items() if share >= at]:
                replay_site.crash(site, name)
                del waiting[name]
            try:
                await operators.act()
            except aiohttp.ClientError:
                operators.refused += 1
            await asyncio.sleep(ACT_S)
        end_ms = int(time.time() * 1000)
        await asyncio.sleep(SETTLE_S)
    return {"start": start_ms, "end": end_ms, "rules": rules, "done": operators.done, "refused": operators.refused}


def own_entries(site: Site, start_ms: int, end_ms: int) -> dict[str, int]:
    """Count what the site's own journals have of that time."""
    found = {}
    with site.redis() as redis:
        for name in JOURNALS:
            count = 0
            for _, fields in redis.call("XRANGE", name, "-", "+"):
                pairs = dict(zip(fields[::2], fields[1::2], strict=True))
                count += start_ms <= int(pairs[b"at_ms"]) <= end_ms
            found[name] = count
    return found


def busiest(site: Site, rules: dict[str, Any]) -> str:
    """Return the rule that fired most, of those that only raise an alarm."""
    with site.redis() as redis:
        found = [dict(zip(one[::2], one[1::2], strict=True)) for _, one in redis.call("XRANGE", JOURNALS[1], "-", "+")]
    fired = Counter(one[b"rule"].decode() for one in found if one[b"event"] == b"fired")
    return max((name for name, one in rules.items() if len(one["actions"]) == 1), key=lambda name: fired[name])


def asked(site: Site, *words: str) -> dict[str, Any]:
    """Run one of our commands with --json; return its report."""
    done = site.voltage(*words, "--json", timeout_s=REPLAY_S)
    if done.returncode not in {0, 1} or not done.stdout.strip():
        raise SystemExit(f"voltage {' '.join(words)}: {done.stderr or done.stdout}{site.logs()}")
    report: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    return report


def raised(site: Site, name: str) -> set[str]:
    """Return the alarms that a rule raised."""
    origin = f"rule:{name}#1".encode()
    with site.redis() as redis:
        found = [dict(zip(one[::2], one[1::2], strict=True)) for _, one in redis.call("XRANGE", JOURNALS[0], "-", "+")]
    return {one[b"alarm"].decode() for one in found if one[b"origin"] == origin}


def strangers(report: dict[str, Any], name: str, alarms: set[str]) -> list[dict[str, Any]]:
    """Return the differences that neither name the rule nor an alarm or a command of it."""
    ours = {name, f"rule:{name}#1", f"rule:{name}"}
    alarms = alarms | {one["alarm"] for one in report["differences"] if one.get("origin") in ours}
    return [
        one
        for one in report["differences"]
        if not ours & {one.get("rule"), one.get("origin"), one.get("by")}
        and not alarms & {one.get("key"), one.get("alarm")}
    ]


def spoiled(site: Site) -> tuple[int, list[str]]:
    """Count the commands of rules, and name those whose firing says of an input that it was not good."""
    with site.redis() as redis:
        found = [dict(zip(one[::2], one[1::2], strict=True)) for _, one in redis.call("XRANGE", JOURNALS[1], "-", "+")]
    commands, bad = 0, []
    for one in found:
        made = [action["result"] for action in orjson.loads(one[b"actions"]) if action.get("result", "")[:4] == "cmd-"]
        commands += len(made)
        if made and any(seen["quality"] != "good" for seen in orjson.loads(one[b"inputs"])):
            bad.append(f"{one[b'rule'].decode()} at {int(one[b'at_ms'])}: {made}")
    return commands, bad


def judged(site: Site, day: dict[str, Any], folder: Path) -> tuple[list[Row], list[str]]:
    """Replay, and say what is wrong."""
    problems = []
    span = str(day["start"]), str(day["end"])
    same = asked(site, "replay", *span)
    own = own_entries(site, day["start"], day["end"])
    if same["different"] or not same["exact"]:
        problems.append(f"{same['different']} differences, {same['reasons']}: {same['differences'][:3]}")
    for journal, count in own.items():
        if abs(count - same["journals"].get(journal, 0)) > EDGE:
            problems.append(f"{journal} has {count} entries, {same['journals'].get(journal, 0)} were compared")
    name = busiest(site, day["rules"])
    document = day["rules"][name] | {"conditions": [{"source": "comsrv:1001:T:1", "operator": ">", "value": 1e9}]}
    file = folder / "changed.json"
    file.write_bytes(orjson.dumps(document))
    changed = asked(site, "backtest", "rule", name, *span, "--with", str(file))
    others = strangers(changed, name, raised(site, name))
    if others:
        problems.append(f"with {name} changed, others differ too: {others[:3]}")
    commands, bad = spoiled(site)
    if bad or not commands:
        problems.append(f"{len(bad)} of {commands} commands of rules came from input that was not good: {bad[:3]}")
    then = changed["totals"]["then"]["events"]
    if not then.get("fired") or changed["totals"]["now"]["events"].get("fired"):
        problems.append(f"{name} fired {then.get('fired', 0)} times, and changed as {changed['totals']['now']}")
    seconds = (same["end_ms"] - same["start_ms"]) / 1000
    rows = [
        Row("calls made again", "of all", same["calls"], ""),
        *(
            Row(f"entries of {journal} compared", "all the same", count, "", own[journal])
            for journal, count in same["journals"].items()
        ),
        Row("differences", "byte for byte", same["different"], ""),
        Row("commands of rules", f"{len(bad)} on input that was not good", commands, ""),
        Row("replay", "times real time", seconds / (same["took_ms"] / 1000), "x"),
        Row(f"one rule of {then.get('fired', 0)} firings changed", "entries that differ", changed["different"], ""),
        Row("differences that name another rule", "", len(others), ""),
    ]  # fmt: skip
    return rows, problems


async def run(folder: Path, minutes: float, seed: int) -> tuple[list[Row], list[str]]:
    """Record a day and replay it."""
    dice = random.Random(seed)
    site = Site(folder)
    relay = replay_site.Relay(site.port_base + 21, seed)
    replay_site.configure(site.config, minutes, await relay.start())
    try:
        await asyncio.to_thread(site.start)
        day = await live(site, relay, minutes, dice)
        rows, problems = await asyncio.to_thread(judged, site, day, folder)
    finally:
        await asyncio.to_thread(site.stop)
        await relay.stop()
    lived = [
        Row("rules and alarm definitions", "added", replay_site.RULES + replay_site.DEFINITIONS, ""),
        Row("operator actions", f"{day['refused']} refused", day["done"], ""),
        Row("services killed -9", ", ".join(CRASHES), len(CRASHES), ""),
        Row("answers of a device spoiled", "", relay.spoiled, ""),
    ]
    if not relay.spoiled:
        problems.append("the bad device was not bad")
    return [*lived, *rows], problems


@click.command()
@click.option("--minutes", default=6.0, help="How long the day lasts.")
@click.option("--seed", default=1)
def main(minutes: float, seed: int) -> None:
    """Record a day of the simulated site, replay it, and compare."""
    with tempfile.TemporaryDirectory(prefix="voltage-chaos-") as folder:
        rows, problems = asyncio.run(run(Path(folder), minutes, seed))
    lines = [[row.case, row.metric, f"{row.value:,.4g}", row.unit] for row in rows]
    table(f"a day in {minutes:g} minutes, recorded and replayed", ["", "", "value", ""], lines)
    click.echo(write("chaos-replay", rows, minutes=minutes))
    for problem in problems:
        click.echo(f"BROKEN: {problem}", err=True)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
