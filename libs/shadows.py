"""A shadow and the active definition beside it, compared over a time: when they differed, and what the shadow would do.

Redis notes each transition of either, with how both stood after it (redis_functions/core/shadow_log.lua).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field

from libs.validation import Model

SHOWN: Final = 1000
Who = Literal["active", "shadow"]


class Entry(NamedTuple):
    """What was noted: who turned at what instant, and how both stood then."""

    at_ms: int
    who: Who
    event: Literal["began", "on", "off"]
    active: bool
    shadow: bool
    version: str | None = None
    inputs: Sequence[Any] = ()
    would: Sequence[Any] = ()


class Side(Model):
    """What one of the two did."""

    fired: int = Field(description="how often it turned on")
    on_ms: int = Field(description="how long it was on")
    on: bool = Field(description="whether it is on at the end")


class Difference(Model):
    """A time in which one of the two was on and the other was not."""

    only: Who = Field(description="who was on")
    from_ms: int
    to_ms: int | None = Field(description="null where they still differ at the end")
    began_by: Who = Field(description="whose turn made the difference")
    inputs: list[Any] = Field(description="what that one saw")


class Apart(Model):
    """An instant at which one fired and the other did not, or at which they would do different things."""

    at_ms: int
    active: list[Any] | None = Field(description="what its actions came to; null where it did not fire")
    shadow: list[Any] | None


class Comparison(Model):
    """A shadow and the active one over a time."""

    start_ms: int = Field(description="not before the shadow ran, or what is kept of it began")
    end_ms: int
    changes: list[Any] = Field(
        description="how what the shadow says differs from the active one now, each with its path"
    )
    versions: list[int] = Field(description="the versions of the active one in that time")
    active: Side
    shadow: Side
    same_ms: int
    differ_ms: int
    same_percent: float
    differences: list[Difference] = Field(description=f"oldest first, at most {SHOWN}")
    apart: list[Apart] = Field(description=f"firings that differ, oldest first, at most {SHOWN}")
    actions: dict[str, dict[str, int]] = Field(description="of the shadow, by type: how many would be done or withheld")


class _Span(NamedTuple):
    """A time in which neither turned, and what began it."""

    start_ms: int
    end_ms: int
    entry: Entry


def _spans(entries: Sequence[Entry], start_ms: int, end_ms: int) -> Iterator[_Span]:
    """Yield the times between the turns; the first entry is not after the start."""
    at_ms = start_ms
    for index, entry in enumerate(entries):
        until_ms = min(entries[index + 1].at_ms, end_ms) if index + 1 < len(entries) else end_ms
        if until_ms > at_ms:
            yield _Span(at_ms, until_ms, entry)
            at_ms = until_ms


def _differences(spans: Iterable[_Span]) -> Iterator[Difference]:
    begun: dict[str, Any] | None = None
    for span in spans:
        entry = span.entry
        only = None if entry.active == entry.shadow else "active" if entry.active else "shadow"
        if begun and begun["only"] != only:
            yield Difference(**begun, to_ms=span.start_ms)
            begun = None
        if only and begun is None:
            begun = {"only": only, "from_ms": span.start_ms, "began_by": entry.who, "inputs": list(entry.inputs)}
    if begun:
        yield Difference(**begun, to_ms=None)


def compare(entries: Iterable[Entry], start_ms: int, end_ms: int, changes: Sequence[Any] = ()) -> Comparison:
    """Return how the two compare from start to end, at most from the first entry on.

    `changes` is how what they say differs.
    """
    noted = sorted(entries, key=lambda entry: entry.at_ms)
    start_ms = max(start_ms, noted[0].at_ms) if noted else end_ms
    end_ms = max(start_ms, end_ms)
    spans = list(_spans(noted, start_ms, end_ms))
    turns = [entry for entry in noted if start_ms < entry.at_ms <= end_ms and entry.event == "on"]
    same = sum(span.end_ms - span.start_ms for span in spans if span.entry.active == span.entry.shadow)
    total = end_ms - start_ms
    return Comparison(
        start_ms=start_ms,
        end_ms=end_ms,
        changes=list(changes),
        versions=sorted({int(entry.version) for entry in noted if entry.version and entry.at_ms <= end_ms}),
        active=_side("active", turns, spans),
        shadow=_side("shadow", turns, spans),
        same_ms=same,
        differ_ms=total - same,
        same_percent=round(100 * same / total, 3) if total else 100.0,
        differences=list(_differences(spans))[:SHOWN],
        apart=list(_apart(turns))[:SHOWN],
        actions=_counted(turns),
    )


def _apart(turns: Iterable[Entry]) -> Iterator[Apart]:
    instants: dict[int, dict[str, list[Any]]] = {}
    for entry in turns:
        instants.setdefault(entry.at_ms, {})[entry.who] = list(entry.would)
    for at_ms, fired in instants.items():
        if fired.get("active") != fired.get("shadow"):
            yield Apart(at_ms=at_ms, active=fired.get("active"), shadow=fired.get("shadow"))


def _counted(turns: Iterable[Entry]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for entry in turns:
        for action in entry.would if entry.who == "shadow" else ():
            counts.setdefault(action["type"], Counter())["withheld" if "problem" in action else "done"] += 1
    return {kind: dict(found) for kind, found in counts.items()}


def _side(who: Who, turns: Iterable[Entry], spans: Sequence[_Span]) -> Side:
    on_ms = sum(span.end_ms - span.start_ms for span in spans if getattr(span.entry, who))
    fired = sum(entry.who == who for entry in turns)
    return Side(fired=fired, on_ms=on_ms, on=bool(spans) and getattr(spans[-1].entry, who))
