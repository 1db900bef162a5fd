"""What is said: one transition, or a digest of many, as a document and as an e-mail."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from libs.numbers import readable
from services.alarmsrv.notify.schemas import tags_of, zone_of
from services.alarmsrv.notify.settings import NotificationSettings

LEVELS: Final = ("Critical", "Major", "Minor", "Warning", "Info")
LISTED: Final = 50
IN_DOCUMENT: Final = 200


class Told(NamedTuple):
    """An entry of the outbox."""

    id: str
    kind: str
    fields: dict[str, str]

    @property
    def at_ms(self) -> int:
        """When it happened."""
        return int(self.fields.get("at_ms") or 0)

    @property
    def raised_ms(self) -> int:
        """When its alarm was raised; 0 where that is not known."""
        return int(self.fields.get("raised_at_ms") or 0)

    @property
    def came_ms(self) -> int:
        """When it came into the outbox, by Redis' clock."""
        return int(self.id.partition("-")[0])

    @property
    def level(self) -> str:
        """How grave it is."""
        return self.fields.get("level", "Info")

    @property
    def tags(self) -> frozenset[str]:
        """What routes may ask for."""
        tags = orjson.loads(self.fields["tags"]) if self.fields.get("tags") else []
        return tags_of(tags, self.fields.get("area", ""), self.fields.get("equipment", ""))


class Facts(NamedTuple):
    """What is known of an alarm beside its transition."""

    definition_name: str = ""
    point: str = ""
    unit: str = ""
    guidance: Mapping[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """Return what there is of it."""
        return {name: value for name, value in self._asdict().items() if value}


NOTHING: Final = Facts()


class Message(NamedTuple):
    """What goes to one target; the id is the same however often it is sent."""

    id: str
    target: str
    subject: str
    text: str
    document: dict[str, Any]


def message_id(entries: Sequence[Told], target: str) -> str:
    """Return the id of the message of these entries to this target."""
    said = "\n".join((target, *(f"{one.id} {one.fields.get('number')}" for one in entries)))
    return f"alarm-{entries[0].id}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def compose(
    entries: Sequence[Told], target: str, message: str, settings: NotificationSettings, known: Mapping[str, Facts]
) -> Message:
    """Write the message of one entry, or the digest of several; `known` are facts by alarm."""
    if len(entries) == 1:
        facts = known.get(entries[0].fields.get("alarm", ""), NOTHING)
        return _single(entries[0], target, message, settings, facts)
    return _digest(entries, target, message, settings, known)


def _single(entry: Told, target: str, message: str, settings: NotificationSettings, facts: Facts) -> Message:
    fields, what = entry.fields, _what(entry, settings)
    subject = f"[{settings.site}] {entry.level}: {fields.get('title')} ({what})"
    priority = fields.get("priority")
    rows = {
        "What": what,
        "Level": f"{entry.level}, priority {priority}" if priority else entry.level,
        "Status": fields.get("status"),
        "Value": f"{shown(fields.get('value', ''), facts.unit)} ({fields.get('quality') or 'good'})",
        "Source": _named(facts.point, fields.get("source", "")),
        "Time": local(entry.at_ms, settings),
        "Raised": local(entry.raised_ms, settings) if entry.raised_ms not in {0, entry.at_ms} else "",
        "Alarm": fields.get("alarm"),
        "Definition": _named(facts.definition_name, fields.get("definition", "")),
        **{name.capitalize(): fields.get(name) for name in ("area", "equipment", "user", "comment")},
    }
    lines = [f"{fields.get('title')}", "", *_table(rows)]
    guidance = facts.guidance
    respond_ms = guidance.get("time_to_respond_ms")
    advice = _table(
        {
            **{name.capitalize(): guidance.get(name) for name in ("cause", "consequence", "action")},
            "Respond": f"within {duration(respond_ms)}" if respond_ms else "",
        }
    )
    for part in (advice, [fields["description"]] if fields.get("description") else []):
        lines += ["", *part] if part else []
    url = _address(entry, settings)
    if url:
        lines += ["", url]
    document = {
        "type": f"alarm.{fields.get('event')}",
        "timestamp": _iso(entry.at_ms),
        "data": {"site": settings.site, **_document(entry, facts)} | ({"url": url} if url else {}),
    }
    return Message(message, target, _one_line(subject), "\n".join(lines), document)


def _address(entry: Told, settings: NotificationSettings) -> str:
    """Return where the page shows the alarm; what is no alarm has the page's own address."""
    page, alarm = settings.page_url or "", entry.fields.get("alarm")
    if not page or "#" in page or not alarm or entry.kind in {"notice", "test"}:
        return page
    return f"{page}#alarm={quote(alarm, safe='')}"


def _table(rows: Mapping[str, str | None]) -> list[str]:
    return [f"{name + ':':<13}{text}" for name, text in rows.items() if text]


def _named(name: str, reference: str) -> str:
    return f"{name} ({reference})" if name and name != reference else reference


def shown(value: str, unit: str = "") -> str:
    """Write a value as people do: `61.2346 °C`, a text as itself."""
    try:
        found = orjson.loads(value) if value else None
    except orjson.JSONDecodeError:
        return value
    if found is None:
        return "none"
    text = readable(found) if isinstance(found, int | float) else str(found)
    return f"{text} {unit}" if unit else text


def duration(length_ms: int) -> str:
    """Write a time as people do: `90 s`, `10 min`, `2 h`."""
    for size_ms, name in ((3_600_000, "h"), (60_000, "min")):
        if length_ms >= size_ms and length_ms % size_ms == 0:
            return f"{length_ms // size_ms} {name}"
    return f"{length_ms / 1000:g} s"


def _digest(
    entries: Sequence[Told], target: str, message: str, settings: NotificationSettings, known: Mapping[str, Facts]
) -> Message:
    def about(one: Told) -> dict[str, Any]:
        return _document(one, known.get(one.fields.get("alarm", ""), NOTHING))

    alarms = {one.fields.get("alarm"): one for one in entries}
    levels = Counter(one.level for one in alarms.values())
    events = Counter(_what(one, settings) for one in entries)
    by_level = ", ".join(f"{levels[level]} {level}" for level in LEVELS if levels[level])
    first, last = min(one.at_ms for one in entries), max(one.at_ms for one in entries)
    stand = " stand as the shift begins" if all(one.kind == "standing" for one in entries) else ""
    subject = f"[{settings.site}] {len(alarms)} alarms{stand}: {by_level}"
    ranked = sorted(alarms.values(), key=lambda one: (LEVELS.index(one.level) if one.level in LEVELS else 9, one.at_ms))
    lines = [
        f"{len(alarms)} alarms, {len(entries)} transitions, from {local(first, settings)} to {local(last, settings)}.",
        f"By level: {by_level}.",
        "What happened: " + ", ".join(f"{count} {name}" for name, count in events.most_common()) + ".",
        f"First: {entries[0].fields.get('title')} at {local(entries[0].at_ms, settings)}.",
        "",
        *(
            f"{one.level:<9}{local(one.at_ms, settings)}  {one.fields.get('title')}  "
            f"({_what(one, settings)}, now {one.fields.get('status')}, {one.fields.get('source')})"
            for one in ranked[:LISTED]
        ),
    ]
    if len(ranked) > LISTED:
        lines.append(f"... and {len(ranked) - LISTED} more")
    if settings.page_url:
        lines += ["", settings.page_url]
    document = {
        "type": "alarm.digest",
        "timestamp": _iso(last),
        "data": {
            "site": settings.site,
            "alarms": len(alarms),
            "transitions": len(entries),
            "from_ms": first,
            "to_ms": last,
            "by_level": {level: levels[level] for level in LEVELS if levels[level]},
            "by_event": dict(Counter(one.fields.get("event", "") for one in entries)),
            "first": about(entries[0]),
            "latest": [about(one) for one in ranked[:IN_DOCUMENT]],
        },
    }
    return Message(message, target, _one_line(subject), "\n".join(lines), document)


def _document(entry: Told, facts: Facts) -> dict[str, Any]:
    fields = entry.fields
    value = fields.get("value")
    found: dict[str, Any] = {name: fields[name] for name in fields if fields[name] and name not in {"tags", "value"}}
    for name in ("number", "at_ms", "after_ms", "priority", "raised_at_ms"):
        if name in found:
            found[name] = int(found[name])
    try:
        found["value"] = float(value) if value else None
    except ValueError:
        found["value"] = value
    return found | facts.document() | {"tags": orjson.loads(fields["tags"]) if fields.get("tags") else []}


def _what(entry: Told, settings: NotificationSettings) -> str:
    if entry.kind == "escalation":
        return f"not acknowledged for {int(entry.fields.get('after_ms') or 0) / 1000:g} s"
    if entry.kind == "standing":
        return f"not acknowledged since {local(entry.raised_ms, settings)}, when the shift began"
    if entry.kind == "notice":
        return "notice of a rule"
    event = entry.fields.get("event", "").replace("_", " ")
    if entry.fields.get("told_as") and entry.fields["told_as"] != entry.fields.get("event"):
        return f"{event}, {entry.fields['told_as']} meanwhile at {local(entry.raised_ms, settings)}"
    return event


def local(at_ms: int, settings: NotificationSettings) -> str:
    """Write an instant as people of the site read it."""
    return dt.datetime.fromtimestamp(at_ms / 1000, zone_of(settings.time_zone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def _iso(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
