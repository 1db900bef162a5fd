"""The approved definitions, and how the running ones differ (ISA-18.2: management of change, audit)."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from libs.definitions import said_of
from libs.errors import NotFoundError

FILE: Final = "approved.json"
# What is told of a change.
ABOUT: Final = ("author", "reason", "version", "updated_at_ms")


class Approved:
    """A file of the definitions as they were approved; earlier ones stay beside it."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder; it is made at the first approval."""
        self._folder = folder

    async def approve(self, definitions: list[dict[str, Any]], user: str, comment: str, now: int) -> dict[str, Any]:
        """Keep the definitions as the approved ones; return who, when and how many."""
        document = {
            "approved_at_ms": now, "by": user, "comment": comment,
            "definitions": {one["id"]: said_of(one) for one in definitions},
        }  # fmt: skip
        await asyncio.to_thread(self._write, document, now)
        return _head(document)

    async def compare(self, definitions: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what is missing, added or changed against the approved definitions.

        Raises:
            NotFoundError: nothing was approved yet.
        """
        approved = await asyncio.to_thread(self._read)
        return {**_head(approved), **differences(approved["definitions"], definitions)}

    def _write(self, document: dict[str, Any], now: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / FILE
        if file.exists():
            day = dt.datetime.fromtimestamp(now / 1000, dt.UTC).strftime("%Y%m%dT%H%M%S")
            os.link(file, self._folder / f"approved-until-{day}-{now % 1000:03}.json")
        new = file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
            stream.flush()
            os.fsync(descriptor)
        new.replace(file)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = orjson.loads((self._folder / FILE).read_bytes())
        except FileNotFoundError:
            raise NotFoundError("no alarm definitions were approved yet; run: voltage alarms approve-all") from None
        return found


def _head(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "approved_at_ms": document["approved_at_ms"], "by": document["by"], "comment": document["comment"],
        "approved": len(document["definitions"]),
    }  # fmt: skip


def differences(approved: Mapping[str, Mapping[str, Any]], running: list[dict[str, Any]]) -> dict[str, Any]:
    """Return ids that are missing and added, and the fields that changed with both values and who changed them."""
    now = {one["id"]: one for one in running}
    changed = []
    for definition, document in sorted(approved.items()):
        if definition not in now:
            continue
        said = said_of(now[definition])
        fields = {
            name: {"approved": document.get(name), "running": said.get(name)}
            for name in sorted({*document, *said})
            if document.get(name) != said.get(name)
        }
        if fields:
            who = {name: now[definition].get(name) for name in ABOUT}
            changed.append({"id": definition, "fields": fields, **who})
    missing, added = sorted(set(approved) - set(now)), sorted(set(now) - set(approved))
    same = not (missing or added or changed)
    return {"same": same, "running": len(now), "missing": missing, "added": added, "changed": changed}
