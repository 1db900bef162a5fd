"""Shadows of rules and alarm definitions through their functions (redis_functions/core/shadows.lua)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from libs.definitions import Change
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
        await self.get(of)
        found = await streams.newest(
            self.functions, key("shadow_log", kind=self.kind, id=of), limit=KEPT, cursor=None, only={},
            documents={"inputs", "would"},
        )  # fmt: skip
        return compare((_entry(item) for item in reversed(found["items"])), start_ms, end_ms)


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(
        item["at_ms"], item["who"], item["event"], item["active"] == "1", item["shadow"] == "1",
        item.get("version"), item["inputs"] or (), item["would"] or (),
    )  # fmt: skip
