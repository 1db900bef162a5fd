"""`voltage backup` and `voltage restore`."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from libs.clock import now_ms
from libs.site import load_site
from services.backup import run
from services.backup.archive import Advance, Manifest
from services.commands.api import console


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Copy the whole site into FILE while it runs: values, definitions, history, users, keys, configuration.

    Only its owner can read the file: it holds the key of the API tokens.
    """
    site = load_site()
    started = time.monotonic()
    with _bars() as bar:
        manifest, size = asyncio.run(run.backup(site, file.absolute(), bar))
    click.echo(f"{file}: {_bytes(size)}, {manifest.keys} keys and {len(manifest.members) - 1} files")
    click.echo(f"recovery point: {_instant(manifest)}, image {manifest.image} ({manifest.image_after} at the end)")
    if site.settings.token.key is not None:
        click.echo("not in it: the token key, which comes from VOLTAGE_TOKEN_KEY; keep it elsewhere")
    if site.settings.influxdb.url is not None:
        click.echo(f"not in it: what InfluxDB at {site.settings.influxdb.url} holds")
    click.echo(f"took {time.monotonic() - started:.1f} s")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--keep-config", is_flag=True, help="Use the configuration that is there, not the backup's.")
def restore(file: Path, keep_config: bool) -> None:
    """Make a site of FILE where there is none; then start it with: voltage up.

    Every checksum is verified first. A file that is damaged, a data directory
    that is not empty or a site that runs is refused, and nothing is changed.
    Commands that waited expire: a late command never goes out.
    """
    site = load_site()
    started = time.monotonic()
    with _bars() as bar:
        done = asyncio.run(run.restore(site, file.absolute(), bar, keep_config=keep_config))
    manifest = done.manifest
    age = (now_ms() - manifest.at_ms) / 1000
    click.echo(f"restored into {site.data_dir}: {manifest.keys} keys and {len(manifest.members) - 1} files")
    if done.config_kept:
        click.echo(f"the configuration in {site.config_dir} stays as it is")
    if done.expired:
        click.echo(f"commands that waited and expired: {done.expired}")
    click.echo(f"recovery point: {_instant(manifest)}, image {manifest.image}; {dt.timedelta(seconds=round(age))} ago")
    click.echo(f"took {time.monotonic() - started:.1f} s")
    click.echo("start it with: voltage up")


def _instant(manifest: Manifest) -> str:
    at = dt.datetime.fromtimestamp(manifest.at_ms / 1000, dt.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


@contextmanager
def _bars() -> Iterator[run.Bar]:
    """Show a bar for each step on a terminal; elsewhere nothing."""
    view = console(stderr=True)
    columns = (TextColumn("{task.description:<18}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=view, disable=not view.is_terminal) as progress:

        def bar(name: str, total: int) -> Advance:
            task = progress.add_task(name, total=total)
            return lambda count: progress.advance(task, count)

        yield bar
