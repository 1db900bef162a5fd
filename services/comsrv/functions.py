"""comsrv's Redis Functions and keys, typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack
import orjson

from libs.points import PointKind
from libs.redis import channels
from libs.redis.client import execute, run_id, translate, translated
from libs.redis.functions import Functions
from libs.redis.keys import key
from services.comsrv.ledger import Counted
from services.comsrv.reckoning import Survived


class Claim(NamedTuple):
    """A lease: the epoch every call carries, and how long it lasts without one."""

    epoch: int
    lease_ms: int


class Claimed(NamedTuple):
    """Commands that were taken to be sent, and how many more the channel has."""

    commands: list[dict[str, Any]]
    queued: int


class Image(NamedTuple):
    """A kind's points as Redis holds them: id -> value text, instant, quality (absent while good)."""

    values: dict[str, str]
    changed_at_ms: dict[str, int]
    quality: dict[str, str]


class ComsrvFunctions:
    """Calls of comsrv. Writes are sent once; a lost reply is UnavailableError."""

    def __init__(self, functions: Functions) -> None:
        """Keep the gate to Redis."""
        self.functions = functions

    @property
    def redis_run(self) -> str:
        """Which process of Redis the last connection was to."""
        return run_id(self.functions.client)

    async def upsert(self, document: dict[str, Any]) -> dict[str, Any]:
        """Store a channel's definition."""
        found: dict[str, Any] = await self.functions.json("channel_upsert", document["id"], document)
        return found

    async def get(self, channel: int) -> dict[str, Any]:
        """Return a channel's definition, or raise NotFoundError."""
        found: dict[str, Any] = await self.functions.read_json("channel_get", channel)
        return found

    async def page(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return a page of channel definitions: {items, cursor}."""
        wanted = [one for one in await channels.ids(self.functions) if one > (cursor or "")]
        items = [document async for document in channels.documents(self.functions, wanted[:limit])]
        return {"items": items, "cursor": wanted[limit - 1] if len(wanted) > limit else None}

    async def all(self) -> list[dict[str, Any]]:
        """Return every channel's definition."""
        return [document async for document in channels.documents(self.functions, await channels.ids(self.functions))]

    async def delete(self, channel: int) -> None:
        """Delete a channel."""
        await self.functions.call("channel_delete", channel)

    async def claim(self, channel: int, owner: str, interval_ms: int) -> Claim:
        """Take a channel, or raise ConflictError while another holds it."""
        found = await self.functions.json("channel_claim", channel, {"owner": owner, "interval_ms": interval_ms})
        return Claim(found["epoch"], found["lease_ms"])

    async def renew(self, channel: int, document: dict[str, Any]) -> bool:
        """Keep a lease; return True where every point must be sent again."""
        found = orjson.loads(await self.functions.batched("channel_renew", channel, document))
        return bool(found.get("resend"))

    async def release(self, channel: int, epoch: int, counters: dict[str, Any]) -> None:
        """Give a channel back, with the last counters."""
        await self.functions.batched("channel_release", channel, {"epoch": epoch, "counters": counters})

    async def status(self, channel: int) -> dict[str, Any]:
        """Return a channel's state."""
        found: dict[str, Any] = await self.functions.read_json("comsrv_status", channel)
        return found

    async def ingest(self, channel: int, documents: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]) -> bool:
        """Send blocks, each a document and the texts of its sections; return True where all must be sent again."""
        words: list[str | bytes] = []
        for document, own in zip(documents, texts, strict=True):
            words += [_pack(document), *own]
        return "resend" in orjson.loads(await self.functions.batched("comsrv_ingest", channel, *words))

    async def set_quality(self, channel: int, document: dict[str, Any]) -> bool:
        """Change the quality of points alone; return True where every point must be sent again."""
        return "resend" in orjson.loads(await self.functions.batched("comsrv_set_quality", channel, _pack(document)))

    async def submit(self, channel: int, document: dict[str, Any]) -> dict[str, Any]:
        """Submit a command."""
        found: dict[str, Any] = await self.functions.json("command_submit", channel, document)
        return found

    async def claim_commands(self, channel: int, epoch: int, limit: int, points: Sequence[str] = ()) -> Claimed:
        """Take queued commands (of some points only, where they are named), highest priority first; they are `sent`."""
        document: dict[str, Any] = {"epoch": epoch, "limit": limit} | ({"points": list(points)} if points else {})
        # Not with the calls of polls, which would go first.
        with translated():
            pipeline = self.functions.client.pipeline(transaction=False)
            pipeline.execute_command(*self.functions.words("command_claim", channel, document))
            pipeline.zcard(self.functions.key(key("command_queue", ch=channel)))
            reply, queued = await pipeline.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise translate(reply)
        return Claimed(orjson.loads(reply), int(queued))

    async def holds(self, channel: int) -> list[dict[str, Any]]:
        """Return who holds points of a channel."""
        return list(orjson.loads(await self.functions.batched("command_holds", channel))["items"])

    async def release_hold(self, channel: int, document: dict[str, Any]) -> dict[str, Any]:
        """End a hold; StateError where nobody holds the point, or a higher authority does."""
        found: dict[str, Any] = await self.functions.json("command_release", channel, document)
        return found

    async def overwritten(self, channel: int, document: dict[str, Any]) -> None:
        """Say that another master wrote a point."""
        await self.functions.call("point_overwritten", channel, document)

    async def operate(self, function: str, channel: int, document: dict[str, Any]) -> dict[str, Any]:
        """Do what an operator does to a point: tag, untag, select, substitute, restore."""
        found: dict[str, Any] = await self.functions.json(function, channel, document)
        return found

    async def operations(self, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return a page of the journal of commands and of what operators did to points, newest first."""
        start = f"({cursor}" if cursor else "+"
        name = self.functions.key(key("operations"))
        entries = await execute(self.functions.client, "XREVRANGE", name, start, "-", "COUNT", limit)
        items = [
            {"id": entry.decode(), **{field.decode(): value.decode() for field, value in fields.items()}}
            for entry, fields in entries
        ]
        return {"items": items, "cursor": items[-1]["id"] if len(items) == limit else None}

    async def complete(self, channel: int, document: dict[str, Any]) -> dict[str, Any]:
        """Report what became of a command; twice the same is a repeat without effect."""
        found: dict[str, Any] = await self.functions.json("command_complete", channel, document)
        return found

    async def command(self, command_id: str) -> dict[str, Any]:
        """Return a command, or raise NotFoundError."""
        found: dict[str, Any] = await self.functions.read_json("command_get", command_id)
        return found

    async def commands(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return a page of commands: {items, cursor}."""
        found: dict[str, Any] = await self.functions.read_json("command_list", None, document)
        return found

    async def image(self, channel: int, kind: PointKind | str) -> Image:
        """Return a kind's points, all of one instant."""
        names = [key(name, ch=channel, type=kind) for name in ("values", "values_at", "values_quality")]
        values, changed, quality = await self._hashes(*names)
        return Image(values, {name: int(at) for name, at in changed.items()}, quality)

    async def survived(self, channel: int) -> Survived:
        """Return what Redis knows of a channel's lease and of the calls it took."""
        names = [key(name, ch=channel) for name in ("status", "sequence", "seen")]
        status, sequences, seen = await self._hashes(*names)
        last = max(map(int, sequences.values()), default=0)
        return Survived(int(status.get("epoch", 0)), last, {block: int(at_ms) for block, at_ms in seen.items()})

    async def ledger(self) -> Counted:
        """Return the counters of samples: in total, by channel and by store, all of one instant."""
        with translated():
            found = await execute(self.functions.client, "SMEMBERS", self.functions.key(key("channels")))
            named = await execute(self.functions.client, "HGET", self.functions.key(key("history_size")), "stores")
        channels, stores = sorted(map(int, found)), (named or b"").decode().split()
        total, size, *rest = await self._hashes(
            key("ledger"),
            key("history_size"),
            *(key("channel_ledger", ch=ch) for ch in channels),
            *(key("store_ledger", store=store) for store in stores),
        )
        counters = [{name: int(value) for name, value in one.items()} for one in (total, *rest)]
        of_stores = dict(zip(stores, counters[1 + len(channels) :], strict=True))
        for own in of_stores.values():
            # A store has nothing to do with what came before it.
            own["queued"] = counters[0].get("queued", 0) - own.pop("before", 0)
            own.pop("since_ms", None)
        by_channel = dict(zip(channels, counters[1 : 1 + len(channels)], strict=True))
        return Counted(counters[0], int(size.get("samples", "0")), by_channel, of_stores)

    async def _hashes(self, *names: str) -> list[dict[str, str]]:
        """Return several hashes as they are at one instant."""
        with translated():
            pipeline = self.functions.client.pipeline(transaction=True)
            for name in names:
                pipeline.hgetall(self.functions.key(name))
            replies = await pipeline.execute()
        return [{field.decode(): value.decode() for field, value in reply.items()} for reply in replies]


def _pack(document: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(document)
    return packed
