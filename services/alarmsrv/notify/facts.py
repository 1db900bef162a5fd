"""What messages say of an alarm beside its transition: names, the unit, and what the operator should know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from libs.redis.client import execute
from libs.redis.functions import Functions
from libs.redis.keys import key
from services.alarmsrv.notify.messages import NOTHING, Facts, Told

_SECTIONS: Final = ("data_points", "actions")


class _Point(NamedTuple):
    """What a site calls a point, and its unit."""

    name: str = ""
    unit: str = ""


class FactsOf:
    """Looks things up in Redis."""

    def __init__(self, functions: Functions) -> None:
        """Keep the gate."""
        self._functions = functions

    async def __call__(self, entries: Sequence[Told]) -> dict[str, Facts]:
        """Return the facts of alarms by their id; what is not known (any more) is left out."""
        look = _Look(self._functions)
        found: dict[str, Facts] = {}
        for fields in (entry.fields for entry in entries):
            name, source = fields.get("definition", ""), fields.get("source", "")
            document, point = await look.document("definition", id=name), await look.point(source)
            guidance = document.get("guidance") or {}
            facts = Facts(
                document.get("name") or "",
                point.name,
                point.unit,
                {"action": guidance} if isinstance(guidance, str) else guidance,
            )
            if facts != NOTHING:
                found[fields.get("alarm", "")] = facts
        return found


class _Look:
    """What one message needs."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._documents: dict[str, dict[str, Any]] = {}

    async def point(self, source: str) -> _Point:
        match source.split(":"):
            case ["comsrv", channel, kind, number]:
                document = await self.document("channel", ch=channel)
                points = document.get("points") or {}
                listed = points.get(kind) if isinstance(points, dict) else None
                for one in listed or ():
                    if str(one.get("id")) == number:
                        return _Point(one.get("name") or "", one.get("unit") or "")
            case ["modsrv", model, name]:
                document = await self.document("model", id=model)
                template = await self.document("template", id=document.get("template") or "")
                for section in _SECTIONS:
                    point = (template.get(section) or {}).get(name)
                    if isinstance(point, dict):
                        return _Point(point.get("description") or "", point.get("unit") or "")
        return _Point()

    async def document(self, what: str, **fields: str) -> dict[str, Any]:
        """Return a document; an empty one where there is none."""
        place = self._functions.key(key(what, **fields))
        if place not in self._documents:
            text = await execute(self._functions.client, "GET", place)
            self._documents[place] = dict(orjson.loads(text)) if text else {}
        return self._documents[place]
