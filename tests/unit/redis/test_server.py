"""Which Redis is taken, how ours is kept private, and what a foreign one must offer."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from libs.config.settings import Shared
from libs.errors import ConfigurationError, UnavailableError
from libs.redis import server
from libs.redis.resp import Connection, ReplyError
from libs.site import Site
from services.commands.redis import readable
from tests.support.processes import free_port_base
from tests.support.servers import RedisServer, free_port, redis_binary, valkey_binary


def site(folder: Path, port_base: int | None = None) -> Site:
    return Site(Shared(data_dir=folder, port_base=port_base or free_port_base()))


def test_a_server_on_path_is_taken_before_the_wheel():
    found = server.find_binary()
    assert found.path == redis_binary()
    assert "on PATH" in found.reason


def test_without_one_on_path_the_wheel_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = server.find_binary()
    assert found.path == valkey_binary()
    assert found.version.startswith("9.1")


def test_an_old_server_on_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.6 sha=00000000:0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert server.find_binary().path == valkey_binary()
    with pytest.raises(ConfigurationError, match=r"is 6\.2\.6; 7 is needed"):
        server.find_binary(old)


def test_a_server_that_was_named_and_is_none_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="VOLTAGE_REDIS_SERVER"):
        server.find_binary(tmp_path / "nothing")


def test_our_password_is_kept_and_readable_by_the_owner_only(tmp_path: Path):
    here = site(tmp_path)
    file = server.configure(here)
    url = here.redis_url()
    assert "requirepass" in file.read_text()
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert oct((here.redis_dir / "password").stat().st_mode & 0o777) == "0o600"
    server.configure(here)
    assert here.redis_url() == url


def test_a_taken_port_names_the_remedies(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port} .* VOLTAGE_PORT_BASE.* VOLTAGE_REDIS_URL"):
            server.configure(site(tmp_path, port - 379))


def test_a_usable_redis_is_named_with_its_version(redis_server: RedisServer):
    name = "valkey 9.1" if "valkey-server" in redis_server.command[0] else "redis 7.0.15"
    assert _probe(redis_server.url).startswith(name)


def test_nobody_there_is_unavailable():
    with pytest.raises(UnavailableError, match="is away: Connection refused"):
        _probe(f"redis://127.0.0.1:{free_port()}")


def test_an_unknown_user_is_a_configuration_error(redis_server: RedisServer):
    with pytest.raises(ConfigurationError, match="Redis refuses what we need"):
        _probe(redis_server.url.replace("unix://", "unix://nobody:wrong@"))


def test_replies_come_as_the_server_sent_them(redis_server: RedisServer):
    with Connection(redis_server.url) as connection:
        connection.call("FLUSHALL")
        assert connection.call("HSET", "h", "a", "1.5", "b", "2") == 2
        assert connection.call("HGETALL", "h") == [b"a", b"1.5", b"b", b"2"]
        assert connection.call("GET", "nothing") is None
        big = b"x" * 1_000_000
        connection.call("SET", "big", big)
        assert connection.call("GET", "big") == big
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            connection.call("GET", "h")


def test_replies_read_as_in_redis_cli():
    assert readable([b"a", b"1.5", b"long", b"2"], pairs=True) == "a     1.5\nlong  2"
    assert readable([b"x", [1, None], []]) == "1) x\n2) 1) (integer) 1\n   2) (nil)\n3) (empty)"


_probe = server.probe
