"""What the systemd units run, run here in their order: a site without `voltage up` and without Docker."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.support.processes import Site
from tests.support.wait import wait_until


class Unit:
    """The parts of a unit file that say what runs, where and when."""

    def __init__(self, file: Path) -> None:
        lines = [line.partition("=") for line in file.read_text().splitlines() if "=" in line]
        self.name = file.stem
        self.command = shlex.split(next(value for key, _, value in lines if key == "ExecStart"))
        self.post = [shlex.split(value) for key, _, value in lines if key == "ExecStartPost"]
        self.once = ("Type", "=", "oneshot") in lines
        self.folder = next(value for key, _, value in lines if key == "WorkingDirectory")
        texts = [shlex.split(value)[0].partition("=") for key, _, value in lines if key == "Environment"]
        self.environ = {"PATH": os.environ["PATH"]} | {name: value for name, _, value in texts}
        self.after = [
            name.removesuffix(".service") for key, _, value in lines if key == "After" for name in value.split()
        ]


def ordered(units: dict[str, Unit]) -> list[Unit]:
    """Return the units so that each comes after what it names."""
    done: list[Unit] = []
    while len(done) < len(units):
        names = {unit.name for unit in done}
        done += [unit for unit in units.values() if unit.name not in names and names >= set(unit.after)]
    return done


async def ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


def start(units: dict[str, Unit], folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    """Do what systemd does, in its order."""
    for unit in ordered(units):
        if unit.once:
            subprocess.run(unit.command, env=unit.environ, cwd=unit.folder, check=True, timeout=60)
            continue
        with (folder / f"{unit.name}.log").open("wb") as log:
            started = subprocess.Popen(unit.command, env=unit.environ, cwd=unit.folder, stdout=log, stderr=log)
        running.append(started)
        for command in unit.post:
            subprocess.run(command, env=unit.environ, cwd=unit.folder, check=True, timeout=60)


@pytest.mark.parametrize("options", [(), ("--single-process",)])
async def test_the_units_bring_up_a_site(tmp_path: Path, options: tuple[str, ...]):
    site = Site(tmp_path / "a site")
    written = site.voltage("install-service", "--user", "--directory", str(tmp_path / "units"), *options)
    assert written.returncode == 0, written.stderr
    site.data.mkdir()
    units = {file.stem: Unit(file) for file in (tmp_path / "units").glob("*.service")}
    running: list[subprocess.Popen[bytes]] = []
    try:
        start(units, tmp_path, running)
        await wait_until(lambda: ready(site.url() + "/health"), "every service is ready", timeout_s=60)
        assert site.voltage("redis", "hget", "comsrv:1001:T", "1").stdout.strip()
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(20)
    assert [process.returncode for process in running] == [0] * len(running)
