"""Rules that command, over devices that misbehave: does any command come from bad or stale input?

The 136 devices of `make chaos-comsrv` with their faults, 96 rules over them of every shape, and on top of it comsrv and
rulesrv killed -9 and held, Redis held. Each command of a rule in the site's journal is held against what was published
of the rule's inputs up to its firing: their quality, and their age. Ends with a table and exits 1 where one came from
an input that was bad, stale or older than a lease and a poll.

    make chaos-rules                                    # four minutes
    make chaos-rules ARGS="--minutes 2"
    make chaos-rules ARGS="--on-bad last --minutes 1.5" # rules that may: this must be found, and exits 1
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import numpy as np
import orjson

from bench import report
from bench.chaos import rules_check as check
from bench.chaos import rules_site
from bench.chaos.comsrv import Listener, Simulator
from bench.chaos.comsrv_site import LINKS, STEP_MS, write_site
from bench.comsrv_process import folder, free_ports, redis_server
from bench.report import Row
from libs.redis.resp import Connection
from services.simulator.twins.settings import RANDOM_KINDS
from tests.support.brokers import make_authority, make_certificate
from tests.support.processes import Site
from tests.support.servers import RedisServer

WARM_S: Final = 5.0
HELD_S: Final = 6.0
FAULTS_EVERY_S: Final = (0.3, 1.2)
CHANNELS: Final = ("comsrv:updates:*", "rulesrv:triggered")


class Stage(NamedTuple):
    """What runs."""

    site: Site
    redis: RedisServer

    def pid(self, name: str) -> int:
        """Return the process of a service, or of Redis; one that was killed is started again in a moment."""
        if name == "redis":
            return self.redis.process.pid
        until = time.monotonic() + HELD_S
        while name not in self.site.children() and time.monotonic() < until:
            time.sleep(0.1)
        return self.site.pid(name)


@contextmanager
def held(stage: Stage, *names: str) -> Iterator[None]:
    """Hold processes; they go on in the order of their names."""
    pids = [stage.pid(name) for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            # Who comes first has time for a call alone.
            time.sleep(0.3)


def hold(*names: str) -> Callable[[Stage], None]:
    """Return what holds processes for longer than a lease."""

    def act(stage: Stage) -> None:
        with held(stage, *names):
            time.sleep(HELD_S)

    return act


def kill(name: str) -> Callable[[Stage], None]:
    """Return what kills a service; `voltage up` starts it again."""
    return lambda stage: os.kill(stage.pid(name), signal.SIGKILL)


# Part of the time at which something happens beside the faults of devices.
TROUBLES: Final[dict[str, tuple[float, Callable[[Stage], None]]]] = {
    "comsrv held": (0.15, hold("comsrv")),
    "comsrv killed -9": (0.3, kill("comsrv")),
    "all asleep, rulesrv awake first": (0.45, hold("rulesrv", "comsrv")),
    "rulesrv killed -9": (0.6, kill("rulesrv")),
    "Redis held": (0.7, hold("redis")),
    "all asleep, comsrv awake first": (0.85, hold("comsrv", "rulesrv")),
}


class Run(NamedTuple):
    """What a run left behind."""

    messages: Path
    commands: list[check.Command]
    faults: int
    troubles: list[str]


def write_faults(path: Path, seed: int) -> None:
    """Write the file of the simulator: values that swing, so that conditions come and go, and faults at random."""
    plan = {
        "seed": seed, "step_ms": STEP_MS,
        "values": [{"generator": "sine", "low": 0, "high": 100, "period_s": rules_site.PERIOD_S}],
        "random": {
            "device": "1*", "after_s": WARM_S, "every_s": FAULTS_EVERY_S, "for_s": [0.2, 6.0], "count": [1, 3],
            "ms": [50, 1500], "kinds": {str(kind): 1.0 for kind in RANDOM_KINDS},
        },
    }  # fmt: skip
    path.write_bytes(orjson.dumps(plan))


def drive(stage: Stage, simulator: Simulator, listener: Listener, minutes: float) -> Run:
    """Let it run, and trouble it."""
    began, waiting, done = time.monotonic(), dict(TROUBLES), []
    while (share := (time.monotonic() - began) / (60 * minutes)) < 1:
        for name in [name for name, (at, _) in waiting.items() if share >= at]:
            print(f"{60 * minutes * share:.0f} s: {name}; {simulator.faults()} faults so far", flush=True)
            waiting.pop(name)[1](stage)
            done.append(name)
        simulator.check()
        time.sleep(0.5)
    # Nothing is commanded any more, so that journal and messages end together.
    stage.site.stop()
    time.sleep(1.0)
    listener.stop()
    with Connection(stage.redis.url) as connection:
        commands = list(check.journal(connection.call("XRANGE", "comsrv:journal", "-", "+")))
    return Run(listener.path, commands, simulator.faults(), done)


def live(place: Path, redis: RedisServer, minutes: float, seed: int, made: list[rules_site.Rule]) -> Run:
    """Start the devices and the site, and drive them."""
    source = place / "source"
    source.mkdir()
    authority = make_authority(place / "tls", "authority")
    # The tables stand under `config/` of the folder that write_site is given.
    channels = write_site(source, free_ports(LINKS), authority)
    config = source / "config"
    (config / "comsrv.yaml").write_bytes(orjson.dumps({"channels": channels}))
    rules_site.write_rules(config, made)
    write_faults(place / "faults.yaml", seed)
    site = Site(place / "site", config, VOLTAGE_REDIS_URL=redis.url)
    listener = Listener(redis.url, place / "messages.jsonl", CHANNELS)
    listener.start()
    with Simulator(place, site, make_certificate(authority, "device")) as simulator:
        try:
            site.start()
            return drive(Stage(site, redis), simulator, listener, minutes)
        finally:
            site.stop()


def judge(run: Run, found: check.Found) -> tuple[list[tuple[str, bool]], list[Row]]:
    """Return each promise with whether it was kept, and the figures."""
    counts = found.counts
    oldest = max(found.ages, default=0)
    withheld = counts["withheld, not good"] + counts["withheld, stale"] + counts["withheld, late"]
    promises = [
        (f"commands of rules on input that was not good: {len(found.bad)} of {found.commands}", not found.bad),
        (f"commands of rules on input older than {check.OLDEST_MS} ms: {len(found.stale)}, the oldest {oldest} ms",
         not found.stale),
        (f"commands of rules without a firing that explains them: {len(found.unexplained)}", not found.unexplained),
        (f"commands withheld although all input was good: {len(found.needless)}", not found.needless),
        (f"firings whose record says another quality than was published: {len(found.misquoted)}", not found.misquoted),
        # A run in which nothing was to be withheld shows nothing.
        (f"{found.commands} commands, {withheld} withheld, {counts['tempted']} times the last good values would have",
         min(found.commands, withheld, counts["tempted"]) > 0),
    ]  # fmt: skip
    rows = [
        Row("faults of devices", "happened", run.faults, "faults"),
        Row("services held or killed", "comsrv, rulesrv, Redis", len(run.troubles), "times"),
        Row("rules", "that command", rules_site.RULES, "rules"),
        Row("commands of rules", "in the journal", found.commands, "commands"),
        Row("commands of rules", "on bad input", len(found.bad), "commands"),
        Row("commands of rules", "on stale input", len(found.stale), "commands"),
        Row("commands of rules", "without a firing", len(found.unexplained), "commands"),
        Row("age of an input when commanded", "median", float(np.median(found.ages or [0])), "ms", check.OLDEST_MS),
        Row("age of an input when commanded", "oldest", oldest, "ms", check.OLDEST_MS),
        Row("firings", "on good input", counts["firings on good input"], "firings"),
        Row("firings", "on input that was not good", counts["firings on input that was not good"], "firings"),
        Row("commands withheld", "an input was not good", counts["withheld, not good"], "commands"),
        Row("commands withheld", "a lease was over", counts["withheld, stale"], "commands"),
        Row("commands withheld", "a block came later than a lease", counts["withheld, late"], "commands"),
        Row("commands withheld", "for another reason", counts["withheld, another reason"], "commands"),
        Row("conditions that came to hold by last good values", "input not good", counts["tempted"], "times"),
    ]  # fmt: skip
    return promises, rows


@click.command()
@click.option("--minutes", default=4.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--on-bad", type=click.Choice(["hold", "last"]), default="hold", help="last: this run must be broken.")
@click.option("--server", "kind", type=click.Choice(["valkey", "redis"]), default="valkey", help="Which server.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep messages and logs in this folder.")
def main(minutes: float, seed: int, on_bad: str, kind: str, keep: Path | None) -> None:
    """Run it and say what was kept."""
    made = list(rules_site.rules(on_bad))
    with folder("voltage-chaos-rules-") as temporary:
        place = (keep or temporary).resolve()
        place.mkdir(parents=True, exist_ok=True)
        with redis_server(kind, temporary) as (redis, _):
            run = live(place, redis, minutes, seed, made)
        found = check.Check(made, run.commands).read(run.messages)
    promises, rows = judge(run, found)
    lines = [[row.case, row.metric, f"{row.value:,.0f}", row.unit] for row in rows]
    report.table("rules over devices that misbehave", ["what", "figure", "value", "unit"], lines)
    examples: list[Any] = [found.bad, found.stale, found.unexplained, found.needless, found.misquoted]
    for text in (text for some in examples for text in some[: check.EXAMPLES]):
        print(f"  {text}")
    for promise, kept in promises:
        print(f"{'kept  ' if kept else 'BROKEN'} {promise}")
    if on_bad == "hold":
        print(report.write("chaos-rules", rows, seed=seed, minutes=minutes, server=kind))
    sys.exit(0 if all(kept for _, kept in promises) else 1)


if __name__ == "__main__":
    main()
