"""What a device takes for a request, from round trips alone."""

from __future__ import annotations

import random

import pytest

from services.comsrv.costs import LENGTHS, SAMPLES, CostModel


def test_the_line_is_found_through_noise_and_outliers():
    """A tenth of the answers is ten times as slow, as on a busy gateway."""
    drawn = random.Random(7)
    model = CostModel()
    for _ in range(400):
        length = drawn.choice([2, 10, 60, 125])
        milliseconds = 12 + 0.5 * length + drawn.uniform(0, 1)
        model.add(length, milliseconds * (10 if drawn.random() < 0.1 else 1))
    cost = model.fit()
    assert cost is not None
    assert cost.request == pytest.approx(12.5, abs=0.7)
    assert cost.register == pytest.approx(0.5, abs=0.02)
    document = model.document()
    assert document is not None
    assert 23 <= document["break_even_gap"] <= 27


def test_a_change_of_the_device_is_followed():
    model = CostModel()
    for request in (10, 40):
        for _ in range(SAMPLES):
            for length in (10, 100):
                model.add(length, request + 0.1 * length)
    cost = model.fit()
    assert cost is not None
    assert cost.request == pytest.approx(40)


def test_one_length_says_nothing_about_what_a_register_takes():
    model = CostModel()
    for _ in range(50):
        model.add(100, 20)
        model.add(101, 25)
    assert model.fit() is None


def test_memory_is_bounded():
    model = CostModel()
    for length in range(1000):
        for _ in range(2 * SAMPLES):
            model.add(length, 1)
    assert len(model._round_trips) == LENGTHS
    assert all(len(times) <= SAMPLES for times in model._round_trips.values())
