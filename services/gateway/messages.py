"""What is published on Redis, parsed once for all clients."""

from __future__ import annotations

from typing import Any

import orjson

from services.gateway.outbox import Document, Sample, Update
from services.gateway.selection import NO_KIND

GOOD = "good"


def parse_update(owner: str, data: bytes) -> Update:
    """Parse the change of a channel's points of one type, or of a model's points.

    A point in `points` and not in `quality` is good; one only in `quality` keeps its value.
    """
    document: dict[str, Any] = orjson.loads(data)
    at = int(document["at_ms"])
    qualities: dict[str, str] = document.get("quality") or {}
    samples: dict[str, Sample] = {
        point: (value, qualities.get(point, GOOD), at) for point, value in (document.get("points") or {}).items()
    }
    for point, quality in qualities.items():
        if point not in samples:
            samples[point] = (None, quality, at)
    return Update(owner, document.get("type", NO_KIND), int(document["seq"]), samples)


def parse_event(stream: str, data: bytes) -> tuple[str, Document]:
    """Parse an alarm, a command or a firing; returns what conflates it, and the document.

    Alarms and commands conflate by id. Firings are all different.
    """
    document: Document = orjson.loads(data)
    if stream == "rules":
        return f"{document.get('rule')} {document.get('at_ms')} {document.get('seq')}", document
    return str(document["id"]), document
