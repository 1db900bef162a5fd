"""What Docker would run, compared with the code: no engine is at hand in CI.

Ports, names, variables, commands and settings stand in the code; docker-compose.yml,
Dockerfile and the nginx template repeat some of them, and these tests hold them together.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner

from libs.config import load
from libs.config.settings import Shared
from libs.http.bodies import MAX_BYTES, MAX_UPLOAD_BYTES
from libs.redis.resp import Connection
from libs.redis.server import CONFIGURATION
from libs.services import RESERVED, SERVICES, port_of
from services.cli import voltage
from services.commands.settings_models import settings_model
from tests.support.processes import free_port_base

ROOT: Final = Path(__file__).parents[2]
OTHERS: Final = {"redis", "influxdb", "nginx", "functions"}
NAMES: Final = [service.name for service in SERVICES]
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{([A-Z_]+)(?:(:[-?])([^}]*))?\})")


def container_of(name: str) -> str:
    """Return the compose name of a service: the gateway's is the one of the original documents."""
    return "apigateway" if name == "gateway" else name


def filled(value: Any, environ: dict[str, str]) -> Any:
    """Fill variables in as compose does; one that is required and missing raises KeyError."""
    if isinstance(value, dict):
        return {key: filled(inner, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, environ) for inner in value]
    if not isinstance(value, str):
        return value

    def text(found: re.Match[str]) -> str:
        dollar, name, kind, rest = found.groups()
        if dollar:
            return "$"
        if environ.get(name):
            return environ[name]
        if kind == ":?":
            raise KeyError(name, rest)
        return rest or ""

    return _VARIABLE.sub(text, value)


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings that scripts/production writes for a new site."""
    folder = tmp_path_factory.mktemp("production") / "site"
    command = [str(ROOT / "scripts" / "production"), str(folder), "site.example"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    secrets = {file.name: file.read_text() for file in (folder / "secrets").iterdir()}
    subprocess.run(command, capture_output=True, check=True)
    assert secrets == {file.name: file.read_text() for file in (folder / "secrets").iterdir()}, "a secret changed"
    lines = (folder / "compose.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def compose(raw: dict[str, Any], environ: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = filled(raw, environ)
    return document


def ours(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each service of the table with what compose says about it."""
    for name in NAMES:
        yield name, compose["services"][container_of(name)]


def test_every_service_is_a_container_under_its_name(compose: dict[str, Any]):
    known = {container_of(name) for name in (*NAMES, *RESERVED)}
    assert {container_of(name) for name in NAMES} <= set(compose["services"]) <= known | OTHERS
    for name, service in compose["services"].items():
        assert service["container_name"] == f"voltageems-{name}"
    for name, service in ours(compose):
        assert service["command"] == ["serve", name]


def test_every_key_is_one_of_the_compose_specification(raw: dict[str, Any]):
    """So that a slip of the pen (mem_limits, read-only) is not a limit that is silently absent."""
    assert set(raw) - {key for key in raw if key.startswith("x-")} == {"name", "services", "networks", "secrets"}
    known = {
        "image", "build", "container_name", "command", "environment", "volumes", "secrets", "networks", "ports",
        "depends_on", "healthcheck", "user", "read_only", "cap_drop", "security_opt", "tmpfs", "pids_limit",
        "mem_limit", "restart", "logging", "stop_grace_period",
    }  # fmt: skip
    for name, service in raw["services"].items():
        assert set(service) <= known, name
        if "healthcheck" in service:
            assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}, name
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert set(service["networks"]) <= set(raw["networks"]), name


def test_commands_exist(compose: dict[str, Any]):
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["voltage"]' in dockerfile
    for service in compose["services"].values():
        if "build" in service:
            words = [word for word in service["command"] if word not in NAMES]
            answer = CliRunner().invoke(voltage, [*words, "--help"])
            assert answer.exit_code == 0, answer.output


def test_ports_are_those_of_the_table(compose: dict[str, Any]):
    gateway = compose["services"]["apigateway"]
    for name, service in ours(compose):
        assert f"http://127.0.0.1:{port_of(name)}/" in " ".join(service["healthcheck"]["test"])
        assert "ports" not in service, f"{name} is reached through nginx only"
        if name != "gateway":
            variable = f"VOLTAGE_SERVICES_{name.upper()}_URL"
            assert gateway["environment"][variable] == f"http://{container_of(name)}:{port_of(name)}"
    published = [name for name, service in compose["services"].items() if "ports" in service]
    assert published == ["nginx"]


def test_variables_are_read_by_the_services_own_loader(compose: dict[str, Any]):
    """The real loader refuses an unknown name and a wrong value; secrets are the files that compose mounts."""
    for name, service in ours(compose):
        variables = {key: secret_path(compose, service, value) for key, value in service["environment"].items()}
        settings = load(settings_model(name), name, variables).settings
        assert settings.host == "0.0.0.0"
        assert settings.redis_url.endswith("@redis:6379")
        assert settings.token.key is not None
        load(Shared, "voltage", variables)


def secret_path(compose: dict[str, Any], service: dict[str, Any], value: str) -> str:
    """Return the file on the host behind /run/secrets/NAME, which the container must have been given."""
    if not value.startswith("/run/secrets/"):
        return value
    name = value.removeprefix("/run/secrets/")
    assert name in service["secrets"], f"{name} is not mounted"
    return str(compose["secrets"][name]["file"])


def test_what_is_mounted_exists_after_scripts_production(compose: dict[str, Any]):
    for secret in compose["secrets"].values():
        file = Path(secret["file"])
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(file.read_text()) >= 40
    for name, service in compose["services"].items():
        for secret in service.get("secrets", []):
            assert secret in compose["secrets"], name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source if source.startswith("./") else Path(source)).exists(), f"{name}: {source}"
    certificates = Path(compose["services"]["nginx"]["volumes"][1].split(":")[0])
    assert sorted(file.name for file in certificates.iterdir()) == ["server.crt", "server.key"], (
        "not the authority's key"
    )


def test_it_refuses_to_start_without_its_settings(raw: dict[str, Any], environ: dict[str, str]):
    for name in ("EMS_DIR", "EMS_UID", "EMS_GID"):
        with pytest.raises(KeyError, match=name):
            filled(raw, {**environ, name: ""})
    assert "hunter" not in str(raw)
    assert not re.search(
        r"(?i)(password|token|key)(?!_file|_FILE)['\"]?: *['\"]?[0-9a-f]{16}", (ROOT / "docker-compose.yml").read_text()
    )


def test_every_container_is_confined(compose: dict[str, Any]):
    for name, service in compose["services"].items():
        assert service["user"].split(":")[0] not in {"", "0", "root"}, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name


def test_networks_keep_what_has_no_business_together_apart(compose: dict[str, Any]):
    on = {name: set(service["networks"]) for name, service in compose["services"].items()}
    assert compose["networks"]["core"]["internal"] is True
    assert {name for name, nets in on.items() if "field" in nets} == {"comsrv"}
    assert on["nginx"] == {"edge"}
    assert on["apigateway"] == {"edge", "core"}
    for name in ("redis", "influxdb", "functions", "modsrv", "alarmsrv", "rulesrv", "hissrv"):
        assert on[name] == {"core"}, name
    # The gateway believes the caller's address from nginx alone.
    nginx = compose["services"]["nginx"]["networks"]["edge"]["ipv4_address"]
    assert compose["services"]["apigateway"]["environment"]["GATEWAY_TRUSTED_PROXIES"] == f'["{nginx}"]'


def test_the_order_of_starting_is_by_health(compose: dict[str, Any]):
    services = compose["services"]
    assert services["functions"]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    for name, service in ours(compose):
        assert service["depends_on"]["functions"] == {"condition": "service_completed_successfully"}, name
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == "functions" else "service_healthy"
            assert how["condition"] == wanted
            assert other == "functions" or "healthcheck" in services[other]
    assert "apigateway" in services["nginx"]["depends_on"]
    assert "influxdb" in services["hissrv"]["depends_on"]


def test_redis_is_configured_as_voltage_up_does(compose: dict[str, Any]):
    """And a real server takes the very line."""
    command = compose["services"]["redis"]["command"]
    given = {option.removeprefix("--"): value for option, value in zip(command[2::2], command[3::2], strict=True)}
    own = dict(line.split(" ", 1) for line in CONFIGURATION.splitlines() if line and not line.startswith("#"))
    for option in (
        "appendonly",
        "appendfsync",
        "save",
        "auto-aof-rewrite-min-size",
        "maxmemory-policy",
        "hash-max-listpack-entries",
    ):
        assert given[option] == own[option].strip('"'), option
    assert given["maxmemory"] == Shared().redis.maxmemory


def test_a_real_redis_starts_with_the_line_of_compose(compose: dict[str, Any], tmp_path: Path):
    secret = compose["secrets"]["redis_conf"]["file"]
    port = free_port_base()
    replaced = {"/run/secrets/redis_conf": secret, "/data": str(tmp_path), "6379": str(port), "0.0.0.0": "127.0.0.1"}
    command = [replaced.get(word, word) for word in compose["services"]["redis"]["command"]]
    url = Path(compose["secrets"]["redis_url"]["file"]).read_text().replace("redis:6379", f"127.0.0.1:{port}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("Ready to accept connections" in line for line in server.stdout)
            with Connection(url) as connection:
                assert connection.call("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
                assert connection.call("CONFIG", "GET", "save") == [b"save", b""]
            with Connection(f"redis://127.0.0.1:{port}") as stranger, pytest.raises(Exception, match="NOAUTH"):
                stranger.call("PING")
        finally:
            server.terminate()


def test_nginx_gets_every_variable_of_its_template(compose: dict[str, Any], tmp_path: Path):
    service = compose["services"]["nginx"]
    template = (ROOT / "nginx" / "nginx.conf.template").read_text()
    wanted = set(re.findall(r"\$\{(\w+)\}", template))
    assert wanted == {name for name in service["environment"] if "ENVSUBST" not in name}
    assert int(service["environment"]["NGINX_BODY_LIMIT"]) == MAX_BYTES
    assert int(service["environment"]["NGINX_UPLOAD_LIMIT"]) == MAX_UPLOAD_BYTES
    gateway = compose["services"]["apigateway"]["networks"]["edge"]["ipv4_address"]
    assert service["environment"]["NGINX_GATEWAY"] == f"{gateway}:{port_of('gateway')}"
    ports = {port.split(":")[1] for port in service["ports"]}
    assert ports == {service["environment"]["NGINX_HTTP_PORT"], service["environment"]["NGINX_HTTPS_PORT"]}
    # scripts/nginx-config has the same limits for a site without Docker.
    script = (ROOT / "scripts" / "nginx-config").read_text()
    assert set(re.findall(r": \"\$\{(NGINX_\w+?):?=", script)) == wanted
    for name in ("BODY_LIMIT", "UPLOAD_LIMIT", "RATE", "BURST", "LOGIN_RATE", "LOGIN_BURST", "STREAMS", "METRICS_FROM"):
        assert f'"${{NGINX_{name}:={service["environment"][f"NGINX_{name}"]}}}"' in script


def test_a_real_nginx_accepts_the_configuration_of_the_container(compose: dict[str, Any], tmp_path: Path):
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx, "nginx is missing; on Debian: apt-get install nginx-light"
    service = compose["services"]["nginx"]
    variables = service["environment"] | {
        "NGINX_RUN": str(tmp_path), "NGINX_CERTIFICATES": service["volumes"][1].split(":")[0],
    }  # fmt: skip
    text = (ROOT / "nginx" / "nginx.conf.template").read_text()
    for name, value in variables.items():
        text = text.replace(f"${{{name}}}", value)
    (tmp_path / "nginx.conf").write_text(text)
    done = subprocess.run(
        [nginx, "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_image_holds_what_runs_and_nothing_else():
    """Every path the Dockerfile copies passes .dockerignore, and no secret or data folder does."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]
    }
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert "USER ${UID}:${GID}" in dockerfile
    assert "--require-hashes" in dockerfile
