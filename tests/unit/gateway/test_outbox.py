"""A slow client gets the newest of each thing; nothing grows while it does not read."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.messages import parse_update
from services.gateway.outbox import MAX_EVENTS, Outbox, Update
from services.gateway.selection import Selection


def subscribed(*refs: str) -> Outbox:
    outbox = Outbox()
    outbox.begin(Selection.parse(refs))
    return outbox


def test_the_newest_value_replaces_the_unsent_one():
    outbox = subscribed("comsrv:1001:T:*")
    for seq in range(1, 10_001):
        outbox.put(Update("comsrv:1001", "T", seq, {"1": (float(seq), "good", seq)}))
    assert outbox.take() == {"seq": 10_000, "points": {"comsrv:1001:T:1": (10_000.0, "good", 10_000)}}
    assert outbox.take() == {}


def test_a_change_of_quality_alone_keeps_the_unsent_value():
    outbox = subscribed("comsrv:1001:T:*")
    outbox.put(parse_update("comsrv:1001", b'{"type":"T","at_ms":5,"seq":1,"points":{"1":2.5},"quality":{}}'))
    outbox.put(parse_update("comsrv:1001", b'{"type":"T","at_ms":6,"seq":2,"points":{},"quality":{"1":"bad:timeout"}}'))
    assert outbox.take()["points"] == {"comsrv:1001:T:1": (2.5, "bad:timeout", 6)}


def test_a_client_gets_only_what_it_subscribed_to():
    outbox = subscribed("comsrv:1001:T:2", "modsrv:pv1:*")
    outbox.put(Update("comsrv:1001", "T", 1, {"1": (1.0, "good", 1), "2": (2.0, "good", 1)}))
    outbox.put(Update("comsrv:1001", "S", 2, {"2": (1.0, "good", 1)}))
    outbox.put(Update("modsrv:pv1", "", 3, {"active_power": (7.0, "good", 1)}))
    outbox.put_event("alarms", "a", {"id": "a"})
    assert outbox.take() == {
        "seq": 3,
        "points": {"comsrv:1001:T:2": (2.0, "good", 1), "modsrv:pv1:active_power": (7.0, "good", 1)},
    }


def test_what_came_before_a_snapshot_is_not_sent_after_it():
    outbox = subscribed("comsrv:1001:T:*", "comsrv:1002:T:*", "alarms")
    outbox.put(Update("comsrv:1001", "T", 1, {"1": (1.0, "good", 1)}))
    outbox.put(Update("comsrv:1002", "T", 2, {"1": (2.0, "good", 1)}))
    outbox.put_event("alarms", "a", {"id": "a", "status": "New"})
    outbox.begin(Selection.parse(["comsrv:1001:T:*", "alarms"]))
    assert outbox.take() == {"seq": 2, "points": {"comsrv:1002:T:1": (2.0, "good", 1)}}


def test_an_alarm_that_changes_twice_is_sent_once_as_it_is_now():
    outbox = subscribed("alarms")
    outbox.put_event("alarms", "a", {"id": "a", "status": "New"})
    outbox.put_event("alarms", "a", {"id": "a", "status": "Acknowledged"})
    assert outbox.take() == {"alarms": [{"id": "a", "status": "Acknowledged"}]}


def test_a_flood_of_events_is_cut_and_said():
    outbox = subscribed("alarms", "rules")
    for number in range(MAX_EVENTS + 50):
        outbox.put_event("alarms", str(number), {"id": str(number)})
    assert outbox.take_lost() == {"alarms"}
    assert outbox.take() == {}
    assert outbox.take_lost() == set()


@given(st.lists(st.tuples(st.sampled_from("123"), st.one_of(st.none(), st.integers(0, 9)), st.booleans())))
def test_conflated_deltas_end_where_every_single_one_would(changes: list[tuple[str, int | None, bool]]):
    conflated, single = subscribed("comsrv:1:T:*"), subscribed("comsrv:1:T:*")
    seen: dict[str, tuple[object, str]] = {}

    def apply(into: dict[str, tuple[object, str]], taken: dict[str, dict[str, tuple[object, str, int]]]) -> None:
        for ref, (value, quality, _) in taken.get("points", {}).items():
            into[ref] = (into.get(ref, (None, ""))[0] if value is None else value, quality)

    for seq, (point, value, good) in enumerate(changes):
        update = Update("comsrv:1", "T", seq, {point: (value, "good" if good else "bad:x", seq)})
        conflated.put(update)
        single.put(update)
        apply(seen, single.take())
    slow: dict[str, tuple[object, str]] = {}
    apply(slow, conflated.take())
    assert slow == seen
