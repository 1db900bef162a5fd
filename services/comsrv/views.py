"""What the API shows: channels, points and diagnostics put together from Redis and the runners."""

from __future__ import annotations

from typing import Any, Final

from libs.errors import InvalidError, NotFoundError, Problem
from libs.points import PointKind
from services.comsrv.channel import DOUBLE_POINT, DOUBLE_POINT_LABELS, family
from services.comsrv.channels import Channels
from services.comsrv.contract import ComBase
from services.comsrv.functions import ComsrvFunctions, Image
from services.comsrv.runner import Runner
from services.comsrv.schemas import PointsQuery

NO_VALUE: Final = "bad:no_value"


def protocol(name: str, plugin: type[ComBase]) -> dict[str, Any]:
    """Show a protocol."""
    return {
        "id": name,
        "description": plugin.description,
        "capabilities": plugin.capabilities._asdict(),
        "parameters": plugin.parameters.model_json_schema(),
        "mapping": plugin.mapping.model_json_schema() if plugin.mapping else None,
    }


def summary(document: dict[str, Any], channels: Channels) -> dict[str, Any]:
    """Show a channel without its points, with how many it has."""
    points = document.get("points") or {}
    shown = {name: value for name, value in document.items() if name != "points"}
    return shown | _state(document, channels) | {"counts": {kind: len(rows) for kind, rows in points.items()}}


def detail(document: dict[str, Any], channels: Channels) -> dict[str, Any]:
    """Show a channel whole, with the points of each block: a block's last answer is its points' age."""
    runner = channels.runners.get(document["id"])
    blocks = runner.poller.blocks if runner is not None and runner.poller is not None else ()
    members = {
        block.name: [f"{section.kind}:{point_id}" for section in block.sections for point_id in section.ids]
        for block in blocks
    }
    return document | _state(document, channels) | {"blocks": members}


def _state(document: dict[str, Any], channels: Channels) -> dict[str, Any]:
    runner = channels.runners.get(document["id"])
    if runner is None:
        return {"state": "stopped", "last_error": ""}
    return {"state": runner.state, "last_error": runner.problem or (_error(runner) if runner.running else "")}


def _error(runner: Runner) -> str:
    down = runner.state in {"down", "degraded"}
    return runner.poller.statistics.last_error if runner.poller and down else ""


async def points(
    functions: ComsrvFunctions, channels: Channels, document: dict[str, Any], query: PointsQuery
) -> dict[str, Any]:
    """Show a page of points; the cursor is a position in the tables."""
    kinds = [query.type] if query.type else list(PointKind)
    declared = [(kind, row) for kind in kinds for row in (document.get("points") or {}).get(kind.value, ())]
    first = _position(query.cursor)
    part = declared[first : first + query.limit]
    images = {name: await functions.image(document["id"], name) for name in {_hash(*each) for each in part}}
    seen = await _seen(functions, channels, document["id"])
    items = [_point(document["id"], kind, row, images[_hash(kind, row)], seen) for kind, row in part]
    more = first + query.limit < len(declared)
    return {"items": items, "cursor": str(first + query.limit) if more else None}


async def point(
    functions: ComsrvFunctions, channels: Channels, document: dict[str, Any], kind: PointKind, point_id: int
) -> dict[str, Any]:
    """Show one point."""
    rows = (document.get("points") or {}).get(kind.value, ())
    row = next((row for row in rows if row["id"] == point_id), None)
    if row is None:
        raise NotFoundError(f"channel {document['id']} has no point {kind}:{point_id}")
    image = await functions.image(document["id"], _hash(kind, row))
    return _point(document["id"], kind, row, image, await _seen(functions, channels, document["id"]))


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 9:
        raise InvalidError("cursor is none of ours", [Problem("cursor", "take it from the page before")])
    return int(cursor)


async def _seen(functions: ComsrvFunctions, channels: Channels, channel: int) -> dict[str, int]:
    """Return "T:1" -> instant of the last good response of the point's block."""
    runner = channels.runners.get(channel)
    if runner is None or runner.poller is None:
        return {}
    instants = (await functions.status(channel))["seen"]
    return {
        f"{section.kind}:{point_id}": instants[block.name]
        for block in runner.poller.blocks
        if block.name in instants
        for section in block.sections
        for point_id in section.ids
    }


def _is_text(row: dict[str, Any]) -> bool:
    return family(row["data_type"]) == "text"


def _hash(kind: PointKind, row: dict[str, Any]) -> str:
    """Return the type in the name of the hash that holds a point: texts have one of their own."""
    return "text" if _is_text(row) else kind.value


def _label(row: dict[str, Any], text: str | None) -> str | None:
    """Return what a value means, where the point says so."""
    meanings = row.get("value_map") or (DOUBLE_POINT_LABELS if row["data_type"] == DOUBLE_POINT else None)
    if not meanings or text is None:
        return None
    return str(meanings.get(f"{float(text):.15g}", "")) or None


def _point(channel: int, kind: PointKind, row: dict[str, Any], image: Image, seen: dict[str, int]) -> dict[str, Any]:
    point_id = str(row["id"])
    text = image.values.get(point_id)
    quality = image.quality.get(point_id)
    changed = image.changed_at_ms.get(point_id)
    is_text = _is_text(row)
    return {
        # Conditions and subscriptions tell texts from numbers by their reference.
        "ref": f"comsrv:{channel}:{'X' if is_text else kind}:{point_id}",
        "type": kind.value,
        "id": row["id"],
        "name": row["name"],
        "unit": row.get("unit", ""),
        "description": row.get("description", ""),
        "data_type": row["data_type"],
        "min": row.get("min"),
        "max": row.get("max"),
        "value": None if text is None else text if is_text else float(text),
        "label": None if is_text else _label(row, text),
        "quality": quality or ("good" if text is not None else NO_VALUE),
        "changed_at_ms": changed,
        "seen_at_ms": seen.get(f"{kind}:{point_id}", changed if text is not None else None),
    }
