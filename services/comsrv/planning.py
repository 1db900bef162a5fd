"""What comsrv's files would change of the channels that run, and changing just that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web

from libs.config import load
from libs.config.differences import differences
from libs.config.load import Loaded
from libs.definitions import Call
from libs.errors import ConfigurationError, Problem
from libs.http.configuration import Planned
from services.comsrv.appkeys import CHANNELS, FUNCTIONS
from services.comsrv.channel import Channel
from services.comsrv.channels import Channels
from services.comsrv.options import FOR_REDIS
from services.comsrv.runner import definition
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import check_link, load_site

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

    async def plan(self) -> Planned:
        """Return what differs, point by point. Raises ConfigurationError with every problem of every file."""
        compared = await self._compared()
        calls = [putting(one.channel, one.where) if one.channel else _removing(one.change["id"]) for one in compared]
        return Planned([one.change for one in compared], calls, [])

    async def apply(self, author: str, reason: str | None) -> list[dict[str, Any]]:
        """Make the changes; a channel that says the same is not touched."""
        del author, reason
        compared = await self._compared()
        for one in compared:
            if one.channel is None:
                await self._channels.delete(one.change["id"])
            elif one.change["action"] == "create":
                await self._channels.create(one.channel)
            else:
                await self._channels.replace(one.channel)
        return [one.change for one in compared]

    async def _compared(self) -> list[_Compared]:
        """Return what differs; what channels share is free before new ones take it.

        Raises:
            ConfigurationError: the files have problems, or a new channel disagrees with one that the API made.
        """
        declared = await asyncio.to_thread(self._read)
        stored = {document["id"]: document for document in await self._app()[FUNCTIONS].all()}
        made: list[_Compared] = []
        changed: list[_Compared] = []
        for channel, where in declared:
            before = stored.pop(channel.id, None)
            if before is None or channel.id not in self._channels.runners:
                counts = {kind: len(channel.points.of(kind)) for kind in "TSCA" if channel.points.of(kind)}
                change = _change(channel.id, "create", [{"path": "points", "old": None, "new": counts}])
                made.append(_Compared(change, channel, where))
                continue
            changes = [one.document() for one in differences(_plain(before), _plain(definition(channel)))]
            if changes:
                changed.append(_Compared(_change(channel.id, "change", changes), channel, where))
        self._refuse_disagreeing(made, {channel.id for channel, _ in declared})
        gone = [number for number, document in stored.items() if document.get("source") == "file"]
        return changed + [_Compared(_change(number, "delete", []), None, "") for number in gone] + made

    def _refuse_disagreeing(self, made: list[_Compared], declared: set[int]) -> None:
        stay = [
            runner.channel
            for number, runner in self._channels.runners.items()
            if number not in declared and runner.channel.source != "file" and runner.channel.enabled
        ]
        problems = [
            Problem(one.where, str(problem))
            for one in made
            if one.channel is not None
            for problem in check_link(one.channel, stay, self._settings.port_base)
        ]
        if problems:
            raise ConfigurationError(problems)

    def _read(self) -> list[tuple[Channel, str]]:
        environ = os.environ | {"VOLTAGE_CONFIG_DIR": str(self._settings.config_dir)}
        return read_channels(load(ComsrvSettings, "comsrv", environ))


class _Compared(NamedTuple):
    """A change, the channel that shall be (None where it goes) and where that stands."""

    change: dict[str, Any]
    channel: Channel | None
    where: str


def read_channels(loaded: Loaded[ComsrvSettings]) -> list[tuple[Channel, str]]:
    """Read every channel of the files, each with where it stands.

    Raises:
        ConfigurationError: every problem of every table.
    """
    where = loaded.document.where
    channels = load_site(loaded.settings.config_dir, loaded.settings, where)
    return [(channel, where(("channels", index))) for index, channel in enumerate(channels)]


def putting(channel: Channel, where: str) -> Call:
    """Return the call that stores a channel."""
    return Call(f"channel {channel.id}", where, "channel_upsert", str(channel.id), (definition(channel),))


def _removing(channel: int) -> Call:
    return Call(f"channel {channel}", "left the files", "channel_delete", str(channel), ())


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
