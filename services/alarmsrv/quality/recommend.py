"""What to change at a definition that chatters: its history, replayed with other deadbands and delays.

A replay counts how often the alarm would have begun. Its rules are those of
the detectors in redis_functions (a limit, a deadband once it is on, a delay
before and after); a test replays the same series through them and compares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

RISING: Final = frozenset({"HiHi", "Hi"})
FALLING: Final = frozenset({"Lo", "LoLo"})
DELAYS_MS: Final = (1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000)
STEPS: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)
ENOUGH_PERCENT: Final = 80.0


class Sample(NamedTuple):
    """A recorded change; it holds until the next one. A value that is not good is None: unknown."""

    at_ms: int
    value: float | None


class Setting(NamedTuple):
    """How a limit is watched."""

    detector: str
    limit: float
    deadband: float = 0.0
    on_delay_ms: int = 0
    off_delay_ms: int = 0


class Replayed(NamedTuple):
    """What an alarm would have done."""

    begins: int
    active_ms: int


def replay(samples: Sequence[Sample], setting: Setting, end_ms: int) -> Replayed:
    """Watch a series, and count how often the alarm begins.

    An unknown value neither begins nor ends anything, and a delay does not run
    while it is unknown.
    """
    watch = _Watch(setting)
    for sample in samples:
        watch.sample(sample.at_ms, sample.value)
    watch.until(end_ms)
    return Replayed(watch.begins, watch.active_ms + (end_ms - watch.since if watch.active else 0))


class _Watch:
    """One limit with its deadband and delays, step for step as core/transitions.lua has it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.begins = 0
        self.active_ms = 0
        self.active = False
        self.since = 0
        self._over = False
        self._truth: bool | None = False
        self._held = False
        self._hold_from: int | None = None
        self._elapsed = 0
        self._off_at: int | None = None

    def sample(self, at: int, value: float | None) -> None:
        """Take a change."""
        self.until(at)
        setting = self.setting
        if value is not None:
            margin = setting.deadband if self._over else 0.0
            rising = setting.detector in RISING
            self._over = value > setting.limit - margin if rising else value < setting.limit + margin
        raw = None if value is None else self._over
        self._set(self._hold(raw, at) if setting.on_delay_ms else raw, at)
        self.until(at)

    def _hold(self, raw: bool | None, at: int) -> bool | None:
        """Return what the condition says once its delay before has its say."""
        if raw is True:
            if self.active:
                # What comes back within the delay after waits for nothing.
                self._held, self._hold_from, self._elapsed = True, None, 0
            if not self._held and self._hold_from is None:
                self._hold_from = at
            return self._held
        if raw is False:
            self._held, self._hold_from, self._elapsed = False, None, 0
            return False
        if not self._held and self._hold_from is not None:
            # Unknown pauses: what was held counts on.
            self._elapsed += at - self._hold_from
            self._hold_from = None
        return None

    def _set(self, truth: bool | None, at: int) -> None:
        if truth == self._truth:
            return
        self._truth = truth
        if truth is not False:
            self._off_at = None
        if truth and not self.active:
            self.active, self.since = True, at
            self.begins += 1
        elif truth is False and self.active:
            self._off_at = at + self.setting.off_delay_ms
            self.until(at)

    def until(self, now: int) -> None:
        """Let time pass: what is due by now has its effect at its instant, in order."""
        while True:
            hold = None if self._hold_from is None else self._hold_from - self._elapsed + self.setting.on_delay_ms
            if hold is not None and hold <= now and (self._off_at is None or hold <= self._off_at):
                self._held, self._hold_from = True, None
                self._set(truth=True, at=hold)
            elif self._off_at is not None and self._off_at <= now:
                self.active_ms += self._off_at - self.since
                self.active, self._off_at = False, None
            else:
                return


def deadbands(samples: Sequence[Sample], setting: Setting) -> list[float]:
    """Return round deadbands that may matter, up to how far the series swings back from the limit."""
    values = [sample.value for sample in samples if sample.value is not None]
    if len(values) < 2:
        return []
    rising = setting.detector in RISING
    swings = [setting.limit - value if rising else value - setting.limit for value in values]
    below = [swing for swing in swings if swing >= 0]
    if not below or max(below) <= 0:
        return []
    most = max(below)
    decade = math.floor(math.log10(most)) - 2
    found: list[float] = []
    while decade <= math.ceil(math.log10(most)):
        found += [float(f"{step * 10.0**decade:.6g}") for step in STEPS]
        decade += 1
    return [band for band in found if band > setting.deadband and band <= most]


def recommend(samples: Sequence[Sample], setting: Setting, end_ms: int, *, values: bool = True) -> dict[str, Any]:
    """Return what other deadbands and delays would have done, and the smallest that is enough.

    Args:
        samples: the series.
        setting: the present setting.
        end_ms: how long the last sample holds.
        values: whether the samples are values, so that a deadband means something.
    """
    now = replay(samples, setting, end_ms)

    def tried(value: float, other_setting: Setting) -> dict[str, Any]:
        other = replay(samples, other_setting, end_ms)
        reduction = 100 * (now.begins - other.begins) / now.begins if now.begins else 0.0
        return {"value": value, "alarms": other.begins, "reduction_percent": round(reduction, 1)}

    bands = [tried(band, setting._replace(deadband=band)) for band in (deadbands(samples, setting) if values else ())]
    on = [tried(delay, setting._replace(on_delay_ms=delay)) for delay in DELAYS_MS if delay > setting.on_delay_ms]
    off = [tried(delay, setting._replace(off_delay_ms=delay)) for delay in DELAYS_MS if delay > setting.off_delay_ms]
    return {
        "samples": len(samples),
        "now": {"alarms": now.begins, "active_ms": now.active_ms},
        "deadband": bands,
        "on_delay_ms": on,
        "off_delay_ms": off,
        "recommended": {"deadband": _enough(bands), "on_delay_ms": _enough(on), "off_delay_ms": _enough(off)},
    }


def _enough(tried: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the smallest that takes away four fifths of the alarms without hiding all of them."""
    return next((one for one in tried if one["reduction_percent"] >= ENOUGH_PERCENT and one["alarms"] > 0), None)
