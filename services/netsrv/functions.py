"""Typed facade over the Redis Functions that netsrv uses."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from libs.points import KINDS
from libs.redis import channels, keys
from libs.redis.client import translated
from libs.redis.definitions import READ_A_CALL, Definitions, Names
from libs.redis.functions import Functions
from libs.redis.queue import QueueEntry, Sample
from libs.validation import problems_of
from services.netsrv.schemas import Network, Route

NETWORK: Final = Names("network", "network_upsert", "network_get", "network_list", "network_delete")
ROUTE: Final = Names("route", "route_upsert", "route_get", "route_list", "route_delete")


class Batch(NamedTuple):
    """A batch of the queue ("" when there is nothing), and the token of all that decides what is forwarded."""

    id: str
    token: str
    entries: list[QueueEntry]


class _Hashes(NamedTuple):
    """Where the points of an owner and kind are."""

    service: str
    owner: str
    kind: str
    values: str
    instants: str
    qualities: str


class NetworkFunctions:
    """The functions of netsrv's domain, commands, and the live image."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.queue = functions.key(keys.key("history_queue"))
        self.networks = Definitions(functions, NETWORK)
        self.routes = Definitions(functions, ROUTE)

    # Forwarding

    async def claim(self, limit: int) -> Batch:
        """Take the next batch: what was not finished before, then new entries."""
        reply: Any = await self._functions.call("forward_claim", None, {"limit": limit})
        batch, _, token, entries = reply
        return Batch(
            batch.decode(), token.decode(), [QueueEntry.parse(entry_id, fields) for entry_id, fields in entries]
        )

    async def complete(self, batch: str) -> None:
        """Say that a batch is safe."""
        await self._functions.call("forward_complete", batch)

    # Definitions

    async def all_networks(self) -> tuple[list[Network], list[str]]:
        """Return all networks, and what is wrong with those that can't be read."""
        return _parsed(Network, await self._all("network_list"))

    async def all_routes(self) -> tuple[list[Route], list[str]]:
        """Return all routes, and what is wrong with those that can't be read."""
        return _parsed(Route, await self._all("route_list"))

    async def models_by_point(self) -> dict[str, list[str]]:
        """Return which points of models a device's point is: reference -> references."""
        found: dict[str, list[str]] = {}
        for model in await self._all("model_list"):
            expanded = await self._functions.read_json("model_expand", model["id"])
            for name, reference in {**expanded["data"], **expanded["action"]}.items():
                found.setdefault(reference, []).append(f"modsrv:{model['id']}:{name}")
        return found

    async def _all(self, function: str) -> list[dict[str, Any]]:
        return await self._functions.read_all(function, READ_A_CALL)

    # Commands

    async def submit(self, channel: str, command: dict[str, Any]) -> dict[str, Any]:
        """Submit a command; it is on disk when this returns."""
        document: dict[str, Any] = orjson.loads(await self._functions.durable("command_submit", channel, command))
        return document

    async def command(self, command_id: str) -> dict[str, Any]:
        """Return a command, or raise NotFoundError."""
        document: dict[str, Any] = await self._functions.read_json("command_get", command_id)
        return document

    # The live image

    async def image(self, patterns: Iterable[str]) -> tuple[int, list[Sample]]:
        """Return the image's number and the present value of every point the patterns may match, of one instant."""
        wanted = [one for one in await self._places() if any(_may_match(pattern, one) for pattern in patterns)]
        with translated():
            async with self._functions.client.pipeline(transaction=True) as pipeline:
                pipeline.get(self._functions.key(keys.key("image")))
                for one in wanted:
                    for key in one[3:]:
                        pipeline.execute_command("HGETALL", self._functions.key(key))
                number, *replies = await pipeline.execute()
        samples = []
        for index, one in enumerate(wanted):
            values, instants, qualities = replies[3 * index : 3 * index + 3]
            for point in sorted(values.keys() | qualities.keys()):
                text = values.get(point)
                samples.append(
                    Sample(
                        ":".join(part for part in (one.service, one.owner, one.kind, point.decode()) if part),
                        int(instants.get(point, 0)),
                        None if text is None else float(text),
                        qualities.get(point, b"").decode(),
                    )
                )
        return int(number or 0), samples

    async def _places(self) -> list[_Hashes]:
        places = []
        for channel in await channels.ids(self._functions):
            for kind in sorted(KINDS):
                names = ("values", "values_at", "values_quality")
                hashes = (keys.key(name, ch=channel, type=kind) for name in names)
                places.append(_Hashes("comsrv", channel, kind, *hashes))
        for model in await self._all("model_list"):
            names = ("model_values", "model_values_at", "model_values_quality")
            hashes = (keys.key(name, id=model["id"]) for name in names)
            places.append(_Hashes("modsrv", model["id"], "", *hashes))
        return places


def _may_match(pattern: str, place: _Hashes) -> bool:
    """Say whether a pattern may match a point there; one without `:` for each step may match anything."""
    steps = pattern.split(":")
    owner = [place.service, place.owner, *([place.kind] if place.kind else [])]
    if len(steps) != len(owner) + 1:
        return any("*" in step for step in steps)
    return all(fnmatchcase(found, step) for found, step in zip(owner, steps, strict=False))


def _parsed(model: type[Any], documents: list[dict[str, Any]]) -> tuple[list[Any], list[str]]:
    found, problems = [], []
    for document in documents:
        try:
            found.append(model.model_validate(document))
        except ValidationError as error:
            said = ", ".join(str(problem) for problem in problems_of(error, model))
            problems.append(f"{model.__name__.lower()} {document.get('id')} is left out: {said}")
    return found, problems
