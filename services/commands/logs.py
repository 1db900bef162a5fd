"""`voltage logs`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

import click

from libs.errors import NotFoundError
from libs.site import load_site
from services.supervisor.loglines import readable

CHUNK: Final = 65536


@click.command()
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added, until Ctrl-C.")
@click.option("--raw", is_flag=True, help="Lines as they stand in the file, JSON.")
@click.option("-n", "--lines", default=100, show_default=True, help="How many of the last lines.")
def logs(service: str, follow: bool, raw: bool, lines: int) -> None:
    """Show the log of a service (also: redis, simulator)."""
    folder = load_site().logs_dir
    file = folder / f"{service}.log"
    if not file.exists():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none: voltage up was never run here"
        elsewhere = f"under systemd: journalctl -u voltage-{service}; in Docker: docker logs voltageems-{service}"
        raise NotFoundError(f"no log of {service!r} in {folder}; there are {there}; {elsewhere}")
    size = file.stat().st_size
    for line in tail(file, lines):
        click.echo(line if raw else readable(line))
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(file, size, raw=raw)


def tail(file: Path, count: int) -> list[str]:
    """Return the last lines of a file, reading from its end."""
    with file.open("rb") as opened:
        position = opened.seek(0, 2)
        data = b""
        while position > 0 and data.count(b"\n") <= count:
            step = min(CHUNK, position)
            position = opened.seek(position - step)
            data = opened.read(step) + data
    return data.decode(errors="replace").splitlines()[-count:] if count else []


def _follow(file: Path, position: int, *, raw: bool) -> None:
    rest = b""
    while True:
        size = file.stat().st_size
        # The supervisor cuts a log that has grown too long.
        position = min(position, size)
        if size > position:
            with file.open("rb") as opened:
                opened.seek(position)
                data = rest + opened.read(size - position)
            position = size
            *lines, rest = data.split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                click.echo(text if raw else readable(text))
        time.sleep(0.2)
