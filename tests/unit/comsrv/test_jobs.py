"""What is said of a command."""

from __future__ import annotations

import pytest

from services.comsrv.contract import Value
from services.comsrv.jobs import unlike


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        (5.0, 7.0, "read back 5 instead of 7"),
        (4.332, 4.332001, "read back 4.332 instead of 4.332001"),
        ("Grid 7", "new", 'read back "Grid 7" instead of "new"'),
    ],
)
def test_what_was_read_back_can_be_told_from_what_was_wanted(found: Value, wanted: Value, said: str) -> None:
    assert unlike(found, wanted) == said
