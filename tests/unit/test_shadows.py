"""How a shadow compares with the active one: worked by hand."""

from __future__ import annotations

from libs.shadows import Entry, compare

BEGAN = Entry(1000, "shadow", "began", active=False, shadow=False)


def turn(at_ms: int, who: str, event: str, active: int, shadow: int) -> Entry:
    return Entry(at_ms, who, event, bool(active), bool(shadow), "2", [who])  # type: ignore[arg-type]


LOG = [
    BEGAN,
    turn(2000, "shadow", "on", 0, 1),
    turn(3000, "active", "on", 1, 1),
    turn(5000, "active", "off", 0, 1),
    turn(5000, "shadow", "off", 0, 0),
    turn(8000, "active", "on", 1, 0),
]


def test_the_times_they_differ_are_named_with_who_began_them() -> None:
    found = compare(LOG, 0, 11_000)
    assert (found.start_ms, found.end_ms) == (1000, 11_000)
    assert [(one.only, one.from_ms, one.to_ms, one.began_by) for one in found.differences] == [
        ("shadow", 2000, 3000, "shadow"),
        ("active", 8000, None, "active"),
    ]
    assert (found.same_ms, found.differ_ms, found.same_percent) == (6000, 4000, 60.0)
    assert found.active.model_dump() == {"fired": 2, "on_ms": 5000, "on": True}
    assert found.shadow.model_dump() == {"fired": 1, "on_ms": 3000, "on": False}
    assert found.versions == [2]


def test_a_part_of_the_time_begins_with_how_both_stood() -> None:
    found = compare(LOG, 2500, 4000)
    assert [(one.only, one.from_ms, one.to_ms) for one in found.differences] == [("shadow", 2500, 3000)]
    assert (found.active.fired, found.shadow.fired, found.shadow.on_ms) == (1, 0, 1500)


def test_nothing_noted_is_no_difference() -> None:
    assert compare([], 0, 5000).same_percent == 100.0
    assert compare([BEGAN], 0, 500).same_ms == 0


def test_firings_that_differ_are_told_with_what_they_came_to() -> None:
    done, other = ({"type": "command", "would": f"command to {value}"} for value in (5, 6))
    withheld = {"type": "command", "problem": "withheld"}
    log = [BEGAN]
    for at_ms, active, shadow in ((2000, done, done), (3000, done, other), (4000, None, withheld)):
        for who, action in (("active", active), ("shadow", shadow)):
            on = turn(at_ms, who, "on", who == "active", who == "shadow")
            log += [on._replace(would=[action]), turn(at_ms, who, "off", 0, 0)] if action else []
    found = compare(log, 0, 5000)
    assert (found.same_ms, found.differences) == (4000, []), "a rule that watches for changes is on for no time"
    assert [(one.at_ms, one.active, one.shadow) for one in found.apart] == [
        (3000, [done], [other]),
        (4000, None, [withheld]),
    ]
    assert found.actions == {"command": {"done": 2, "withheld": 1}}
