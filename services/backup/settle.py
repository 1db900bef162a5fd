"""What a restored site must not bring back to life.

Before anything else can reach the restored keys, on a server of their own:
leases end at the instant of the backup, so that every point is stale and no
condition decides on old values; what was due since then fires; every command
that waits, or that this brings about, expires. A late command never goes out,
and nobody is told of an alarm of before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from libs.clock import now_ms
from libs.errors import InternalError, UnavailableError
from libs.redis import keys
from libs.redis.client import execute
from libs.redis.functions import Functions
from services.alarmsrv.journal import journal
from services.alarmsrv.journal.archive import Archive
from services.backup.archive import Manifest

# A tick fires 20 timers: room for 200,000.
TICKS: Final = 10_000


async def settle(functions: Functions, manifest: Manifest, folder: Path) -> int:
    """Bring restored keys to rest; return how many commands expired.

    Raises:
        UnavailableError: it does not come to rest.
    """
    await _continue_journal(functions, folder)
    await _end_leases(functions, manifest.at_ms)
    expired = 0
    for _ in range(TICKS):
        waiting = await _expire_commands(functions, manifest.at_ms)
        expired += waiting
        tick = await functions.json("voltage_tick", None, {})
        if not (waiting or tick["fired"] or tick["drained"]):
            break
    else:
        raise UnavailableError(f"the restored timers do not come to rest in {TICKS} ticks")
    await _forget_messages(functions)
    await _pass_known_entries(functions, folder)
    await execute(
        functions.client, "XADD", functions.key(keys.key("events")), "*", "at_ms", now_ms(), "what", "restored",
        "detail", f"backup of {manifest.at_ms}, image {manifest.image}, {expired} commands expired",
    )  # fmt: skip
    return expired


async def _continue_journal(functions: Functions, folder: Path) -> None:
    """Let the journal of alarms go on after the newest entry in its files, which were copied after the keys."""
    last = Archive(folder / "data" / "alarmsrv" / "journal").last()
    if last is None or not last.number:
        return
    document = {"id": last.id, "number": last.number, "hash": last.hash, "keep": journal.MAX_KEPT}
    await functions.call("alarm_journal_archived", None, document)
    with suppress(InternalError):  # The stream is past it.
        await execute(functions.client, "XSETID", functions.key(keys.key("alarm_journal")), last.id)


async def _forget_messages(functions: Functions) -> None:
    """Drop what people were to be told: it is old, and this may be another machine."""
    for name in ("alarm_outbox", "alarm_outbox_sending", "alarm_outbox_done"):
        await execute(functions.client, "DEL", functions.key(keys.key(name)))


async def _channels(functions: Functions) -> list[str]:
    found = await execute(functions.client, "SMEMBERS", functions.key(keys.key("channels")))
    return sorted(one.decode() for one in found)


async def _end_leases(functions: Functions, at_ms: int) -> None:
    for channel in await _channels(functions):
        status = functions.key(keys.key("status", ch=channel))
        if await execute(functions.client, "HGET", status, "leased") == b"1":
            await _due(functions, f"lease|{channel}", at_ms)


async def _expire_commands(functions: Functions, at_ms: int) -> int:
    """Make the timers of all queued commands due; return how many commands that is."""
    count = 0
    for channel in await _channels(functions):
        queue = functions.key(keys.key("command_queue", ch=channel))
        for command in await execute(functions.client, "ZRANGE", queue, 0, -1):
            await _due(functions, f"command|{command.decode()}", at_ms)
            count += 1
    return count


async def _due(functions: Functions, timer: str, at_ms: int) -> None:
    await execute(functions.client, "ZADD", functions.key(keys.key("timers")), at_ms, timer)


async def _pass_known_entries(functions: Functions, folder: Path) -> None:
    """Let the history queue go on after the newest entry that the copied stores know.

    They were copied after the keys. Where this machine's clock is behind, an id
    could come again, and its samples would be taken for a repeat.
    """
    newest = max(_known_entries(folder), default=None)
    if newest is not None:
        with suppress(InternalError):  # The queue is past it.
            queue = functions.key(keys.key("history_queue"))
            await execute(functions.client, "XSETID", queue, f"{newest[0]}-{newest[1]}")


def _known_entries(folder: Path) -> Iterator[tuple[int, int]]:
    tables = [(folder / "history" / "open.sqlite", "entries")]
    tables += [(path, "taken") for path in sorted((folder / "data" / "netsrv").glob("*.db"))]
    for path, table in tables:
        if path.exists():
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db, suppress(sqlite3.OperationalError):
                query = f"SELECT ms, seq FROM {table} ORDER BY ms DESC, seq DESC LIMIT 1"  # noqa: S608 - our own names
                for ms, seq in db.execute(query):
                    yield int(ms), int(seq)
