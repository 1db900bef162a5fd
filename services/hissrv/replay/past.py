"""A replay from history, where there is no log: calls in the order (instant, channel), made of samples.

Nothing of what was then is known but the samples. So a definition is compared with the one that is stored now, each in
a Redis of its own, over the same calls.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from libs.numbers import format_value
from libs.redis import keys
from libs.redis.server import Binary
from libs.validation import Model
from services.hissrv import tables
from services.hissrv.replay import files
from services.hissrv.replay.compare import COMMANDS
from services.hissrv.replay.entries import Entry, Output, StreamId, outputs_of
from services.hissrv.replay.private import Differ, Private
from services.hissrv.replay.span import WARM_UP_MS, Change, Limits, Outcome, Replayed

POINTS_A_CALL: Final = 500
MOST_REASONS: Final = 20
# Timers fire at their due instants when the next call comes, 20 a call; where none comes for longer, ticks do. A window
# that is aggregated over moves with a timer a slice.
TICK_MS: Final = 10_000
SLICES_A_TICK: Final = 10
# A lease that no silence ends: history has no samples where nothing changed.
FOREVER_MS: Final = 10**14
# What a site was told to be stays; all that happened there goes.
_KEPT: Final = (
    "schema", "versions", "system_settings", "channels", "channel", "points", "writable", "template", "templates",
    "model", "models", "models_by_template", "model_expansion", "reverse", "definition", "definitions", "rule", "rules",
    "rule_zones", "rule_zones_wanted", "rule_calendar", "rule_calendars", "replay_private",
)  # fmt: skip
_SITE: Final = re.compile(
    "|".join(re.sub(r"\\{\w+\\}", "[^:]+", re.escape(keys.BY_NAME[name].pattern)) for name in _KEPT)
)
# Timers of windows of time and of aggregates; they are set when a rule is stored.
_TIMERS: Final = ("clock|", "slices|")
_NOWHERE: Final = StreamId(0, 0)


class Recorded(Model):
    """What stands for a log where there is none: samples, the site as it is now, and why that is not exact."""

    samples: Path
    snapshot: Path
    reasons: list[str]


class Past(Replayed):
    """A replay from a file of samples; ticks go on until its end."""

    exact = False

    def __init__(
        self, found: Recorded, folder: Path, binary: Binary, namespace: str, start_ms: int, end_ms: int, limits: Limits
    ) -> None:
        """Keep what it needs: the site as it is now, and the samples."""
        super().__init__(folder, binary, namespace, start_ms, end_ms, limits)
        self._snapshot = found.snapshot
        self._samples = found.samples
        self.reasons = found.reasons
        self._sequence = itertools.count(1)
        self._tick_ms = TICK_MS

    def _outcomes(self, change: Change | None) -> Iterator[Outcome]:
        """Yield what the calls wrote with the stored definitions and with the changed one, where there is one."""
        with ExitStack() as stack:
            sides = [stack.enter_context(self._opened(self._snapshot)) for _ in range(1 if change is None else 2)]
            series, columns = _sorted(self._samples)
            for one in sides:
                _empty(one, {ref.split(":")[1] for ref in series}, self.start_ms - WARM_UP_MS)
            if change is not None:
                change.put(sides[-1], self.start_ms - WARM_UP_MS)
            self._tick_ms = min(_tick_ms(one) for one in sides)
            for batch, differ in self._made(self._entries(series, columns), *sides):
                for outcome in _outcomes(batch, differ[0], differ[-1]):
                    self._note(outcome)
                    yield outcome

    def _note(self, outcome: Outcome) -> None:
        text = f"samples of {files.said(outcome.entry.at_ms)} were refused: {outcome.problem}"
        if outcome.problem and len(self.reasons) < MOST_REASONS and text not in self.reasons:
            self.reasons.append(text)

    def _entries(self, series: list[str], columns: list[Any]) -> Iterator[Entry]:
        """Yield a call for each instant of a channel, and ticks where nothing comes."""
        at, code, value, reason = columns
        parts = [ref.split(":") for ref in series]
        channel = np.array([int(part[1]) for part in parts])[code]
        edges = np.flatnonzero((np.diff(at) != 0) | (np.diff(channel) != 0)) + 1
        before = self.start_ms - WARM_UP_MS
        for first, last in zip([0, *edges.tolist()], [*edges.tolist(), len(at)], strict=True):
            moment = int(at[first])
            yield from self._ticks(before, moment)
            before = moment
            for start in range(first, last, POINTS_A_CALL):
                rows = range(start, min(start + POINTS_A_CALL, last))
                sections: dict[str, dict[str, Any]] = {}
                for row in rows:
                    _add(sections, parts[code[row]], float(value[row]), str(reason[row]))
                document = {
                    "epoch": 1, "seq": next(self._sequence), "block": "history", "at_ms": moment, "now_ms": moment,
                    "sections": list(sections.values()),
                }  # fmt: skip
                yield _entry("comsrv_ingest", str(channel[first]), moment, orjson.dumps(document))
        yield from self._ticks(before, self.end_ms)
        yield _entry("voltage_tick", "", self.end_ms, b"{}")

    def _ticks(self, from_ms: int, until_ms: int) -> Iterator[Entry]:
        for at_ms in range(from_ms + self._tick_ms, until_ms, self._tick_ms):
            yield _entry("voltage_tick", "", at_ms, b"{}")


def _add(sections: dict[str, dict[str, Any]], part: list[str], value: float, reason: str) -> None:
    kind, point = part[2], part[3]
    section = sections.setdefault(kind, {"type": kind, "ids": [], "values": [], "quality": {}})
    if value == value:  # noqa: PLR0124 - NaN: the quality alone changed
        section["ids"].append(point)
        section["values"].append(format_value(value))
    if reason:
        # A store that keeps numbers says no more than "bad".
        section["quality"][point] = reason if ":" in reason else f"{reason}:unknown"


def _entry(function: str, key: str, at_ms: int, argument: bytes) -> Entry:
    head = f"|0|{at_ms}|{function}|{key}|0".encode()
    return Entry(_NOWHERE, head, argument, b"", b"", b"", None, None, at_ms, function, key, "")


def _sorted(path: Path) -> tuple[list[str], list[Any]]:
    """Return the series, and of all samples in order: instant, series, value, reason."""
    names: dict[str, int] = {}
    found: list[tuple[Any, Any, Any, Any]] = []
    for columns, _ in tables.read(path):
        codes = np.array([names.setdefault(ref, len(names)) for ref in columns.series], np.int32)
        found.append((columns.at_ms, codes, columns.value, np.array(columns.reason, object)))
    at, code, value, reason = (np.concatenate(column) for column in zip(*found, strict=True))
    series = list(names)
    channel = np.array([int(ref.split(":")[1]) for ref in series])
    order = np.lexsort((code, channel[code], at))
    return series, [column[order] for column in (at, code, value, reason)]


def _empty(private: Private, channels: set[str], start_ms: int) -> None:
    """Leave the definitions of a site, and nothing of what happened there; every channel is polled from now on."""
    timers = private.key("timers")
    due = [one for one in private.call("ZRANGE", timers, 0, -1) if one.decode().startswith(_TIMERS)]
    cursor = b"0"
    gone: list[bytes] = []
    while True:
        cursor, found = private.call("SCAN", cursor, "COUNT", 1000)
        gone += [one for one in found if not _SITE.fullmatch(one.decode().removeprefix(private.prefix))]
        if cursor == b"0":
            break
    for first in range(0, len(gone), 1000):
        private.call("UNLINK", *gone[first : first + 1000])
    for one in due:
        private.call("ZADD", timers, start_ms, one)
    private.call("HSET", private.key("clock"), "last", start_ms)
    # There is nobody to send a command: that it expires says nothing.
    private.call("HSET", private.key("system_settings"), "command", orjson.dumps({"enabled": False}))
    for channel in channels:
        status = private.key("status", ch=channel)
        private.call("HSET", status, "epoch", 1, "leased", 1, "lease_ms", FOREVER_MS, "state", "running")


def _tick_ms(private: Private) -> int:
    timers = [one.decode() for one in private.call("ZRANGE", private.key("timers"), 0, -1)]
    slices = [int(one.split("|")[1]) for one in timers if one.startswith("slices|")]
    return min([TICK_MS, *(SLICES_A_TICK * one for one in slices)])


def _outcomes(batch: list[Entry], then: Differ, now: Differ) -> Iterator[Outcome]:
    for number in sorted(then.keys() | now.keys()):
        before, problem_then = then.get(number, (b"", ""))
        after, problem = now.get(number, (b"", ""))
        yield Outcome(batch[number], _said(before), _said(after), problem, bool(problem_then))


def _said(outputs: bytes) -> list[Output]:
    return [one for one in outputs_of(outputs) if one.journal != COMMANDS or one.fields.get("state") == "queued"]
