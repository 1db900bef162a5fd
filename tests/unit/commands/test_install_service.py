"""systemd units: what is in them, and that systemd accepts them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from libs.config import load
from libs.services import SERVICES
from services.cli import voltage
from services.commands.settings_models import settings_model

Write = Callable[..., dict[str, str]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path / "the data"))
    monkeypatch.setenv("VOLTAGE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("VOLTAGE_PORT_BASE", "7000")

    def run(*options: str) -> dict[str, str]:
        answer = invoke("--directory", str(tmp_path / "units"), *options)
        assert answer.exit_code == 0, answer.output
        return {file.name: file.read_text() for file in (tmp_path / "units").iterdir()}

    return run


def invoke(*options: str) -> Result:
    return CliRunner().invoke(voltage, ["install-service", *options])


def test_every_service_has_a_unit_and_the_target_wants_it(write: Write):
    files = write()
    for name in ("redis", "functions", *(service.name for service in SERVICES)):
        assert f"voltage-{name}.service" in files["voltage.target"]
        assert "PartOf=voltage.target" in files[f"voltage-{name}.service"]
    for service in SERVICES:
        text = files[f"voltage-{service.name}.service"]
        assert f"services.cli serve {service.name}\n" in text
        assert "After=voltage-redis.service voltage-functions.service" in text
        assert "VOLTAGE_PORT_BASE=7000" in text
        assert "WatchdogSec=30" in text


def test_units_of_the_system_are_hardened(write: Write):
    for name, text in write("--account", "ems").items():
        if name.endswith(".service"):
            for line in (
                "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "User=ems", "UMask=0077",
                "CapabilityBoundingSet=\n", "MemoryMax=", "StandardOutput=journal", "StartLimitBurst=",
            ):  # fmt: skip
                assert line in text, f"{name} lacks {line}"
            assert ("PrivateDevices=yes" in text) is ("comsrv" not in name)
            assert text.count("ReadWritePaths=") == 1


def test_no_secret_stands_in_a_unit(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VOLTAGE_REDIS_URL", "redis://default:hunter2@127.0.0.1:6379")
    files = write()
    assert "voltage-redis.service" not in files
    for text in files.values():
        assert "hunter2" not in text
        assert "voltage-redis" not in text
    assert "EnvironmentFile=-" in files["voltage-comsrv.service"]


def test_the_gateway_believes_nginx_where_there_is_one(write: Write, tmp_path: Path):
    assert not any("TRUSTED" in text for text in write().values())
    for options, unit in (((), "gateway"), (("--single-process",), "services")):
        files = write("--nginx", str(tmp_path / "nginx.conf"), *options)
        line = next(line for line in files[f"voltage-{unit}.service"].splitlines() if "TRUSTED" in line)
        (text,) = shlex.split(line.removeprefix("Environment="))
        settings = load(settings_model("gateway"), "gateway", dict([text.split("=", 1)])).settings
        assert getattr(settings, "trusted_proxies", None) == ("127.0.0.1",)


def test_one_process_for_small_machines_and_a_prefix_for_a_second_site(write: Write):
    files = write("--single-process", "--prefix", "plant7")
    assert set(files) == {"plant7.target", *(f"plant7-{name}.service" for name in ("redis", "functions", "services"))}
    names = " ".join(service.name for service in SERVICES)
    assert f"serve {names}\n" in files["plant7-services.service"]


@pytest.mark.parametrize("options", [(), ("--user",), ("--single-process",)])
def test_systemd_accepts_the_units(write: Write, tmp_path: Path, options: tuple[str, ...]):
    config = tmp_path / "config"
    config.mkdir()
    (config / "simulate.yaml").touch()
    conf = tmp_path / "nginx.conf"
    write("--nginx", str(conf), *options)
    program = shutil.which("systemd-analyze")
    if program is None:
        # Not on every machine that tests; the texts above are checked everywhere.
        return
    files = sorted(map(str, (tmp_path / "units").iterdir()))
    done = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_without_a_directory_they_are_only_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path / "data"))
    answer = invoke()
    assert "# ----- voltage-comsrv.service" in answer.output
    assert not (tmp_path / "data").exists()


def test_a_wrong_prefix_or_size_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("VOLTAGE_DATA_DIR", str(tmp_path))
    assert "letters, digits" in str(invoke("--prefix", "a b").exception)
    monkeypatch.setenv("VOLTAGE_REDIS_MAXMEMORY", "much")
    assert "much" in str(invoke().exception)
