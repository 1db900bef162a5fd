"""The values of the mapped points, all of one instant, read when somebody asks for them.

Nobody asks, nothing is read. Requests that come within `cache_ms` of each other share one
reading, and so do those that come while it is under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.clock import monotonic_ms, now_ms
from libs.errors import UnavailableError
from libs.points import Reference
from libs.redis.client import translated
from libs.redis.functions import Functions
from libs.redis.keys import key
from services.comsrv.serving.image import BAD, GOOD, UNCERTAIN, Image, Readings

NEVER_S: Final = float(2**31)

# Channel -> ("T:1" -> the block that reads it); the age of a point is that of its block's last answer.
Blocks = Callable[[int], Mapping[str, str]]


class _Hashes(NamedTuple):
    """The points that stand in the same hashes: which they are, their fields and the hashes."""

    points: NDArray[np.intp]
    fields: list[str]
    names: tuple[str, str, str]


class Source:
    """Keeps an image up to date."""

    def __init__(self, functions: Functions, image: Image, blocks: Blocks, *, cache_ms: int, stale_ms: int) -> None:
        """Group the points by the hashes they stand in."""
        self.image = image
        self.problem = ""
        self._functions = functions
        self._blocks = blocks
        self._cache_ms = cache_ms
        self._stale_ms = stale_ms
        self._references = [served.point for served in image.rows]
        self._hashes = _grouped(functions, self._references)
        self._channels = sorted({int(ref.owner) for ref in self._references if ref.service == "comsrv"})
        size = len(self._references)
        self._values: NDArray[np.float64] = np.full(size, np.nan)
        self._quality: NDArray[np.int64] = np.full(size, BAD, np.int64)
        self._at_ms: NDArray[np.float64] = np.zeros(size)
        self._read_at_ms = 0
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Bring the image up to date, if it is older than `cache_ms`; while Redis is away it ages."""
        async with self._lock:
            if self._read_at_ms and monotonic_ms() - self._read_at_ms < self._cache_ms:
                return
            try:
                await self._read()
            except UnavailableError as error:
                self.problem = str(error)
            else:
                self.problem, self._read_at_ms = "", monotonic_ms()
            self._show()

    def _show(self) -> None:
        known = self._at_ms > 0
        ages = np.where(known, np.maximum(now_ms() - self._at_ms, 0) / 1000, NEVER_S)
        quality = self._quality
        if self.problem and monotonic_ms() - self._read_at_ms > self._stale_ms:
            quality = np.full_like(quality, BAD)
        self.image.update(Readings(self._values, quality, ages), self._stale_ms / 1000)

    async def _read(self) -> None:
        """Read values, instants and qualities of all points, and when each block answered last."""
        with translated():
            pipeline = self._functions.client.pipeline(transaction=True)
            for group in self._hashes:
                for name in group.names:
                    pipeline.hmget(name, group.fields)
            for channel in self._channels:
                pipeline.hgetall(self._functions.key(key("seen", ch=channel)))
            replies = await pipeline.execute()
        seen = dict(zip(self._channels, replies[3 * len(self._hashes) :], strict=True))
        for index, group in enumerate(self._hashes):
            values, instants, marks = replies[3 * index : 3 * index + 3]
            self._values[group.points] = [np.nan if value is None else float(value) for value in values]
            self._at_ms[group.points] = [int(instant or 0) for instant in instants]
            self._quality[group.points] = [
                (BAD if value is None else GOOD) if mark is None else UNCERTAIN if mark.startswith(b"unc") else BAD
                for value, mark in zip(values, marks, strict=True)
            ]
        self._note_answers(seen)

    def _note_answers(self, seen: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """An unchanged value is as young as its block's last answer."""
        members = {channel: self._blocks(channel) for channel in self._channels}
        for index, ref in enumerate(self._references):
            if ref.service != "comsrv":
                # A model's point has no poll of its own: it is of now while it is good.
                if self._quality[index] != BAD:
                    self._at_ms[index] = now_ms()
                continue
            block = members[int(ref.owner)].get(f"{ref.kind}:{ref.point}")
            answered = seen[int(ref.owner)].get(block.encode()) if block else None
            if answered is not None:
                self._at_ms[index] = max(self._at_ms[index], int(answered))
            elif self._quality[index] != BAD and (block is None or not ref.kind or not ref.kind.readable):
                # Calculated and confirmed values, and channels run by another comsrv: good means kept alive.
                self._at_ms[index] = now_ms()


def _grouped(functions: Functions, references: list[Reference]) -> list[_Hashes]:
    places: dict[tuple[str, str, str], list[int]] = {}
    for index, ref in enumerate(references):
        if ref.service == "modsrv":
            names = tuple(key(name, id=ref.owner) for name in _MODEL)
        else:
            names = tuple(key(name, ch=ref.owner, type=str(ref.kind)) for name in _CHANNEL)
        values, instants, quality = (functions.key(name) for name in names)
        places.setdefault((values, instants, quality), []).append(index)
    return [
        _Hashes(np.array(members, np.intp), [references[index].point for index in members], names)
        for names, members in places.items()
    ]


_CHANNEL: Final = ("values", "values_at", "values_quality")
_MODEL: Final = ("model_values", "model_values_at", "model_values_quality")
