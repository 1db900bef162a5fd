"""`voltage audit verify`: is the journal of alarms still what was written?"""

from __future__ import annotations

import asyncio
import json
import sys

import click

from libs.redis.client import connect
from libs.redis.functions import Functions
from libs.site import Site, load_site
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.journal.journal import Journal, Verified
from services.alarmsrv.settings import AlarmsrvSettings


@click.group()
def audit() -> None:
    """Check what must not be changed afterwards."""


@audit.command()
@click.option("--head", help="The hash a walk before this one ended with; it must still be in the chain.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for programs.")
def verify(head: str | None, as_json: bool) -> None:
    """Walk the chain of the alarm journal, on disk and in Redis, and name the first break.

    Each entry carries the hash of the one before, so a change is found, unless somebody who may write here made
    all that follows anew. Note the head elsewhere, and give it with --head next time: then that is found too.
    Exits with 1 when the chain is broken.
    """
    found, seen = asyncio.run(_walk(load_site(), head))
    lost = head is not None and not seen
    if as_json:
        broken = found.broken._asdict() if found.broken else None
        click.echo(json.dumps({**found._asdict(), "broken": broken, "head_found": None if head is None else seen}))
    else:
        span = f" ({found.first} to {found.last})" if found.entries else ""
        click.echo(f"{found.entries} entries{span}, {found.on_disk} of them on disk")
        if found.unchained:
            click.echo(f"{found.unchained} older entries were written before there was a chain")
        if found.broken:
            click.echo(f"BROKEN at {found.broken.number}: {found.broken.reason}")
        else:
            click.echo(f"whole; head {found.head}" if found.entries else "there are no entries yet")
        if lost:
            click.echo(f"the head {head} is not in the chain: it was made anew since then")
    if found.broken or lost:
        sys.exit(1)


async def _walk(site: Site, head: str | None) -> tuple[Verified, bool]:
    client = connect(site.redis_url())
    try:
        settings = AlarmsrvSettings(data_dir=site.data_dir)
        functions = Functions(client, site.settings.namespace)
        journal = Journal(functions, Archive(settings.journal_folder))
        found = await journal.verify()
        if head is None:
            return found, False
        async for _, entry in journal.oldest_first():
            if entry.hash == head:
                return found, True
        return found, False
    finally:
        await client.aclose()
