import pytest

from libs.errors import InvalidError
from services.gateway.selection import Selection


def test_a_star_selects_every_kind_of_a_channel():
    selection = Selection.parse(["comsrv:1001:*", "modsrv:pv1:active_power", "alarms"])
    assert selection.has("comsrv:1001", "T", "7")
    assert selection.has("comsrv:1001", "C", "1")
    assert selection.has("modsrv:pv1", "", "active_power")
    assert not selection.has("modsrv:pv1", "", "temperature")
    assert not selection.has("comsrv:1002", "T", "7")
    assert selection.streams == {"alarms"}


def test_refs_come_back_as_they_are_parsed():
    selection = Selection.parse(["comsrv:1001:T:*", "comsrv:1001:S:2", "modsrv:pv1:*", "rules"])
    assert sorted(selection.refs()) == sorted(["comsrv:1001:T:*", "comsrv:1001:S:2", "modsrv:pv1:*", "rules"])


@pytest.mark.parametrize(
    "ref", ["", "*", "comsrv:*", "comsrv:01:T:1", "comsrv:1001:Q:1", "comsrv:1001:T:01", "modsrv:a b:x", "events"]
)
def test_what_is_no_reference_is_refused_by_name(ref: str):
    with pytest.raises(InvalidError, match="can't be subscribed"):
        Selection.parse([ref])


def test_removing_a_point_leaves_the_others():
    selection = Selection.parse(["comsrv:1001:T:1", "comsrv:1001:T:2", "alarms"])
    selection.remove(Selection.parse(["comsrv:1001:T:1", "alarms"]))
    assert selection.refs() == ["comsrv:1001:T:2"]
    selection.remove(Selection.parse(["comsrv:1001:*"]))
    assert not selection


def test_parts_hold_everything_once():
    refs = [f"comsrv:{ch}:T:*" for ch in range(1, 8)] + [f"modsrv:m{number}:*" for number in range(30)]
    selection = Selection.parse([*refs, "alarms"])
    parts = selection.parts(16, 4)
    assert [len(part.owners) for part in parts] == [4, 3 + 4, 16, 10]
    assert [part.streams for part in parts] == [{"alarms"}, set(), set(), set()]
    assert sorted(ref for part in parts for ref in part.refs()) == sorted(selection.refs())
