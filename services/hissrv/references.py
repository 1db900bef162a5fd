"""What a reference in a query means: a model's point is read under its channel's, and units are looked up."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from libs import clock
from libs.errors import NotFoundError
from libs.points import parse_reference
from libs.redis.functions import Functions
from services.hissrv.aliases import Piece

# Definitions are read again after this long; a chart asks for the same ones every second.
KEEP_MS: Final = 5000


# Before anything, and after.
NEVER_MS: Final = -(2**62)
EVER_MS: Final = 2**62


class Source(NamedTuple):
    """A reference as asked for, the one its history is stored under now, its unit, and what it was when."""

    ref: str
    source: str
    unit: str | None
    pieces: tuple[Piece, ...]


class References:
    """Resolves references by the present definitions of channels and models."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._models: dict[str, tuple[int, dict[str, tuple[Piece, ...]]]] = {}
        self._units: dict[str, tuple[int, dict[str, str]]] = {}

    async def resolve(self, ref: str) -> Source:
        """Return where a reference's history is.

        Raises:
            NotFoundError: no such model, or the model has no such point.
        """
        parsed = parse_reference(ref)
        source = ref
        pieces: tuple[Piece, ...] = (Piece(NEVER_MS, EVER_MS, ref),)
        if parsed.kind is None:
            points = await self._model(parsed.owner)
            if parsed.point not in points:
                raise NotFoundError(f"model {parsed.owner} has no point {parsed.point}")
            pieces = points[parsed.point]
            source = pieces[-1].source
            parsed = parse_reference(source)
        units = await self._channel(parsed.owner) if parsed.service == "comsrv" else {}
        return Source(ref, source, units.get(f"{parsed.kind}:{parsed.point}"), pieces)

    async def _model(self, model: str) -> dict[str, tuple[Piece, ...]]:
        """Return the points of a model, each with what it was mapped to when."""
        now = clock.monotonic_ms()
        kept = self._models.get(model)
        if kept is None or kept[0] < now:
            document = await self._functions.read_json("model_expand", model)
            before = await self._functions.read_json("model_sources", model)
            kept = self._models[model] = (now + KEEP_MS, _pieces(document, before))
        return kept[1]

    async def _channel(self, channel: str) -> dict[str, str]:
        """Return unit by `T:1` of a channel; a deleted channel has none, its history stays readable."""
        now = clock.monotonic_ms()
        kept = self._units.get(channel)
        if kept is None or kept[0] < now:
            try:
                document: dict[str, Any] = await self._functions.read_json("channel_get", channel)
            except NotFoundError:
                document = {}
            units = {
                f"{kind}:{point['id']}": point["unit"]
                for kind, points in (document.get("points") or {}).items()
                for point in points
                if point.get("unit")
            }
            kept = self._units[channel] = (now + KEEP_MS, units)
        return kept[1]


def _pieces(document: dict[str, Any], before: list[dict[str, Any]]) -> dict[str, tuple[Piece, ...]]:
    """Return the dated aliases of each point; what it was first counts from the beginning of time."""
    found = {}
    for name, source in {**document["action"], **document["data"]}.items():
        pieces: list[Piece] = []
        low = NEVER_MS
        for one in before:
            was = {**one["points"]["action"], **one["points"]["data"]}.get(name)
            if was is not None and one["until_ms"] > low:
                pieces.append(Piece(low, one["until_ms"], was))
                low = one["until_ms"]
        found[name] = (*pieces, Piece(low, EVER_MS, source))
    return found
