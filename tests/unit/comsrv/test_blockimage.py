"""What is sent for a reading, and how its samples are counted."""

import numpy as np

from libs.points import PointKind
from services.comsrv.blockimage import BlockImage, Failure, Update
from services.comsrv.contract import ABSENT, GOOD, NAN, Block, Reading, Section, quality_code


def block(thresholds: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Block:
    """T:1, T:2 and S:1."""
    sections = (Section(PointKind.TELEMETRY, 0, 2, ("1", "2")), Section(PointKind.SIGNAL, 2, 3, ("1",)))
    return Block("b", "1", sections, np.array(thresholds))


def send(image: BlockImage, values: list[float], quality: list[int] | None = None, at_ms: int = 1) -> Update:
    """Compare a reading and take it for sent."""
    update = image.compare(Reading(at_ms, np.array(values), np.array(quality or [GOOD] * 3, np.uint8)))
    image.keep(update, at_ms)
    return update


def test_the_first_reading_goes_whole_and_then_only_what_changed():
    image = BlockImage(block())
    first = send(image, [1.5, -0.0, 1.0])
    assert first.sections == [
        {"type": "T", "ids": ["1", "2"], "values": ["1.500000", "0.000000"]},
        {"type": "S", "ids": ["1"], "values": ["1.000000"]},
    ]
    assert first.texts == [
        '"points":{"1":1.500000,"2":0.000000},"quality":{}',
        '"points":{"1":1.000000},"quality":{}',
    ]
    second = send(image, [1.5, 3.0, 1.0], at_ms=2)
    assert second.sections == [{"type": "T", "ids": ["2"], "values": ["3.000000"]}]
    assert second.previous_at_ms == 1
    assert (second.counters.polled, second.counters.unchanged) == (3, 2)
    assert send(image, [1.5, 3.0, 1.0]).empty


def test_a_bad_sample_is_news_once_and_then_rejected():
    image = BlockImage(block())
    send(image, [1.0, 2.0, 0.0])
    bad = send(image, [0.0, 2.0, 0.0], [NAN, GOOD, GOOD])
    assert bad.sections == [{"type": "T", "ids": [], "values": [], "quality": {"1": "bad:nan"}}]
    assert bad.texts == ['"points":{},"quality":{"1":"bad:nan"}']
    again = send(image, [0.0, 2.0, 0.0], [NAN, GOOD, GOOD])
    assert again.empty
    assert (again.counters.polled, again.counters.unchanged, again.counters.rejected) == (3, 2, {"nan": 1})
    # The old value comes back: it is good again, so it is sent, though it is the value of before.
    assert send(image, [1.0, 2.0, 0.0]).sections == [{"type": "T", "ids": ["1"], "values": ["1.000000"]}]


def test_an_uncertain_sample_has_value_and_quality():
    image = BlockImage(block())
    update = send(image, [1.0, 2.0, 0.0], [quality_code("uncertain:estimated"), GOOD, ABSENT])
    assert update.sections == [
        {"type": "T", "ids": ["1", "2"], "values": ["1.000000", "2.000000"], "quality": {"1": "uncertain:estimated"}}
    ]
    assert update.counters.polled == 2


def test_a_deadband_is_counted_from_the_value_that_was_sent():
    """A slow drift must come through: each step is small, their sum is not."""
    image = BlockImage(block((1.0, 0.0, 0.0)))
    sent = [bool(send(image, [value, 0.0, 0.0]).sections) for value in (10.0, 10.4, 10.8, 11.2, 11.6)]
    assert sent == [True, False, False, True, False]


def test_after_a_failure_everything_goes_again():
    image = BlockImage(block())
    send(image, [1.0, 2.0, 0.0])
    failure = Failure(5, "bad:timeout")
    assert image.failure_is_news(failure)
    image.keep_failure(failure)
    assert not image.failure_is_news(Failure(6, "bad:timeout"))
    assert image.failure_is_news(Failure(6, "bad:not_connected"))
    assert len(send(image, [1.0, 2.0, 0.0]).sections) == 2


def test_what_is_forgotten_during_a_call_stays_forgotten():
    """Redis was away while the call was under way: it may have lost more than this block."""
    image = BlockImage(block())
    send(image, [1.0, 2.0, 0.0])
    update = image.compare(Reading(2, np.array([5.0, 2.0, 0.0]), np.zeros(3, np.uint8)))
    image.forget()
    image.keep(update, 2)
    assert len(send(image, [5.0, 2.0, 0.0]).sections) == 2
