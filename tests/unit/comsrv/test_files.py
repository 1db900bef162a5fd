"""What comsrv keeps on disk: the ids it sent, and who it is."""

from pathlib import Path

import pytest

from libs.clock import now_ms
from services.comsrv.backoff import Backoff
from services.comsrv.identity import Identity
from services.comsrv.ledger import balance
from services.comsrv.sentfile import KEPT_MS, SentFile


async def test_sent_ids_survive_a_restart(tmp_path: Path):
    sent = SentFile(tmp_path / "0.sent")
    await sent.add("a")
    assert "a" in sent
    # No close: as after kill -9.
    again = SentFile(tmp_path / "0.sent")
    assert "a" in again
    assert "b" not in again
    again.close()
    sent.close()


async def test_a_half_written_line_and_old_ids_are_left_out(tmp_path: Path):
    path = tmp_path / "0.sent"
    path.write_text(f"{now_ms() - KEPT_MS - 1} old\n{now_ms()} new\n17000")
    sent = SentFile(path)
    assert ("old" in sent, "new" in sent) == (False, True)
    await sent.add("next")
    assert [line.split()[1] for line in path.read_text().rstrip("\0").splitlines()] == ["new", "next"]
    sent.close()


def test_an_owner_is_the_same_after_a_restart_and_another_beside_it(tmp_path: Path):
    first = Identity(tmp_path)
    second = Identity(tmp_path)
    assert first.owner != second.owner
    assert first.sent_path != second.sent_path
    owner = first.owner
    first.close()
    third = Identity(tmp_path)
    assert third.owner == owner
    second.close()
    third.close()


def test_pauses_grow_to_the_longest_with_jitter():
    backoff = Backoff(100, 1000)
    pauses = [backoff.next_ms() for _ in range(40)]
    assert 50 <= pauses[0] <= 100
    assert all(500 <= pause <= 1000 for pause in pauses[4:])
    assert len(set(pauses[4:])) > 5
    backoff.reset()
    assert backoff.next_ms() <= 100


@pytest.mark.parametrize(
    ("counters", "pending", "balanced"),
    [
        ({"polled": 10, "stored": 4, "unchanged": 5, "rejected:nan": 1}, 0, True),
        ({"polled": 10, "stored": 4, "unchanged": 5}, 0, False),
        ({"queued": 5, "written": 2, "dropped:queue_full": 1}, 2, True),
        ({"queued": 5, "written": 2, "dead_lettered": 1}, 1, False),
        ({"dropped:journal_full": 7}, 0, True),
        ({}, 0, True),
    ],
)
def test_the_ledger_says_whether_it_balances(counters: dict[str, int], pending: int, balanced: bool):
    assert balance(counters, pending)["balanced"] is balanced
