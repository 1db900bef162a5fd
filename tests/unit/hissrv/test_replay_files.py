"""What is kept of the replay log."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.hissrv.replay import files

HOUR_MS = 3_600_000
BEGAN_MS = 1_790_000_000_000 // HOUR_MS * HOUR_MS


def written(folder: Path, hours: int) -> None:
    """Write so many hours of log, each of 10 bytes, and a checkpoint of 30 at the middle of each."""
    for hour in range(hours):
        at_ms = BEGAN_MS + hour * HOUR_MS
        files.hour_file(folder, at_ms).write_bytes(bytes(10))
        files.checkpoint_file(folder, at_ms + HOUR_MS // 2).write_bytes(bytes(30))


@pytest.mark.parametrize(
    ("days", "most_bytes", "hours"),
    [(1, 10_000, 10), (4 / 24, 10_000, 5), (1, 150, 3), (1, 119, 2), (0, 1, 1)],
    ids=["all", "old", "much", "just too much", "never the newest"],
)
def test_what_is_too_old_or_too_much_goes_with_its_checkpoints(
    tmp_path: Path, days: float, most_bytes: int, hours: int
):
    """The checkpoint before the first kept hour stays: the calls of that hour up to the next one follow it."""
    written(tmp_path, 10)
    gone = files.retain(tmp_path, days, most_bytes)
    assert len(files.logs(tmp_path)) == hours
    assert len(files.checkpoints(tmp_path)) == min(hours + 1, 10)
    assert not any(path.exists() for path in gone)
    assert len(gone) == 20 - hours - min(hours + 1, 10)
