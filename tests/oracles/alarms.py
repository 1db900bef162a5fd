"""Alarms in plain Python, written from DESIGN.md section 4 and ISA-18.2, not from the Lua.

Two definitions on two points, in one group: what their alarms, their journal, their timers and their
marks are after any sequence of values, qualities, times and deeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

DAY_MS: Final = 86_400_000
PRIORITY: Final = {"Critical": "900", "Major": "700", "Minor": "500", "Warning": "300", "Info": "100"}
NEEDS_ACK: Final = {"Critical", "Major", "Minor"}
GROUP: Final = "g"
# With these an alarm asks for somebody. More than ten in ten minutes are a flood, fewer than five end it.
ASKS: Final = {"raised", "recurred", "realarmed", "unshelved", "unsuppressed", "in_service"}
MASKS: Final = {"shelved_by", "suppressed_by", "out_of_service_by"}
FLOOD: Final = "system:flood"
TEN_MINUTES_MS: Final = 600_000
FLOOD_ALARM: Final = {
    "title": "A flood of alarms: more than ten within ten minutes", "level": "Info", "source": FLOOD, "origin": FLOOD,
    "description": "Look at the first-outs, shelve what says nothing new; afterwards: voltage alarms quality.",
    "tags": '["system","flood"]', "quality": "good", "ack_required": "0",
}  # fmt: skip


class RefusedError(Exception):
    """STATE: there is no such way."""


@dataclass
class Definition:
    """What the document says, and where its condition is."""

    name: str
    point: int
    document: dict[str, Any]
    truth: bool | None = None
    active: bool = False
    since: int | None = None
    elapsed: int = 0
    held: bool = False
    on: bool = False

    def get(self, name: str) -> Any:
        """Return a member of the document."""
        return self.document.get(name)

    @property
    def origin(self) -> str:
        """Return what its alarms come from."""
        return f"alarm:{self.name}"

    @property
    def ack_required(self) -> bool:
        """Return whether its alarms wait to be seen."""
        said = self.get("ack_required")
        return self.document["level"] in NEEDS_ACK if said is None else bool(said)


Alarm = dict[str, str]
Seen = tuple[str, str] | None


@dataclass
class Alarms:
    """The whole of it. Alarms are known by the order of their creation."""

    now: int
    points: dict[int, tuple[float | None, str]] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    journal: list[dict[str, str]] = field(default_factory=list)
    timers: dict[tuple[str, str], int] = field(default_factory=dict)
    marks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    flood_from: int | None = None
    flooding: bool = False
    first_out: str = ""

    # ------------------------------------------------------------ looking

    def open(self, origin: str) -> Alarm | None:
        """Return the open alarm of an origin."""
        return next((a for a in reversed(self.alarms) if a["origin"] == origin and a["status"] != "Resolved"), None)

    def seen(self, origin: str) -> Seen:
        """Return value and quality of the definition's point now."""
        definition = self.definitions.get(origin.removeprefix("alarm:"))
        if definition is None:
            return None
        value, quality = self.points.get(definition.point, (None, ""))
        return ("", quality or "missing") if value is None else (f"{value:.6f}", quality or "good")

    def note(self, at: int, alarm: Alarm, event: str, user: str = "", seen: Seen = None) -> None:
        """Append to the journal."""
        value, quality = seen or (alarm.get("value", ""), alarm.get("quality", ""))
        self.journal.append(
            {
                "number": str(len(self.journal) + 1), "at_ms": str(at), "alarm": alarm["id"], "event": event,
                "status": alarm["status"], "level": alarm["level"], "origin": alarm["origin"], "user": user,
                "value": value, "quality": quality,
            }
        )  # fmt: skip
        event_asks = event in ASKS and alarm["status"] == "New" and alarm["level"] != "Info"
        if event_asks and not MASKS & set(alarm) and alarm["origin"] != FLOOD:
            self.asked.append(at)
            if len(self.asked) > 10 and at - self.asked[-11] < TEN_MINUTES_MS:
                self.flood_from = at if self.flood_from is None else self.flood_from

    def change(self, alarm: Alarm, at: int, **changes: str | None) -> None:
        """Change a record; None takes a member away."""
        for name, value in {**changes, "updated_at_ms": str(at)}.items():
            if value is None:
                alarm.pop(name, None)
            else:
                alarm[name] = value

    # ------------------------------------------------------------ time

    def begin(self, now: int) -> None:
        """Let time pass: what is due fires in order, as of its instant."""
        self.now = now
        while due := sorted((at, *name) for name, at in self.timers.items() if at <= now):
            # Those of one instant: what they set or move may be due before the next.
            for at, kind, name in [one for one in due if one[0] == due[0][0]]:
                if self.timers.pop((kind, name), None) is not None:
                    getattr(self, f"fire_{kind}")(name, at)
        self.finish()

    def fire_hold(self, name: str, at: int) -> None:
        """The condition held for its on-delay."""
        definition = self.definitions[name]
        definition.held = True
        self.evaluate(definition, at)

    def fire_off(self, name: str, at: int) -> None:
        """The condition was gone for its off-delay."""
        self.turn(self.definitions[name], at, on=False)

    def fire_shelve(self, name: str, at: int) -> None:
        """The shelving is over."""
        self.unshelve(name, at, "timer")

    def fire_realarm(self, name: str, at: int) -> None:
        """An alarm that is still active is New again, unless nobody is to be asked."""
        alarm = self.alarms[int(name)]
        interval = int(alarm["realarm_ms"])
        self.timers["realarm", name] = at + interval * ((self.now - at) // interval + 1)
        if not {"shelved_by", "suppressed_by", "out_of_service_by"} & set(alarm):
            self.change(alarm, at, status="New", acknowledged_by=None, acknowledged_at_ms=None, realarmed_at_ms=str(at))
            self.note(at, alarm, "realarmed", "", self.seen(alarm["origin"]))

    # ------------------------------------------------------------ floods

    def finish(self) -> None:
        """A call is over: where a flood began in it, there is an alarm that says so."""
        began, self.flood_from = self.flood_from, None
        if began is None or self.open(FLOOD):
            return
        self.timers["flood", ""] = self.asked[-5] + TEN_MINUTES_MS
        if self.flooding:
            return
        self.flooding = True
        alarm = {
            "id": str(len(self.alarms)), "status": "New", "active": "1", "count": "1", "created_at_ms": str(began),
            "updated_at_ms": str(began), **FLOOD_ALARM,
        }  # fmt: skip
        self.alarms.append(alarm)
        self.born(alarm)
        self.note(began, alarm, "raised")
        for event in ("suppressed", "out_of_service"):
            if f"{event}_by" in alarm:
                self.note(began, alarm, event, alarm[f"{event}_by"])

    def fire_flood(self, name: str, at: int) -> None:
        """It goes on with what came since, or it is over."""
        over = self.asked[-5] + TEN_MINUTES_MS
        if over > at:
            self.timers["flood", name] = over
            return
        self.flooding = False
        alarm = self.open(FLOOD)
        if alarm is not None:
            self.change(alarm, at, returned_at_ms=str(at))
            self.close(alarm, at, "resolved", "", None)

    # ------------------------------------------------------------ conditions

    def evaluate(self, definition: Definition, at: int) -> None:
        """Look at a definition's point."""
        value, quality = self.points.get(definition.point, (None, ""))
        raw = None
        if value is not None and not quality:
            # Once on, it goes off past its deadband only.
            band = definition.get("deadband") or 0
            raw = value > definition.get("limit") - (band if definition.on else 0)
            definition.on = raw
        truth = self.hold(definition, raw, at) if definition.get("on_delay_ms") else raw
        if truth is definition.truth:
            return
        before, definition.truth = definition.truth, truth
        if definition.active and (truth is None) != (before is None):
            self.mark_uncertain(definition.origin, at, uncertain=truth is None)
        if truth and definition.active:
            self.timers.pop(("off", definition.name), None)
        elif truth:
            self.turn(definition, at, on=True)
        elif truth is False and definition.active:
            if definition.get("off_delay_ms"):
                self.timers["off", definition.name] = at + definition.get("off_delay_ms")
            else:
                self.turn(definition, at, on=False)
        elif truth is None:
            self.timers.pop(("off", definition.name), None)

    def hold(self, definition: Definition, raw: bool | None, at: int) -> bool | None:
        """Apply the on-delay; unknown pauses it."""
        timer = ("hold", definition.name)
        if raw:
            if definition.active and definition.get("off_delay_ms") and definition.since is None:
                definition.held, definition.elapsed = True, 0
            if not definition.held and definition.since is None:
                definition.since = at
                self.timers[timer] = at - definition.elapsed + definition.get("on_delay_ms")
            return definition.held
        if raw is None:
            if not definition.held and definition.since is not None:
                left = max(0, self.timers.pop(timer) - at)
                definition.elapsed, definition.since = definition.get("on_delay_ms") - left, None
            return None
        definition.held, definition.elapsed, definition.since = False, 0, None
        self.timers.pop(timer, None)
        return False

    def turn(self, definition: Definition, at: int, *, on: bool) -> None:
        """The condition begins or ends."""
        definition.active = on
        if on:
            self.raise_alarm(definition, at)
        else:
            self.end(definition, at)

    # ------------------------------------------------------------ the life of an alarm

    def raise_alarm(self, definition: Definition, at: int) -> None:
        """A new alarm, or one more time of the open one."""
        text, quality = self.seen(definition.origin) or ("", "")
        alarm, level = self.open(definition.origin), definition.document["level"]
        if alarm is not None:
            again = alarm["status"] == "Returned" or "latched" in alarm
            self.change(
                alarm, at, active="1", uncertain=None, latched=None, returned_at_ms=None, value=text, quality=quality,
                count=str(int(alarm["count"]) + 1), title=definition.get("message"),
            )  # fmt: skip
            if again:
                self.change(alarm, at, status="New", acknowledged_by=None, acknowledged_at_ms=None)
            interval = definition.get("realarm_ms")
            member = alarm["id"] in self.in_group()
            self.change(
                alarm, at, level=level, priority=PRIORITY[level], ack_required="1" if definition.ack_required else "0",
                group=GROUP if definition.get("group") else None, realarm_ms=str(interval) if interval else None,
            )  # fmt: skip
            self.swap(alarm, at, member=member)
            self.note(at, alarm, "recurred")
            self.follow_names(alarm, at)
        else:
            number = len(self.alarms)
            alarm = {
                "id": str(number), "status": "New", "active": "1", "count": "1", "created_at_ms": str(at),
                "updated_at_ms": str(at), "title": definition.get("message"), "level": level,
                "source": definition.get("source"), "origin": definition.origin, "definition": definition.name,
                "value": text, "quality": quality, "ack_required": "1" if definition.ack_required else "0",
                "priority": PRIORITY[level],
            }  # fmt: skip
            if definition.get("group"):
                alarm["group"] = GROUP
            if definition.get("realarm_ms"):
                alarm["realarm_ms"] = str(definition.get("realarm_ms"))
            self.alarms.append(alarm)
            self.swap(alarm, at, member=False)
            self.born(alarm)
            self.note(at, alarm, "raised")
            for event, by in (
                ("shelved", "shelved_by"),
                ("suppressed", "suppressed_by"),
                ("out_of_service", "out_of_service_by"),
            ):
                if by in alarm:
                    self.note(at, alarm, event, alarm[by])
        if "realarm_ms" in alarm:
            self.timers["realarm", alarm["id"]] = at + int(alarm["realarm_ms"])

    def in_group(self) -> set[str]:
        """Return the open alarms of the group; events are not among them."""
        return {a["id"] for a in self.alarms if "group" in a and a["status"] != "Resolved" and a["level"] != "Info"}

    def swap(self, alarm: Alarm, at: int, *, member: bool) -> None:
        """The first of a group is its first-out until all are closed, also when it comes again meanwhile."""
        others = self.in_group() - {alarm["id"]}
        if alarm["id"] not in self.in_group():
            if member:
                self.change(alarm, at, first_out=None)
        elif not member:
            self.first_out = self.first_out if others else alarm["origin"]
            self.change(alarm, at, first_out="1" if self.first_out == alarm["origin"] else None)

    def end(self, definition: Definition, at: int) -> None:
        """The condition is over: what becomes of the alarm."""
        alarm = self.open(definition.origin)
        if alarm is None or alarm["active"] != "1":
            return None
        seen = self.seen(definition.origin)
        if alarm.get("shelved_one_shot") == "1":
            self.unshelve(definition.origin, at, "condition")
        self.change(alarm, at, active="0", uncertain=None, returned_at_ms=str(at))
        if definition.get("latching"):
            self.change(alarm, at, latched="1", status="Returned" if alarm["status"] == "New" else alarm["status"])
            event = "latched"
        elif alarm["status"] == "New" and alarm["ack_required"] == "1":
            self.change(alarm, at, status="Returned")
            event = "returned"
        else:
            return self.close(alarm, at, "resolved", "", seen)
        self.timers.pop(("realarm", alarm["id"]), None)
        return self.note(at, alarm, event, "", seen)

    def close(self, alarm: Alarm, at: int, event: str, user: str, seen: Seen) -> None:
        """Resolve it."""
        self.change(
            alarm, at, status="Resolved", active="0", resolved_at_ms=str(at), resolved_by=user or "condition",
            uncertain=None, latched=None, shelved_by=None, shelved_until_ms=None, shelved_one_shot=None,
        )  # fmt: skip
        self.timers.pop(("realarm", alarm["id"]), None)
        self.note(at, alarm, event, user, seen)

    def mark_uncertain(self, origin: str, at: int, *, uncertain: bool) -> None:
        """The condition of an alarm is unknown, or known again."""
        alarm = self.open(origin)
        if alarm is not None and ("uncertain" in alarm) != uncertain:
            self.change(alarm, at, uncertain="1" if uncertain else None)
            self.note(at, alarm, "uncertain" if uncertain else "certain", "", self.seen(origin))

    # ------------------------------------------------------------ marks

    def holder(self, kind: str, alarm: Alarm) -> tuple[str | None, str | None]:
        """Return who marked the alarm or its group, and which of them."""
        names = [alarm["origin"], *([f"group:{GROUP}"] if "group" in alarm else [])]
        held = next((name for name in names if (kind, name) in self.marks), None)
        return (self.marks[kind, held]["by"], held) if held else (None, None)

    def born(self, alarm: Alarm) -> None:
        """Give a new alarm what its names are marked with."""
        mark = self.marks.get(("shelved", alarm["origin"]))
        if mark:
            alarm["shelved_by"], alarm["shelved_until_ms"] = mark["by"], str(mark["until_ms"])
            alarm["shelved_one_shot"] = "1" if mark.get("one_shot") else "0"
        for kind in ("suppressed", "out_of_service"):
            by, name = self.holder(kind, alarm)
            if by and name:
                alarm[f"{kind}_by"], alarm[f"{kind}_name"] = by, name

    def follow_names(self, alarm: Alarm, at: int) -> None:
        """Bring an alarm whose names are others to what the marks say."""
        for kind in ("suppressed", "out_of_service"):
            was, (by, name) = alarm.get(f"{kind}_by"), self.holder(kind, alarm)
            if (was, alarm.get(f"{kind}_name")) != (by, name):
                self.refresh(kind, by or was or "", at)

    def refresh(self, kind: str, user: str, at: int | None = None) -> None:
        """Bring the open alarms to what the marks say, in the order of their origins."""
        at = self.now if at is None else at
        for alarm in sorted((a for a in self.alarms if a["status"] != "Resolved"), key=lambda a: a["origin"]):
            was, (by, name) = alarm.get(f"{kind}_by"), self.holder(kind, alarm)
            if (was, alarm.get(f"{kind}_name")) == (by, name):
                continue
            self.change(alarm, at, **{f"{kind}_by": by, f"{kind}_name": name})
            if (was is None) != (by is None):
                event = {
                    "suppressed": ("suppressed", "unsuppressed"),
                    "out_of_service": ("out_of_service", "in_service"),
                }
                self.note(at, alarm, event[kind][by is None], user, self.seen(alarm["origin"]))

    def unshelve(self, name: str, at: int, user: str) -> None:
        """End the shelving of an origin."""
        if self.marks.pop(("shelved", name), None) is None:
            return
        self.timers.pop(("shelve", name), None)
        alarm = self.open(name)
        if alarm is None:
            alarm = {"id": name, "status": "Normal", "level": "Info", "origin": name}
        else:
            self.change(alarm, at, shelved_by=None, shelved_until_ms=None, shelved_one_shot=None)
        self.note(at, alarm, "unshelved", user, self.seen(name) if alarm["status"] != "Normal" else None)

    # ------------------------------------------------------------ what people do

    def target(self, name: str) -> Alarm | None:
        """Return the alarm a name means; STATE where a closed alarm is meant."""
        if ":" in name:
            return self.open(name)
        alarm = self.alarms[int(name)]
        if alarm["status"] == "Resolved":
            raise RefusedError
        return alarm

    def stands(self, alarm: Alarm) -> bool:
        """Return whether a definition's condition holds the alarm open."""
        definition = self.definitions.get(alarm["origin"].removeprefix("alarm:"))
        return alarm["active"] == "1" and definition is not None and definition.active

    def acknowledge(self, name: str) -> None:
        """Somebody saw it."""
        alarm = self.alarms[int(name)]
        if alarm["status"] == "Resolved" or (alarm["level"] == "Info" and alarm["status"] == "New"):
            raise RefusedError
        if alarm["status"] == "Acknowledged":
            return None
        seen = self.seen(alarm["origin"])
        self.change(alarm, self.now, acknowledged_by="anna", acknowledged_at_ms=str(self.now))
        if alarm["status"] == "Returned" and "latched" not in alarm:
            return self.close(alarm, self.now, "acknowledged", "anna", seen)
        self.change(alarm, self.now, status="Acknowledged")
        return self.note(self.now, alarm, "acknowledged", "anna", seen)

    def resolve(self, name: str) -> None:
        """Somebody closes it."""
        alarm = self.alarms[int(name)]
        if alarm["status"] == "Resolved":
            return
        if alarm["status"] in {"New", "Acknowledged"} and "latched" not in alarm and self.stands(alarm):
            raise RefusedError
        self.close(alarm, self.now, "resolved", "anna", self.seen(alarm["origin"]))

    def shelve(self, name: str, duration_ms: int | None) -> None:
        """Somebody shelves an alarm, or a definition; without a duration it is one shot."""
        alarm = self.target(name)
        origin = alarm["origin"] if alarm else name
        definition = self.definitions.get(origin.removeprefix("alarm:"))
        level = alarm["level"] if alarm else definition and definition.document["level"]
        once = duration_ms is None
        shot = self.marks.get(("shelved", origin), {}).get("one_shot")
        if level == "Info" or (once and not shot and (alarm is None or alarm["active"] != "1")):
            raise RefusedError
        until = self.now + (DAY_MS if duration_ms is None else duration_ms)
        self.marks["shelved", origin] = {"by": "anna", "until_ms": until, **({"one_shot": True} if once else {})}
        self.timers["shelve", origin] = until
        if alarm is None:
            nobody = {"id": name, "status": "Normal", "level": "Info", "origin": name}
            return self.note(self.now, nobody, "shelved", "anna")
        self.change(
            alarm, self.now, shelved_by="anna", shelved_until_ms=str(until), shelved_one_shot="1" if once else "0"
        )
        return self.note(self.now, alarm, "shelved", "anna", self.seen(origin))

    def end_shelving(self, name: str) -> None:
        """Somebody ends the shelving."""
        alarm = self.target(name)
        self.unshelve(alarm["origin"] if alarm else name, self.now, "anna")

    def mark(self, kind: str, name: str, *, on: bool) -> None:
        """Somebody suppresses an alarm, a definition or the group, or takes it out of service; or ends that."""
        alarm = self.target(name)
        own = alarm["origin"] if alarm else name
        held = (kind, own) in self.marks
        definition = self.definitions.get(own.removeprefix("alarm:"))
        subject = alarm or {"origin": own, **({"group": GROUP} if definition and definition.get("group") else {})}
        if not on and not held and self.holder(kind, subject)[0]:
            raise RefusedError
        if on == held:
            return
        if on:
            self.marks[kind, own] = {"by": "anna"}
        else:
            del self.marks[kind, own]
        self.refresh(kind, "anna")
        if alarm is None:
            words = {"suppressed": ("unsuppressed", "suppressed"), "out_of_service": ("in_service", "out_of_service")}
            nobody = {"id": name, "status": "Normal", "level": "Info", "origin": name}
            self.note(self.now, nobody, words[kind][on], "anna")

    # ------------------------------------------------------------ definitions

    def retire(self, definition: Definition) -> None:
        """A definition goes, or watches something else: its alarm returns."""
        for kind in ("hold", "off"):
            self.timers.pop((kind, definition.name), None)
        if definition.active:
            definition.active = False
            self.end(definition, self.now)

    def define(self, name: str, point: int, document: dict[str, Any]) -> None:
        """Store a definition; what stands keeps standing while it still applies."""
        before = self.definitions.get(name)
        if before is not None and before.document == document:
            return
        fresh = Definition(name, point, document)
        carried = before is not None and before.active
        if before is not None and before.active:
            for kind in ("hold", "off"):
                self.timers.pop((kind, name), None)
            fresh.active = fresh.held = fresh.on = True
            self.redefine(fresh)
        elif before is not None:
            self.retire(before)
        self.definitions[name] = fresh
        self.evaluate(fresh, self.now)
        if carried and fresh.active and fresh.truth is None:
            self.mark_uncertain(fresh.origin, self.now, uncertain=True)

    def redefine(self, definition: Definition) -> None:
        """The open alarm says what the definition says now."""
        alarm = self.open(definition.origin)
        if alarm is None:
            return
        interval = definition.get("realarm_ms")
        wanted = str(interval) if interval else None
        if alarm.get("realarm_ms") != wanted:
            self.timers.pop(("realarm", alarm["id"]), None)
            if interval:
                self.timers["realarm", alarm["id"]] = self.now + interval
        level = definition.document["level"]
        member = alarm["id"] in self.in_group()
        self.change(
            alarm, self.now, title=definition.get("message"), level=level, priority=PRIORITY[level],
            ack_required="1" if definition.ack_required else "0", realarm_ms=wanted,
            group=GROUP if definition.get("group") else None,
        )  # fmt: skip
        self.swap(alarm, self.now, member=member)
        self.note(self.now, alarm, "redefined")
        self.follow_names(alarm, self.now)

    def delete(self, name: str) -> None:
        """A definition goes, with all that was marked of it."""
        definition = self.definitions.pop(name)
        self.definitions[name] = definition
        self.retire(definition)
        del self.definitions[name]
        self.unshelve(definition.origin, self.now, "definition")
        for kind in ("suppressed", "out_of_service"):
            if self.marks.pop((kind, definition.origin), None):
                self.refresh(kind, "definition")

    def put(self, point: int, value: float | None, quality: str) -> None:
        """A poll brings a value or a quality."""
        old = self.points.get(point, (None, ""))[0]
        self.points[point] = (old if value is None else value, quality)
        for definition in sorted(self.definitions.values(), key=lambda d: d.origin):
            if definition.point == point:
                self.evaluate(definition, self.now)
