"""The steps of a backup and of a restore, in order."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.clock import now_ms
from libs.config import load
from libs.errors import ConflictError, StateError
from libs.processes.lock import holder
from libs.redis import keys, library, server
from libs.redis.client import Client, connect
from libs.redis.functions import Functions
from libs.site import Site
from services.backup import archive, collect, keyspace, settle, staging
from services.backup.archive import Advance, Manifest, Source
from services.hissrv.settings import HissrvSettings

STAGING: Final = ".backup"
KEYS_FILE: Final = "redis/keys.msgpack"
OTHER: Final = "set VOLTAGE_DATA_DIR to a new folder"

# Begins a bar of so many bytes, named; returns what moves it.
Bar = Callable[[str, int], Advance]


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    manifest: Manifest
    expired: int
    config_kept: bool


def history_folder(site: Site, config_dir: Path | None = None) -> Path:
    """Return where hissrv keeps its files."""
    environ = site.environment()
    if config_dir is not None:
        environ = environ | {"VOLTAGE_CONFIG_DIR": str(config_dir)}
    return load(HissrvSettings, "hissrv", environ).settings.store_folder.absolute()


# ---------------------------------------------------------------- backup


async def backup(site: Site, file: Path, bar: Bar) -> tuple[Manifest, int]:
    """Copy a running site into a file; return its manifest and size.

    Raises:
        StateError: the file exists, or Redis holds nothing of this site.
        UnavailableError: Redis is away, or the disk refuses.
    """
    archive.refuse_existing(file)
    client = connect(site.redis_url(), blocking=True)
    try:
        with _staging(site.data_dir) as stage:
            version = await library.check(client, site.settings.namespace)
            snapshot = await keyspace.take(client, site.settings.namespace)
            bar("keys of Redis", 1)(1)
            sources = _copy(site, stage, snapshot, file)
            total = sum(source.path.stat().st_size for source in sources)
            members = archive.members_of(sources, bar("checksums", total))
            manifest = Manifest(
                format=archive.FORMAT,
                voltage=importlib.metadata.version("voltageems"),
                api=version.api,
                digest=version.digest,
                schema_number=keys.SCHEMA,
                server=server.probe(site.redis_url()).partition(" at ")[0],
                namespace=site.settings.namespace,
                at_ms=snapshot.at_ms,
                image=snapshot.image,
                image_after=await keyspace.image_of(client, site.settings.namespace),
                copied_at_ms=now_ms(),
                keys=len(snapshot.keys),
                members=members,
            )
            return manifest, archive.write(file, manifest, sources, bar("archive", total))
    finally:
        await client.aclose()


def _copy(site: Site, stage: Path, snapshot: keyspace.Snapshot, file: Path) -> list[Source]:
    """Copy everything else: after the keys, so that what they still queue may be in the copies, never the reverse."""
    (stage / "redis").mkdir()
    keyspace.write_keys(stage / KEYS_FILE, snapshot.keys)
    folder = history_folder(site)
    without = [folder, site.config_dir, stage, file]
    return [
        Source(KEYS_FILE, stage / KEYS_FILE),
        *collect.data(site.data_dir, stage, without=without),
        *collect.configuration(site.config_dir, stage, without=[site.data_dir, folder, file]),
        *collect.history(folder, stage),
    ]


@contextmanager
def _staging(data_dir: Path) -> Iterator[Path]:
    """Give a private folder beside what is copied; what an interrupted backup left there goes first."""
    if not data_dir.is_dir():
        raise StateError(f"{data_dir} does not exist; is VOLTAGE_DATA_DIR that of the site?")
    folder = data_dir / STAGING
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another backup of {data_dir} is running") from None
        stage = folder / "files"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(mode=0o700)
        try:
            yield stage
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


# ---------------------------------------------------------------- restore


async def restore(site: Site, file: Path, bar: Bar, *, keep_config: bool) -> Restored:
    """Make a site of a backup, on a machine or in a data directory that has none.

    Raises:
        StateError: something is there already, or the backup is not for this site or program.
        ConflictError: the site runs.
        InvalidError: the file is damaged, or this server can't read what is in it.
    """
    if holder(site.data_dir) is not None:
        raise ConflictError(f"voltage up runs with {site.data_dir}; a restore replaces nothing: {OTHER}")
    staging.refuse_full(site.data_dir, OTHER)

    def begin(manifest: Manifest) -> Advance:
        _fits(site, manifest)
        return bar("unpack and verify", sum(member.bytes for member in manifest.members))

    with staging.beside(site.data_dir) as stage:
        for part in ("data", "config", "history"):
            (stage / part).mkdir(mode=0o700)
        manifest = archive.extract(file, stage, begin)
        kept = _configuration_stays(site, stage / "config", keep_config)
        history = history_folder(site, site.config_dir if kept else stage / "config")
        moves = _moves(site, stage, history, kept)
        expired = await _restore_redis(site, stage, manifest, bar, moves)
        return Restored(manifest, expired, kept)


def _fits(site: Site, manifest: Manifest) -> None:
    if manifest.schema_number > keys.SCHEMA:
        raise StateError(
            f"the backup has schema {manifest.schema_number}, newer than {keys.SCHEMA}; use voltage {manifest.voltage}"
        )
    if manifest.namespace != site.settings.namespace:
        raise StateError(
            f"the backup is of namespace {manifest.namespace!r}, this site is {site.settings.namespace!r}; "
            f"set VOLTAGE_NAMESPACE={manifest.namespace}"
        )


def _configuration_stays(site: Site, staged: Path, keep: bool) -> bool:
    """Say whether the configuration that is there is used: the same one, or the user wants it so."""
    if staging.is_empty(site.config_dir):
        return False
    if keep or staging.same_files(staged, site.config_dir):
        return True
    raise StateError(
        f"{site.config_dir} holds another configuration than the backup; set VOLTAGE_CONFIG_DIR to a new folder, "
        "or say --keep-config to use what is there"
    )


def _moves(site: Site, stage: Path, history: Path, kept: bool) -> list[tuple[Path, Path]]:
    """Return what goes where, the data directory last: without it there is no site yet."""
    moves = []
    if history.is_relative_to(site.data_dir):
        place = stage / "data" / history.relative_to(site.data_dir)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if staging.is_empty(stage / "history"):
            (stage / "history").rmdir()
        else:
            (stage / "history").rename(place)
    else:
        staging.refuse_full(history, "hissrv keeps its files there; empty it, or change store.folder")
        moves.append((stage / "history", history))
    if not kept:
        if site.config_dir.is_relative_to(site.data_dir):
            (stage / "config").rename(stage / "data" / site.config_dir.relative_to(site.data_dir))
        else:
            moves.append((stage / "config", site.config_dir))
    return [*moves, (stage / "data", site.data_dir)]


async def _restore_redis(site: Site, stage: Path, manifest: Manifest, bar: Bar, moves: list[tuple[Path, Path]]) -> int:
    url = site.settings.redis.url
    if url is None:
        binary = server.find_binary(site.settings.redis.server)
        with staging.private_redis(binary, stage / "data" / "redis", site.settings.redis.maxmemory) as address:
            expired = await _with_keys(address, site, stage, manifest, bar)
        _apply(moves)
        return expired
    # A Redis of the user's own can't be staged: it has none of our keys before, and none after a failure.
    client = connect(url, blocking=True)
    try:
        if count := await keyspace.present_keys(client, site.settings.namespace):
            raise StateError(f"the Redis of VOLTAGE_REDIS_URL holds {count} keys of this site; set VOLTAGE_NAMESPACE")
        try:
            expired = await _with_keys(url, site, stage, manifest, bar)
            _apply(moves)
        except BaseException:
            await keyspace.remove(client, site.settings.namespace)
            raise
        return expired
    finally:
        await client.aclose()


def _apply(moves: list[tuple[Path, Path]]) -> None:
    for staged, target in moves:
        staging.apply(staged, target)


async def _with_keys(url: str, site: Site, stage: Path, manifest: Manifest, bar: Bar) -> int:
    client: Client = connect(url, blocking=True)
    namespace = site.settings.namespace
    try:
        file = stage / KEYS_FILE
        advance = bar("keys of Redis", file.stat().st_size)
        await keyspace.put(client, namespace, keyspace.read_keys(file), advance)
        await library.load(client, namespace)
        return await settle.settle(Functions(client, namespace), manifest, stage)
    finally:
        await client.aclose()
