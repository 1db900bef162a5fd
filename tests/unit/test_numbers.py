"""Numbers as text: six decimals, nothing that is no number."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.numbers import EXACT_LIMIT, format_value, format_values, readable

storable = st.floats(-EXACT_LIMIT, EXACT_LIMIT, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (23.456789, "23.456789"),
        (-0.0, "0.000000"),
        (-0.0000001, "0.000000"),
        (1, "1.000000"),
        (2**53, "9007199254740992.000000"),
        (-(2**53), "-9007199254740992.000000"),
        (1e15, "1000000000000000.000000"),
    ],
)
def test_how_a_value_is_written(value: float, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**53 + 1, -(2**53) - 1, 1e300])
def test_what_is_never_stored(value: float) -> None:
    with pytest.raises(ValueError, match=r"finite|beyond 2\^53"):
        format_value(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(230.1000061, "230.1"), (5.0, "5"), (12_345_678.0, "12345678"), (-4_294_967_295.5, "-4294967295.5"), (0.0, "0")],
)
def test_people_read_no_exponent_where_digits_count(value: float, text: str) -> None:
    assert readable(value) == text


@given(st.lists(storable, max_size=20))
def test_many_are_written_as_one_by_one(values: list[float]) -> None:
    assert format_values(values) == [format_value(value) for value in values]


@given(storable)
def test_the_text_is_what_the_functions_take_and_reads_back(value: float) -> None:
    text = format_value(value)
    assert re.fullmatch(r"-?\d+\.\d{6}", text)
    assert text != "-0.000000"
    assert math.isclose(float(text), value, rel_tol=1e-15, abs_tol=5.1e-7)
