"""What Redis forgot in a crash is what came after the last call it knows."""

from __future__ import annotations

from services.comsrv.reckoning import Reckoning, Survived


def taken() -> Reckoning:
    reckoning = Reckoning()
    reckoning.ingested(1, 10)
    reckoning.renewed({"b": 500, "c": 400}, 3)
    reckoning.ingested(2, 20)
    reckoning.renewed({"b": 900}, 5)
    return reckoning


def test_a_redis_that_kept_all_has_lost_nothing() -> None:
    assert taken().lost(7, Survived(7, 2, {"b": 900, "c": 400})) == 0


def test_the_calls_after_the_last_one_it_knows_are_lost_once() -> None:
    reckoning = taken()
    assert reckoning.lost(7, Survived(7, 1, {"b": 500, "c": 400})) == 25
    assert reckoning.lost(7, Survived(7, 1, {"b": 500, "c": 400})) == 0


def test_a_redis_from_before_the_lease_has_lost_all_of_it() -> None:
    assert taken().lost(7, Survived(6, 2, {"b": 900})) == 38


def test_of_a_channel_that_another_took_nobody_can_tell() -> None:
    assert taken().lost(7, Survived(8, 0, {})) == 0
