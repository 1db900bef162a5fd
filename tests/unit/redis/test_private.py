"""A Redis of one's own: what it held is there again, and one that can't start says why."""

import os
from pathlib import Path

import pytest

from libs.errors import UnavailableError
from libs.redis.private import started
from libs.redis.resp import Connection, information
from libs.redis.server import find_binary


def test_what_it_held_is_there_when_it_is_started_again(tmp_path: Path):
    with started("the first", find_binary(), tmp_path, "--appendonly", "yes") as running:
        with Connection(running.url) as connection:
            connection.call("SET", "a", 1)
        running.stop()
    with started("the second", find_binary(), tmp_path, "--appendonly", "yes") as running:
        with Connection(running.url) as connection:
            assert connection.call("GET", "a") == b"1"
        place = Path(running.url.removeprefix("unix://")).parent
    assert not place.exists()


def test_nobody_is_left_when_it_was_not_stopped(tmp_path: Path):
    with started("the server", find_binary(), tmp_path) as running, Connection(running.url) as connection:
        process = int(information(connection, "server")["process_id"])
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_folder_it_cannot_read_is_told_with_the_end_of_its_log(tmp_path: Path):
    (tmp_path / "dump.rdb").write_bytes(b"REDIS9999 of tomorrow")
    said = r"(?s)the server does not start:\n.*RDB.*version"
    with pytest.raises(UnavailableError, match=said), started("the server", find_binary(), tmp_path):
        pass
