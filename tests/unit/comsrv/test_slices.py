"""A block with more points than one call to Redis takes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.points import PointKind
from services.comsrv.contract import Block, Reading, Section
from services.comsrv.units import sliced


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10), st.integers(1, 12))
def test_slices_hold_every_point_once_with_its_own_value(numbers: int, signals: int, texts: int, most: int):
    size = numbers + signals + texts
    parts = [
        (PointKind.TELEMETRY, numbers, False),
        (PointKind.SIGNAL, signals, False),
        (PointKind.TELEMETRY, texts, True),
    ]
    sections, start = [], 0
    for index, (kind, count, text) in enumerate(parts):
        if count:
            ids = tuple(f"{index}.{number}" for number in range(count))
            sections.append(Section(kind, start, start + count, ids, text))
            start += count
    block = Block("b", "1", tuple(sections), np.arange(size, dtype=np.float64))
    reading = Reading(7, np.arange(size, dtype=np.float64), np.zeros(size, np.uint8), tuple(map(str, range(texts))))
    names, seen = [], []
    for one in sliced(block, most):
        taken = one.of(reading)
        assert one.block.size == taken.values.size <= most or size == 0
        assert one.block.thresholds.tolist() == taken.values.tolist()
        names.append(one.block.name)
        for section in one.block.sections:
            values = taken.values[section.start : section.stop].tolist()
            shown = taken.texts if section.text else [None] * len(values)
            seen += [(point, value, text) for point, value, text in zip(section.ids, values, shown, strict=True)]
    ids = [point for section in sections for point in section.ids]
    expected = [*[None] * (numbers + signals), *map(str, range(texts))]
    assert seen == [(point, float(place), expected[place]) for place, point in enumerate(ids)]
    assert len(set(names)) == len(names)
