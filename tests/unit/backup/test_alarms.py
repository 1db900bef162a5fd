"""A restored site: the journal of alarms goes on where its files end, and nobody is told of what was."""

from __future__ import annotations

from pathlib import Path

from libs.redis.client import execute
from libs.redis.functions import Functions
from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.journal.journal import Archiver, Journal
from services.backup import keyspace, settle
from services.backup.archive import Manifest


async def test_the_journal_goes_on_and_the_outbox_is_empty(functions: Functions, tmp_path: Path) -> None:
    """The files were copied after the keys, so they hold entries that the keys lack."""
    archive = Archive(tmp_path / "data" / "alarmsrv" / "journal")
    route = {"to": ["email:anna@example.com"], "escalation": [{"after_s": 1, "to": ["email:boss@example.com"]}]}
    await functions.call("alarm_route_upsert", "shift", route)
    await functions.call("store_alarm", "door", {"title": "Door open", "level": "Major"})
    taken = await keyspace.take(functions.client, "")
    for name in ("late", "later"):
        await functions.call("store_alarm", name, {"title": name, "level": "Major"})
    before = Archiver(Journal(functions, archive), 10, 3)
    await before.look()
    assert await before.look() == 3
    await execute(functions.client, "FLUSHDB")
    await keyspace.put(functions.client, "", taken.keys, lambda _: None)
    manifest = Manifest(
        format=1, voltage="1", api=1, digest="d", schema_number=1, server="", namespace="", at_ms=taken.at_ms,
        image=taken.image, image_after=taken.image, copied_at_ms=0, keys=len(taken.keys), members=[],
    )  # fmt: skip
    await settle.settle(functions, manifest, tmp_path)
    assert await execute(functions.client, "EXISTS", "alarmsrv:outbox", "alarmsrv:outbox:sending") == 0
    await functions.call("acknowledge_alarm", "door", "anna")
    journal = Journal(functions, Archive(archive.folder))
    found = await journal.verify()
    assert (found.last, found.on_disk, found.broken) == (4, 3, None)
    after = Archiver(journal, 10, 3)
    await after.look()
    assert await after.look() == 1
    assert (await journal.verify()).broken is None
