"""Settings: where each value comes from, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from libs.config import Loaded, Settings, load
from libs.config.load import MASK
from libs.errors import ConfigurationError
from libs.validation import Model


class Polling(Model):
    """Settings of one service."""

    interval_ms: int = 1000
    groups: tuple[str, ...] = ()


class ComSettings(Settings):
    """A service's settings."""

    polling: Polling = Polling()
    passphrase: SecretStr | None = None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def read(folder: Path, text: str = "", **environ: str) -> Loaded[ComSettings]:
    """Load with this file and environment."""
    (folder / "comsrv.yaml").write_text(text)
    return load(ComSettings, "comsrv", {"VOLTAGE_CONFIG_DIR": str(folder), **environ})


def problems(folder: Path, text: str = "", **environ: str) -> list[str]:
    """Return what loading complains about."""
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text, **environ)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_everything_has_a_default(folder: Path) -> None:
    """Every file is optional."""
    loaded = load(ComSettings, "comsrv", {"VOLTAGE_CONFIG_DIR": str(folder)})
    assert loaded.settings.port("comsrv") == 6000
    assert loaded.settings.redis_url == "redis://127.0.0.1:6379"
    assert loaded.sources["port_base"] == "default"


def test_the_order_is_default_yaml_voltage_service(folder: Path) -> None:
    """Each later source wins, and is named."""
    yaml = "namespace: from_file\nlog:\n  level: debug\nport_base: 7000\n"
    loaded = read(folder, yaml, VOLTAGE_NAMESPACE="shared", VOLTAGE_PORT_BASE="7100", COMSRV_PORT_BASE="7200")
    settings, sources = loaded.settings, loaded.sources
    assert (settings.log.level, sources["log.level"]) == ("debug", f"{folder}/comsrv.yaml:3")
    assert (settings.namespace, sources["namespace"]) == ("shared", "VOLTAGE_NAMESPACE")
    assert (settings.port_base, sources["port_base"]) == (7200, "COMSRV_PORT_BASE")


def test_names_with_underscores_are_matched_against_the_model(folder: Path) -> None:
    """Nothing is split at underscores; a list is JSON."""
    loaded = read(folder, COMSRV_POLLING_INTERVAL_MS="250", COMSRV_POLLING_GROUPS='["a"]', VOLTAGE_DATA_DIR="/d")
    assert loaded.settings.polling == Polling(interval_ms=250, groups=("a",))
    assert loaded.settings.data_dir == Path("/d")


def test_a_service_may_be_elsewhere(folder: Path) -> None:
    """VOLTAGE_SERVICES_<NAME>_URL names its address; the others follow the port base."""
    settings = read(folder, VOLTAGE_SERVICES_MODSRV_URL="http://other:1").settings
    assert settings.service_url("modsrv") == "http://other:1"
    assert settings.service_url("rulesrv") == "http://127.0.0.1:6003"
    assert "no service 'modserv'; did you mean modsrv?" in problems(folder, VOLTAGE_SERVICES_MODSERV_URL="http://x")[0]


def test_an_empty_variable_is_not_set(folder: Path) -> None:
    """Compose files and Makefiles pass empty ones through."""
    assert read(folder, VOLTAGE_REDIS_URL="").settings.redis.url is None


def test_a_secret_may_stand_in_a_file(folder: Path) -> None:
    """<NAME>_FILE works for secrets, and both at once is an error."""
    secret = folder / "secret"
    secret.write_text("redis://user:pw@host:1\n")
    assert read(folder, VOLTAGE_REDIS_URL_FILE=str(secret)).settings.redis.url == "redis://user:pw@host:1"
    both = problems(folder, VOLTAGE_REDIS_URL_FILE=str(secret), VOLTAGE_REDIS_URL="redis://x")
    assert both == ["VOLTAGE_REDIS_URL_FILE: VOLTAGE_REDIS_URL is set too; set one of them"]
    assert "can't be read" in problems(folder, VOLTAGE_TOKEN_KEY_FILE=str(folder / "none"))[0]


def test_secrets_are_masked_where_shown(folder: Path) -> None:
    """The address of Redis stays readable, its password does not."""
    loaded = read(folder, VOLTAGE_REDIS_URL="redis://user:pw@host:1", COMSRV_PASSPHRASE="hush")  # noqa: S106 - a test's
    shown = {name: value for name, value, _ in loaded.shown()}
    assert shown["redis.url"] == "redis://user:********@host:1"
    assert shown["passphrase"] == MASK


def test_every_problem_is_listed_with_its_place(folder: Path) -> None:
    """File and line, or the variable; unknown names get the nearest one."""
    text = "redis:\n  urll: x\nlog: {level: loud}\n"
    assert problems(folder, text, VOLTAGE_NAMESPCE="a", COMSRV_POLLING_INTERVAL="1", COMSRV_PORT_BASE="x") == [
        "VOLTAGE_NAMESPCE: unknown variable; did you mean VOLTAGE_NAMESPACE?",
        "COMSRV_POLLING_INTERVAL: unknown variable; did you mean COMSRV_POLLING_INTERVAL_MS?",
        "COMSRV_PORT_BASE: port_base: must be a whole number, not 'x'",
        "comsrv.yaml:2: redis.urll: unknown key; did you mean url?",
        "comsrv.yaml:3: log.level: must be debug, info, warning or error, not 'loud'",
    ]


def test_variables_of_other_services_are_theirs(folder: Path) -> None:
    """What several share is known to all; another service's prefix is not looked at."""
    read(folder, VOLTAGE_INFLUXDB_URL="http://x", HISSRV_INFLUXDB_URL="http://y", MODSRV_NONSENSE="1")


def test_a_file_asked_for_by_name_must_exist(folder: Path) -> None:
    """<SERVICE>_CONFIG_FILE names another file."""
    other = folder / "other.yaml"
    other.write_text("namespace: other\n")
    assert read(folder, COMSRV_CONFIG_FILE=str(other)).settings.namespace == "other"
    assert "can't be read" in problems(folder, COMSRV_CONFIG_FILE=str(folder / "missing.yaml"))[0]


def test_a_file_must_hold_a_mapping(folder: Path) -> None:
    """Not a list or a text; an empty file is fine."""
    assert problems(folder, "- a\n") == ["comsrv.yaml:1: must be a mapping of settings"]
    assert read(folder, "# nothing\n").settings.namespace == ""
