import pytest

from libs.errors import LimitError
from services.gateway.ratelimit import MAX_KEYS, RateLimit


def test_a_burst_then_one_an_interval():
    now = [0.0]
    limit = RateLimit(10, 3, clock=lambda: now[0])
    for _ in range(3):
        limit.take("a")
    with pytest.raises(LimitError, match="wait 10 s"):
        limit.take("a")
    limit.take("b")
    now[0] = 10
    limit.take("a")
    with pytest.raises(LimitError):
        limit.take("a")
    limit.forgive("a")
    limit.take("a")


def test_it_remembers_a_bounded_number_of_callers():
    limit = RateLimit(10, 1)
    for number in range(MAX_KEYS + 100):
        limit.take(str(number))
    assert len(limit._full_at) == MAX_KEYS
