"""What comsrv's files would change of the channels that run, and changing just that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from aiohttp import web

from libs.config import load
from libs.config.differences import differences
from services.comsrv.appkeys import CHANNELS, FUNCTIONS
from services.comsrv.channel import Channel
from services.comsrv.channels import Channels
from services.comsrv.options import FOR_REDIS
from services.comsrv.runner import definition
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site

# Members that are made of the others.
_MADE = frozenset(("program", *FOR_REDIS))


class Files:
    """comsrv.yaml and the point tables, read anew each time."""

    def __init__(self, app: Callable[[], web.Application], settings: ComsrvSettings) -> None:
        """Keep where the channels will be once the service has started."""
        self._app = app
        self._settings = settings

    @property
    def _channels(self) -> Channels:
        return self._app()[CHANNELS]

    async def plan(self) -> list[dict[str, Any]]:
        """Return what differs, point by point. Raises ConfigurationError with every problem of every file."""
        return [change for change, _ in await self._compared()]

    async def apply(self, author: str, reason: str | None) -> list[dict[str, Any]]:
        """Make the changes; a channel that says the same is not touched."""
        del author, reason
        made = []
        for change, channel in await self._compared():
            if channel is None:
                await self._channels.delete(change["id"])
            elif change["action"] == "create":
                await self._channels.create(channel)
            else:
                await self._channels.replace(channel)
            made.append(change)
        return made

    async def _compared(self) -> list[tuple[dict[str, Any], Channel | None]]:
        declared = await asyncio.to_thread(self._read)
        stored = {document["id"]: document for document in await self._app()[FUNCTIONS].all()}
        found: list[tuple[dict[str, Any], Channel | None]] = []
        for channel in declared:
            before = stored.pop(channel.id, None)
            if before is None or channel.id not in self._channels.runners:
                counts = {kind: len(channel.points.of(kind)) for kind in "TSCA" if channel.points.of(kind)}
                found.append((_change(channel.id, "create", [{"path": "points", "old": None, "new": counts}]), channel))
                continue
            changes = [one.document() for one in differences(_plain(before), _plain(definition(channel)))]
            if changes:
                found.append((_change(channel.id, "change", changes), channel))
        gone = [number for number, document in stored.items() if document.get("source") == "file"]
        return found + [(_change(number, "delete", []), None) for number in gone]

    def _read(self) -> tuple[Channel, ...]:
        environ = os.environ | {"VOLTAGE_CONFIG_DIR": str(self._settings.config_dir)}
        loaded = load(ComsrvSettings, "comsrv", environ)
        return load_site(self._settings.config_dir, loaded.settings, loaded.document.where)


def _change(channel: int, action: str, changes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"kind": "channel", "id": channel, "action": action, "changes": changes}


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a channel's document without what is made of its other members."""
    points = {
        kind: [
            {
                name: _without(value) if name == "command" else value
                for name, value in point.items()
                if name not in _MADE
            }
            for point in rows
        ]
        for kind, rows in document["points"].items()
    }
    return {name: value for name, value in document.items() if name != "interval_ms"} | {"points": points}


def _without(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _MADE}
