"""Shadows of rules and alarm definitions through their functions (redis_functions/core/shadows.lua)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from libs.config.differences import differences
from libs.definitions import Change, said_of
from libs.errors import NotFoundError
from libs.redis import streams
from libs.redis.functions import Functions
from libs.redis.keys import key
from libs.shadows import Comparison, Entry, compare

# As many entries as Redis keeps.
KEPT: Final = 5000


class Shadows:
    """The shadows of one kind of definition."""

    def __init__(self, functions: Functions, kind: str) -> None:
        """Keep the gate and the kind, as in `alarm_definition`."""
        self.functions = functions
        self.kind = kind

    async def start(self, of: str, wanted: Mapping[str, Any], change: Change) -> bytes:
        """Let a definition, or a version of it, run beside the active one; `definition` is its JSON as a text."""
        asked = {name: value for name, value in wanted.items() if value is not None}
        return await self.functions.call("shadow_start", of, {"kind": self.kind, **asked, **change.document()})

    async def stop(self, of: str) -> bytes:
        """End a shadow."""
        return await self.functions.call("shadow_stop", of, {"kind": self.kind})

    async def get(self, of: str) -> bytes:
        """Return a shadow and how it stands."""
        return await self.functions.read("shadow_get", of, {"kind": self.kind})

    async def page(self, filters: Mapping[str, Any]) -> bytes:
        """Return a page of shadows."""
        return await self.functions.read("shadow_list", None, {**filters, "kind": self.kind})

    async def promote(self, of: str, change: Change) -> bytes:
        """Put a shadow in the place of the active one; returns the definition."""
        return await self.functions.call("shadow_promote", of, {"kind": self.kind, **change.document()})

    async def comparison(self, of: str, start_ms: int, end_ms: int) -> Comparison:
        """Compare a shadow with the active one over a time."""
        shadow = orjson.loads(await self.get(of))
        found = await streams.newest(
            self.functions, key("shadow_log", kind=self.kind, id=of), limit=KEPT, cursor=None, only={},
            documents={"inputs", "would"},
        )  # fmt: skip
        changes = differences(await self._active(of), said_of(shadow["definition"]))
        entries = (_entry(item) for item in reversed(found["items"]))
        return compare(entries, start_ms, end_ms, [one.document() for one in changes])

    async def _active(self, of: str) -> dict[str, Any]:
        """Return what the active one says; nothing where there is none."""
        try:
            kept = orjson.loads(await self.functions.read("definition_versions", of, {"kind": self.kind}))["items"]
        except NotFoundError:
            return {}
        asked = {"kind": self.kind, "version": kept[0]["version"]}
        said: dict[str, Any] | None = orjson.loads(await self.functions.read("definition_version", of, asked))[
            "definition"
        ]
        return said or {}


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(
        item["at_ms"], item["who"], item["event"], item["active"] == "1", item["shadow"] == "1",
        item.get("version"), item["inputs"] or (), item["would"] or (),
    )  # fmt: skip
