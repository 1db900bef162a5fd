"""Answers about the quality of alarms, from the journal, the definitions and the history of points."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from libs.clock import now_ms
from libs.errors import InvalidError, NotFoundError, UnavailableError
from services.alarmsrv.functions import AlarmFunctions
from services.alarmsrv.journal.chain import Entry
from services.alarmsrv.journal.journal import Journal
from services.alarmsrv.quality.approved import ABOUT, Approved
from services.alarmsrv.quality.history import LIMIT, History
from services.alarmsrv.quality.measure import DAY_MS, Measured
from services.alarmsrv.quality.recommend import FALLING, RISING, Sample, Setting, recommend

# The journal is in the order of writing; a timer's entry may be older than those before it by as much.
SLACK_MS: Final = 3_600_000
MAX_ENTRIES: Final = 500_000
# Of so many deleted definitions it is said who deleted them.
MAX_NAMED: Final = 1000
_BEGINS: Final = frozenset({"raised", "recurred"})


class Quality:
    """Reads everything anew for each answer: nothing is kept that a restart could lose."""

    def __init__(self, alarms: AlarmFunctions, journal: Journal, history: History, approved: Approved) -> None:
        """Keep what to ask."""
        self._alarms = alarms
        self._journal = journal
        self._history = history
        self._approved = approved

    async def report(self, start_ms: int, end_ms: int, operators: int) -> dict[str, Any]:
        """Return the measures of a span."""
        # A day back at least, to know which alarms stood all day.
        entries = await self._since(min(start_ms, end_ms - DAY_MS))
        standing = {
            str(alarm["id"]): int(alarm["created_at_ms"])
            for alarm in await self._alarms.open_alarms()
            if alarm.get("active") and alarm["level"] != "Info" and alarm["created_at_ms"] <= end_ms - DAY_MS
        }

        def measure() -> dict[str, Any]:
            measured = Measured(start_ms, end_ms)
            for entry in entries:
                if int(entry.fields.get("at_ms") or 0) < end_ms:
                    measured.take(entry)
            for alarm, since_ms in standing.items():
                measured.standing(alarm, since_ms)
            return measured.report(operators)

        # A hundred thousand entries take a second; the service answers others meanwhile.
        return await asyncio.to_thread(measure)

    async def recommend(self, definition_id: str, start_ms: int, end_ms: int) -> dict[str, Any]:
        """Return what other deadbands and delays would have done to a definition in a span.

        Without history of its point the delays are tried on the journal's transitions.

        Raises:
            NotFoundError: there is no such definition.
            InvalidError: the span is empty.
        """
        end_ms = min(end_ms, now_ms())
        if start_ms >= end_ms:
            raise InvalidError("start must be before end")
        definition = orjson.loads(await self._alarms.definitions.get(definition_id))
        setting = setting_of(definition)
        said, samples, problem = "journal", list[Sample](), None
        if setting is not None:
            try:
                samples = await self._history.samples(definition["source"], start_ms, end_ms)
                said = "history"
            except UnavailableError as error:
                problem = str(error)
        if not any(sample.value is not None for sample in samples):
            setting = Setting("Hi", 0.5)
            samples = await self._transitions(f"alarm:{definition_id}", start_ms, end_ms)
            said = "journal"
        whole = len(samples) < LIMIT
        start_ms = start_ms if whole else samples[0].at_ms
        tried = setting or Setting("Hi", 0.5)
        found = await asyncio.to_thread(recommend, samples, tried, end_ms, values=said == "history")
        return {
            "definition": definition_id, "start_ms": start_ms, "end_ms": end_ms, "from": said, "whole": whole,
            **({"problem": problem} if problem else {}), **found,
        }  # fmt: skip

    async def approve(self, user: str, comment: str) -> dict[str, Any]:
        """Approve the definitions as they are now."""
        return await self._approved.approve(await self._alarms.definitions.all(), user, comment, now_ms())

    async def compare(self) -> dict[str, Any]:
        """Return how the running definitions differ from the approved ones, and who made them so."""
        running = await self._alarms.definitions.all()
        found = await self._approved.compare(running)
        now = {one["id"]: one for one in running}
        who = {name: {field: now[name].get(field) for field in ABOUT} for name in found["added"]}
        for name in found["missing"][:MAX_NAMED]:
            who[name] = await self._deleted(name)
        return {**found, "who": who}

    async def _deleted(self, definition: str) -> dict[str, Any]:
        try:
            last = orjson.loads(await self._alarms.definitions.versions(definition))["items"][0]
        except NotFoundError:
            # So many were deleted since that this one is not remembered.
            return dict.fromkeys(ABOUT)
        return {**{field: last.get(field) for field in ABOUT}, "updated_at_ms": last["at_ms"]}

    async def _since(self, start_ms: int) -> list[Entry]:
        """Return the entries from an instant on, oldest first."""
        found: list[Entry] = []
        async for entry in self._journal.newest_first():
            found.append(entry)
            written = entry.order[0]
            late = max(written, int(entry.fields.get("at_ms") or 0)) < start_ms - SLACK_MS
            if late or len(found) == MAX_ENTRIES:
                break
        return found[::-1]

    async def _transitions(self, origin: str, start_ms: int, end_ms: int) -> list[Sample]:
        """Return an alarm's condition as a series of 0 and 1."""
        samples: list[Sample] = []
        for entry in await self._since(start_ms):
            fields = entry.fields
            at, event = int(fields.get("at_ms") or 0), fields.get("event")
            ends = event in {"returned", "latched"} or (event == "resolved" and not fields.get("user"))
            if fields.get("origin") == origin and start_ms <= at < end_ms and (ends or event in _BEGINS):
                samples.append(Sample(at, 0.0 if ends else 1.0))
        return samples[-LIMIT:]


def setting_of(definition: dict[str, Any]) -> Setting | None:
    """Return how a definition watches its limit; None for detectors without one."""
    detector, limit = definition["detector"], definition.get("limit")
    if detector not in RISING | FALLING or not isinstance(limit, int | float):
        return None
    band = definition.get("deadband") or abs(limit) * (definition.get("deadband_percent") or 0) / 100
    return Setting(
        detector, limit, band, definition.get("on_delay_ms") or 0, definition.get("off_delay_ms") or 0
    )  # fmt: skip
