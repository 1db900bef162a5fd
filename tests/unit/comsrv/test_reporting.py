"""Report by exception: which change is worth sending, at which level that is said, and the heartbeat."""

from __future__ import annotations

from typing import Any

import numpy as np

from libs.points import PointKind
from services.comsrv.blockimage import BlockImage, Failure, Update
from services.comsrv.channel import Channel
from services.comsrv.contract import GOOD, Block, Reading, Section
from services.comsrv.reporting import Report, Reports


def channel(reporting: dict[str, Any], **points: dict[str, Any]) -> Channel:
    """Return a channel with telemetry points named by their options."""
    rows = [
        {"id": index + 1, "name": name, "data_type": "float64", **options}
        for index, (name, options) in enumerate(points.items())
    ]
    return Channel.model_validate(
        {"id": 1, "name": "c", "protocol": "virtual", "reporting": reporting, "points": {"T": rows}}
    )


def block_of(own: Channel) -> Block:
    ids = tuple(str(point.id) for point in own.points.T)
    return Block("b", "1", (Section(PointKind.TELEMETRY, 0, len(ids), ids),), np.zeros(len(ids)))


def test_the_nearest_level_wins_for_the_deadband_and_for_the_heartbeat():
    own = channel(
        {
            "deadband": 5,
            "heartbeat_s": 60,
            "groups": {"power": {"deadband_percent": 2}, "slow": {"heartbeat_s": 600}},
        },
        plain={},
        grouped={"group": "power", "min": 0, "max": 500},
        no_span={"group": "power"},
        slow={"group": "slow"},
        own={"group": "power", "deadband": 0, "heartbeat_s": 0},
        state={"value_map": {"0": "Off", "1": "On"}},
        text={"data_type": "string"},
    )
    report = Reports(own).of(block_of(own))
    assert report is not None
    assert report.thresholds.tolist() == [5, 10, 0, 5, 0, 0, 0]
    assert report.heartbeats_ms is not None
    assert report.heartbeats_ms.tolist() == [60_000, 60_000, 60_000, 600_000, 0, 60_000, 60_000]


def test_a_channel_that_says_nothing_costs_nothing():
    own = channel({}, plain={}, state={"value_map": {"0": "Off"}})
    assert Reports(own).of(block_of(own)) is None


def send(image: BlockImage, at_s: float, *values: float) -> Update:
    """Compare a reading and take it for sent."""
    at_ms = round(at_s * 1000)
    update = image.compare(Reading(at_ms, np.array(values), np.full(len(values), GOOD, np.uint8)))
    image.keep(update, at_ms)
    return update


def test_an_unchanged_value_is_sent_again_before_its_heartbeat_is_over():
    """Point 1 every 3 s at the latest, point 2 never; each poll is one second."""
    section = Section(PointKind.TELEMETRY, 0, 2, ("1", "2"))
    block = Block("b", "1", (section,), np.zeros(2))
    image = BlockImage(block, Report(np.zeros(2), np.array([3000, 0])))
    send(image, 0, 5.0, 7.0)
    assert [send(image, at, 5.0, 7.0).empty for at in (1, 2)] == [True, True]
    update = send(image, 3, 5.0, 7.0)
    assert update.sections == [{"type": "T", "ids": ["1"], "values": ["5.000000"], "again": True}]
    assert (update.counters.polled, update.counters.unchanged) == (2, 1)
    assert send(image, 4, 5.0, 7.0).empty
    assert send(image, 5, 6.0, 7.0).sections == [{"type": "T", "ids": ["1"], "values": ["6.000000"]}]
    assert [send(image, at, 6.0, 7.0).empty for at in (6, 7, 8)] == [True, True, False]


def test_a_heartbeat_brings_what_the_deadband_held_back():
    section = Section(PointKind.TELEMETRY, 0, 1, ("1",))
    image = BlockImage(Block("b", "1", (section,), np.zeros(1)), Report(np.array([10.0]), np.array([2000])))
    send(image, 0, 100.0)
    assert send(image, 1, 104.0).empty
    assert send(image, 2, 104.0).sections == [{"type": "T", "ids": ["1"], "values": ["104.000000"]}]
    assert send(image, 3, 95.0).empty


def test_texts_are_compared_and_sent_apart():
    sections = (Section(PointKind.TELEMETRY, 0, 1, ("1",)), Section(PointKind.TELEMETRY, 1, 3, ("7", "8"), text=True))
    image = BlockImage(Block("b", "1", sections, np.zeros(3)))

    def read(*texts: str) -> Update:
        update = image.compare(Reading(1, np.array([5.0, 0, 0]), np.zeros(3, np.uint8), texts))
        image.keep(update, 1)
        return update

    first = read("a", 'b"')
    assert first.sections[1] == {"type": "X", "ids": ["7", "8"], "values": ["a", 'b"'], "quality": {}}
    assert first.texts[1] == '"points":{"7":"a","8":"b\\""},"quality":{}'
    assert read("a", 'b"').empty
    assert read("a", "c").sections == [{"type": "X", "ids": ["8"], "values": ["c"], "quality": {}}]
    assert image.failed(Failure(2, "bad:timeout"))["sections"] == [
        {"type": "T", "ids": ["1"]},
        {"type": "X", "ids": ["7", "8"]},
    ]
