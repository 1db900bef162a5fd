"""10,000 random faults over 136 devices, under the real comsrv and a real Redis: are the promises kept?

Recovery under 5 s once a device answers, no value stored that the device did not hold (checked against the
device's own log), the polls of undisturbed devices on time, memory flat, no command written twice or called
verified without effect, and a ledger that balances. Ends with a table and exits 1 when one is broken.

    make chaos-comsrv                                   # about 12 minutes
    make chaos-comsrv ARGS="--minutes 5"
"""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import click
import numpy as np
import orjson

from bench import report
from bench.chaos import comsrv_check as check
from bench.chaos.comsrv_site import (
    CLEAN,
    GATEWAY_UNITS,
    GATEWAYS,
    INTERVAL_MS,
    LINKS,
    SINGLE,
    write_faults,
    write_site,
)
from bench.comsrv_process import Comsrv, folder, free_ports, ledger, load_functions, redis_server, used
from bench.report import Row
from libs.clock import now_ms
from libs.errors import UnavailableError, VoltageError
from libs.redis.resp import Connection, information
from services.commands.twins import links_of, read_channels
from services.comsrv.ledger import balance
from services.simulator.twins.log import Log
from services.simulator.twins.run import Fleet
from services.simulator.twins.settings import load_settings
from tests.support.brokers import make_authority, make_certificate
from tests.support.processes import ROOT, Site
from tests.support.servers import RedisServer

BASELINE_S: Final = 20.0
COMMAND_EVERY_S: Final = 0.08
SAMPLE_S: Final = 2.0
LOG_MB: Final = 2000
# Growth of comsrv's memory that is still flat; a shorter run only warms up.
FLAT_KB_MIN: Final = 512.0
FLAT_AFTER_S: Final = 180.0
MAX_MINUTES: Final = 19.0


class Simulator:
    """`voltage simulate --from-points` as its own process."""

    def __init__(self, place: Path, comsrv: Comsrv | Site, certificate: Path) -> None:
        """Start it."""
        self.log = place / "devices.log"
        command = [
            sys.executable, "-m", "services.cli", "simulate", "--from-points", str(comsrv.config),
            "--faults", str(place / "faults.yaml"), "--log", str(self.log), "--log-mb", str(LOG_MB),
            "--certificate", str(certificate),
        ]  # fmt: skip
        self._output = (place / "simulator.out").open("w+b")
        self._process = subprocess.Popen(
            command, env=comsrv.environ, cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def faults(self) -> int:
        """Return how many faults are in the log so far."""
        with self.log.open("rb") as lines:
            return sum(b'"e":"fault"' in line for line in lines)

    def check(self) -> None:
        """Stop the run if it died."""
        if self._process.poll() is not None:
            self._output.seek(0)
            sys.exit(f"chaos: the simulator ended: {self._output.read().decode()[-2000:]}")

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop it in order, so that its log is whole."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._output.close()


CHANNELS: Final = ("comsrv:updates:*", "comsrv:command:changed")


class Listener(threading.Thread):
    """Writes down what Redis publishes, in its order."""

    def __init__(self, url: str, path: Path, patterns: Iterable[str]) -> None:
        """Subscribe; from here on nothing is missed."""
        super().__init__(name="listener", daemon=True)
        self._connection = Connection(url, 5.0)
        for pattern in patterns:
            self._connection.call("PSUBSCRIBE", pattern)
        self.path = path
        self._file = path.open("wb")
        self._ended = threading.Event()

    def run(self) -> None:
        """Write until stopped."""
        while not self._ended.is_set():
            with suppress(UnavailableError):
                message = self._connection.next(0.5)
                if isinstance(message, list) and isinstance(message[-1], bytes):
                    self._file.write(message[-1] + b"\n")

    def stop(self) -> None:
        """Stop and close the file."""
        self._ended.set()
        self.join()
        self._file.close()
        self._connection.close()


class Commander(threading.Thread):
    """Sends commands at random, each with a value of its own, so that a write says whose it is."""

    def __init__(self, url: str, seed: int) -> None:
        """Prepare."""
        super().__init__(name="commander", daemon=True)
        self.sent: dict[str, tuple[str, str]] = {}
        self.refused: Counter[str] = Counter()
        self._connection = Connection(url, 5.0)
        self._random = random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        """Send until stopped."""
        targets = [(ch, 1) for ch in (*SINGLE, *CLEAN)] + [
            (ch, u) for ch in GATEWAYS for u in range(1, 1 + GATEWAY_UNITS)
        ]
        number = 0
        while not self._ended.wait(COMMAND_EVERY_S):
            number += 1
            channel, unit = self._random.choice(targets)
            command = {
                "id": f"chaos{number}", "type": "A", "point": unit, "value": number, "ttl_ms": 5000,
                "source": {"kind": "user", "name": "chaos"},
            }  # fmt: skip
            try:
                self._connection.call("FCALL", "command_submit", 1, str(channel), orjson.dumps(command))
            except VoltageError as error:
                self.refused[str(error)[:80]] += 1
            else:
                self.sent[str(command["id"])] = (f"{channel}/{unit}", struct.pack(">f", number).hex())

    def stop(self) -> None:
        """Stop."""
        self._ended.set()
        self.join()
        self._connection.close()


class Run(NamedTuple):
    """What a run left behind."""

    began_ms: int
    chaos_ms: int
    ended_ms: int
    memory: list[tuple[float, float]]
    comsrv_cores: float
    simulator_cores: float
    commands: dict[str, tuple[str, str]]


def drive(
    comsrv: Comsrv, simulator: Simulator, listener: Listener, redis: RedisServer, faults: int, minutes: float, seed: int
) -> Run:
    """Run until so many faults have happened or the time is over, and all that was read is in Redis."""
    with comsrv:
        began = now_ms()
        print(f"comsrv is ready; {BASELINE_S:.0f} s without faults", flush=True)
        commander = Commander(redis.url, seed)
        commander.start()
        memory: list[tuple[float, float]] = []
        use = used(comsrv.pid), used(simulator.pid), time.monotonic()
        happened, chaos, told = 0, 0, time.monotonic()
        while happened < faults and time.monotonic() - use[2] < 60 * minutes:
            time.sleep(SAMPLE_S)
            simulator.check()
            memory.append((time.monotonic() - use[2], used(comsrv.pid).rss_mb))
            if time.monotonic() - told > 10:
                happened, told = simulator.faults(), time.monotonic()
                print(f"{happened:,} faults, comsrv {memory[-1][1]:.0f} MB", flush=True)
            chaos = chaos or now_ms()
        commander.stop()
        # What is under way comes to its end.
        time.sleep(check.RECOVERY_MS / 1000 + 2)
        took = time.monotonic() - use[2]
        after = used(comsrv.pid), used(simulator.pid)
        ended = now_ms()
    time.sleep(0.5)
    listener.stop()
    return Run(
        began, chaos, ended, memory, (after[0].cpu_s - use[0].cpu_s) / took, (after[1].cpu_s - use[1].cpu_s) / took,
        commander.sent,
    )  # fmt: skip


def slope(memory: list[tuple[float, float]]) -> float:
    """Return the growth of the last two thirds in kB a minute, by least squares."""
    kept = np.array(memory[len(memory) // 3 :])
    return float(np.polyfit(kept[:, 0], kept[:, 1], 1)[0] * 1024 * 60) if len(kept) > 2 else 0.0


class Judged(NamedTuple):
    """A promise, the figure that tells, and whether it was kept."""

    promise: str
    figure: str
    kept: bool


def p99(values: list[int] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Return the 99th percentile."""
    return float(np.percentile(values, 99)) if len(values) else 0.0


def judge(
    run: Run, devices: check.Devices, stored: check.Stored, fleet: Fleet, connection: Connection, wanted: int
) -> tuple[list[Judged], list[Row]]:
    """Compare and return what was kept."""
    units = fleet.units
    compared, wrong = check.wrong_values(devices, units, stored)
    for each in wrong[: check.EXAMPLES]:
        print(f"wrong: {each}")
    found = list(check.recoveries(devices, stored, run.ended_ms))
    took = [each.took_ms for each in found if each.took_ms is not None]
    late = [each for each in found if each.took_ms is None or each.took_ms > check.RECOVERY_MS]
    for back in late[: check.EXAMPLES]:
        print(f"late: {back.device} after {back.fault.kind} that ended at {back.fault.until_ms}: {back.took_ms} ms")
    first = min((fault.since_ms for fault in devices.faults), default=run.ended_ms)
    clean = [f"{channel}/1" for channel in CLEAN]
    before = p99(check.periods(devices, clean, run.began_ms, first))
    during = p99(check.periods(devices, clean, first, run.ended_ms - 1000))
    beside = p99(check.neighbors(devices, first, run.ended_ms - 1000))
    commands = check.wrong_commands(devices, stored, run.commands)
    for text in commands[: check.EXAMPLES]:
        print(f"command: {text}")
    growth = slope(run.memory)
    counters = ledger(connection)
    pending = int(connection.call("HGET", "hissrv:queue:size", "samples") or 0)
    book = balance(counters, pending)
    kinds = Counter(fault.kind for fault in devices.faults)
    states = Counter(command["state"] for command in stored.commands.values())
    print("faults:", ", ".join(f"{kind} {number}" for kind, number in kinds.most_common()))
    print("late by kind:", dict(Counter(each.fault.kind for each in late)))
    print("commands:", dict(states))
    held_up = float(information(connection, "persistence")["aof_delayed_fsync"])
    judged = [
        Judged("faults that happened", f"{len(devices.faults):,}", len(devices.faults) >= wanted and not devices.cut),
        Judged("values stored that no device held", f"{len(wrong):,} of {compared:,}", not wrong and compared > 0),
        Judged(f"recoveries over {check.RECOVERY_MS / 1000:.0f} s", f"{len(late):,} of {len(found):,}", not late),
        # A loaded machine is late without any fault; that is not the faults' doing.
        Judged("poll period p99 of undisturbed devices", f"{during:.0f} ms ({before:.0f} without faults)",
               during <= check.PERIOD_LIMIT * max(INTERVAL_MS, before)),
        Judged("growth of comsrv's memory", f"{growth:.0f} kB/min",
               growth < FLAT_KB_MIN or run.memory[-1][0] < FLAT_AFTER_S),
        Judged("commands written twice, or verified in vain", f"{len(commands)} of {len(run.commands)}", not commands),
        Judged("the ledger balances", str(book["samples"]["difference"]), bool(book["balanced"])),
    ]  # fmt: skip
    rows = [
        Row("faults", "happened", len(devices.faults), "faults"),
        *(Row("faults", kind, number, "faults") for kind, number in sorted(kinds.items())),
        Row("values", "compared", compared, "values"),
        Row("values", "wrong", len(wrong), "values"),
        Row("recovery", "median", float(np.median(took or [0])), "ms", check.RECOVERY_MS),
        Row("recovery", "p99", p99(took), "ms", check.RECOVERY_MS),
        Row("recovery", "longest", max(took, default=0), "ms", check.RECOVERY_MS),
        Row("recovery", "too late", len(late), "recoveries"),
        Row("poll period p99", "undisturbed devices, before", before, "ms", INTERVAL_MS),
        Row("poll period p99", "undisturbed devices, under chaos", during, "ms", INTERVAL_MS),
        Row("poll period p99", "well units behind a gateway with faults", beside, "ms", INTERVAL_MS),
        Row("redis", "writes held up by the disk", held_up, "times"),
        Row("comsrv", "memory at the end", run.memory[-1][1], "MB"),
        Row("comsrv", "growth", growth, "kB/min"),
        Row("comsrv", "cpu", run.comsrv_cores, "cores"),
        Row("simulator", "cpu", run.simulator_cores, "cores"),
        Row("commands", "sent", len(run.commands), "commands"),
        *(Row("commands", state, number, "commands") for state, number in sorted(states.items())),
        Row("commands", "written twice or falsely verified", len(commands), "commands"),
        *(Row("ledger", name, n, "samples") for name, n in book["samples"].items() if isinstance(n, int)),
    ]  # fmt: skip
    return judged, rows


@click.command()
@click.option("--faults", default=10_000, show_default=True, help="How many.")
@click.option("--minutes", type=float, help="Only so long; as many faults as happen by then.")
@click.option("--seed", default=1, show_default=True)
@click.option("--server", "kind", type=click.Choice(["valkey", "redis"]), default="valkey", help="Which server.")
@click.option("--rtu", is_flag=True, help="RTU frames over TCP for those that speak TCP.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep logs and tables in this folder.")
def main(faults: int, minutes: float | None, seed: int, kind: str, *, rtu: bool, keep: Path | None) -> None:
    """Run it and say what was kept."""
    with folder("voltage-chaos-comsrv-") as temporary:
        place = keep or temporary
        place.mkdir(parents=True, exist_ok=True)
        with redis_server(kind, temporary) as (redis, connection):
            load_functions(connection)
            comsrv = Comsrv(place, redis.url, [])
            authority = make_authority(place / "tls", "authority")
            protocol = "modbus_rtu_over_tcp" if rtu else "modbus_tcp"
            comsrv.configure(write_site(place, free_ports(LINKS), authority, protocol))
            write_faults(place / "faults.yaml", faults, BASELINE_S + 15, seed)
            listener = Listener(redis.url, place / "updates.jsonl", CHANNELS)
            listener.start()
            with Simulator(place, comsrv, make_certificate(authority, "device")) as simulator:
                run = drive(comsrv, simulator, listener, redis, faults, minutes or MAX_MINUTES, seed)
            channels, port_base = read_channels(comsrv.config)
            fleet = Fleet(links_of(channels, port_base), load_settings(place / "faults.yaml"), Log(None))
            log = Log(None)
            log.path = place / "devices.log"
            devices, stored = check.Devices(log), check.Stored(place / "updates.jsonl")
            judged, rows = judge(run, devices, stored, fleet, connection, 1 if minutes else faults)
    lines = [[row.case, row.metric, f"{row.value:,.1f}", row.unit] for row in rows]
    report.table("chaos of the field", ["what", "figure", "value", "unit"], lines)
    for each in judged:
        print(f"{'kept  ' if each.kept else 'BROKEN'} {each.promise}: {each.figure}")
    print(report.write("chaos-comsrv-rtu" if rtu else "chaos-comsrv", rows, seed=seed, server=kind))
    sys.exit(0 if all(each.kept for each in judged) else 1)


if __name__ == "__main__":
    main()
