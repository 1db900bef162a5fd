"""A service under systemd gives signs of life, and a hanging one gives none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services.commands.watchdog import asked
from tests.support.processes import Site


def drain(systemd: socket.socket) -> None:
    """Receive until nothing comes for as long as the socket waits; that raises TimeoutError."""
    while True:
        systemd.recv(100)


def test_a_service_tells_systemd_that_it_lives(tmp_path: Path):
    site = Site(tmp_path / "site")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        environ = site.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        # Without a Redis it waits, and lives.
        command = [sys.executable, "-m", "services.cli", "serve", "modsrv"]
        with subprocess.Popen(command, env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL) as service:
            try:
                systemd.settimeout(20)
                assert [systemd.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
                os.kill(service.pid, signal.SIGSTOP)
                systemd.settimeout(0.6)
                with pytest.raises(TimeoutError):
                    drain(systemd)
                os.kill(service.pid, signal.SIGCONT)
                systemd.settimeout(20)
                assert systemd.recv(100) == b"WATCHDOG=1"
            finally:
                service.send_signal(signal.SIGCONT)
                service.terminate()
        assert service.returncode == 0


def test_nothing_is_sent_where_systemd_did_not_ask():
    assert asked({}) is None
    assert asked({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}) is None
    assert asked({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}) is None
    abstract = asked({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000"})
    assert abstract is not None
    assert abstract == ("\0x", 1.0)
