"""`voltage install-service`: systemd units of a site, for machines without Docker.

One unit a service, so that systemd restarts, limits and logs each alone, and a
target that starts and stops all of them. What runs is what `voltage up` runs.
"""

from __future__ import annotations

import grp
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from libs.errors import InvalidError
from libs.services import SERVICES
from libs.site import Site, load_site

# In MB; Redis has its own bound and needs as much again while it rewrites its file.
SINGLE: Final = "services"
MEMORY_MB: Final = {"hissrv": 768, SINGLE: 768}
OTHER_MEMORY_MB: Final = 384

EVERYWHERE: Final = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
UMask=0077
"""
# A service whose event loop hangs is ended and started again; see services/commands/watchdog.py.
WATCHDOG: Final = ("WatchdogSec=30", "NotifyAccess=main")

# A user's own manager may not do these.
SYSTEM_ONLY: Final = """\
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallFilter=@system-service
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
"""


class Plan(NamedTuple):
    """What the command line chose."""

    prefix: str
    system: bool
    account: str
    single_process: bool
    nginx: Path | None


class Unit(NamedTuple):
    """A service unit, before it is text."""

    name: str
    what: str
    command: str
    after: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    memory_mb: int = OTHER_MEMORY_MB
    once: bool = False
    devices: bool = False
    capabilities: str = ""


@click.command("install-service")
@click.option("--directory", type=click.Path(path_type=Path), help="Write the units there; else they are printed.")
@click.option("--system/--user", default=True, show_default=True, help="Units of the system, or of your own manager.")
@click.option("--account", default="voltage", show_default=True, help="Account the system's units run as.")
@click.option("--prefix", default="voltage", show_default=True, help="First part of the names; one a site.")
@click.option("--single-process", is_flag=True, help="All services in one unit, for machines with 1 GB.")
@click.option("--nginx", type=click.Path(path_type=Path), help="nginx.conf of scripts/nginx-config: adds its unit.")
def install_service(
    directory: Path | None, system: bool, account: str, prefix: str, single_process: bool, nginx: Path | None
) -> None:
    """Write systemd units for this site: Redis, functions, services and a target.

    \b
    voltage install-service                          shows them
    voltage install-service --directory /etc/systemd/system
    voltage install-service --user --directory ~/.config/systemd/user
    """  # noqa: D301 - click takes the control character, not its name
    if not prefix.replace("-", "").isalnum():
        raise InvalidError(f"--prefix {prefix!r}: letters, digits and - only")
    site = load_site()
    plan = Plan(prefix, system, account, single_process, nginx and nginx.absolute())
    files = units(site, plan)
    if directory is None:
        for name, text in files.items():
            click.echo(f"# ----- {name}\n{text}")
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
        click.echo(f"written: {directory / name}")
    click.echo("\n" + next_steps(site, plan))


def units(site: Site, plan: Plan) -> dict[str, str]:
    """Return the text of each file by its name."""
    wanted = list(_wanted(site, plan))
    files = {f"{plan.prefix}-{unit.name}.service": _service(unit, site, plan) for unit in wanted}
    names = " ".join(f"{plan.prefix}-{unit.name}.service" for unit in wanted)
    files[f"{plan.prefix}.target"] = (
        f"[Unit]\nDescription=VoltageEMS site in {site.data_dir}\nDocumentation=man:systemd.target(5)\n"
        f"Wants={names}\nAfter=network-online.target\n\n[Install]\nWantedBy="
        f"{'multi-user.target' if plan.system else 'default.target'}\n"
    )
    return files


def _wanted(site: Site, plan: Plan) -> Iterator[Unit]:
    voltage = f"{_quoted(sys.executable)} -m services.cli"
    redis: tuple[str, ...] = ()
    if site.settings.redis.url is None:
        redis = ("redis",)
        wait = (f"ExecStartPost={voltage} redis-server --wait", "TimeoutStartSec=90", "TimeoutStopSec=30")
        memory = 2 * _megabytes(site.settings.redis.maxmemory) + 128
        yield Unit("redis", "Redis", f"{voltage} redis-server", lines=wait, memory_mb=memory)
    yield Unit("functions", "function library", f"{voltage} functions load", redis, once=True)
    ready = (*redis, "functions")
    if (site.config_dir / "simulate.yaml").exists():
        yield Unit("simulator", "simulated devices", f"{voltage} simulate")
    names = [service.name for service in SERVICES]
    if plan.single_process:
        memory = MEMORY_MB[SINGLE]
        yield Unit(
            "services", "all services", f"{voltage} serve {' '.join(names)}", ready, WATCHDOG, memory, devices=True
        )
    for service in () if plan.single_process else SERVICES:
        memory = MEMORY_MB.get(service.name, OTHER_MEMORY_MB)
        # Only comsrv may open a serial line.
        devices = service.name == "comsrv"
        command = f"{voltage} serve {service.name}"
        yield Unit(service.name, service.purpose, command, ready, WATCHDOG, memory, devices=devices)
    if plan.nginx is not None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin") or "/usr/sbin/nginx"
        command = f"{program} -c {_quoted(str(plan.nginx))} -g 'daemon off;'"
        gateway = SINGLE if plan.single_process else "gateway"
        reload = (
            f"ExecReload={program} -c {_quoted(str(plan.nginx))} -s reload",
            f"ReadWritePaths={_quoted(str(plan.nginx.parent))}",
        )
        ports = "CAP_NET_BIND_SERVICE" if plan.system else ""
        yield Unit("nginx", "public entry", command, (gateway,), reload, capabilities=ports)


def _service(unit: Unit, site: Site, plan: Plan) -> str:
    parts = [f"[Unit]\nDescription=VoltageEMS {unit.name}: {unit.what}\nPartOf={plan.prefix}.target\n"]
    if unit.after:
        names = " ".join(f"{plan.prefix}-{name}.service" for name in unit.after)
        parts.append(f"Requires={names}\nAfter={names}\n")
    # A service that fails at once twenty times in a minute is left for a person to look at.
    parts.append("StartLimitIntervalSec=60\nStartLimitBurst=20\n\n[Service]\n")
    parts.append(_running(unit))
    parts += [f"{line}\n" for line in unit.lines]
    parts += [f"Environment={_quoted(text)}\n" for text in _variables(site)]
    if plan.nginx is not None and unit.name in {"gateway", SINGLE}:
        # nginx says whose request it passes on.
        trusted = 'GATEWAY_TRUSTED_PROXIES=["127.0.0.1"]'
        parts.append(f"Environment={_quoted(trusted)}\n")
    # Secrets and all further settings; the file is its owner's alone.
    parts.append(f"EnvironmentFile=-{site.config_dir / 'voltage.env'}\n")
    parts.append(f"WorkingDirectory={site.data_dir}\nMemoryMax={unit.memory_mb}M\nTasksMax=256\n{EVERYWHERE}")
    if plan.system:
        parts.append(f"User={plan.account}\n{SYSTEM_ONLY.format(capabilities=unit.capabilities)}")
        parts.append(f"ReadWritePaths={_quoted(str(site.data_dir))}\n")
        parts.append(_serial_lines() if unit.devices else "PrivateDevices=yes\n")
    parts.append(f"StandardOutput=journal\nStandardError=journal\n\n[Install]\nWantedBy={plan.prefix}.target\n")
    return "".join(parts)


def _serial_lines() -> str:
    """Return what lets a unit open serial lines, where the group that owns them is Debian's."""
    try:
        grp.getgrnam("dialout")
    except KeyError:
        return ""
    return "SupplementaryGroups=dialout\n"


def _running(unit: Unit) -> str:
    if unit.once:
        return f"Type=oneshot\nRemainAfterExit=yes\nExecStart={unit.command}\n"
    # Exit 78 is a configuration that does not fit: starting again would not help.
    return (
        f"Type=exec\nExecStart={unit.command}\nRestart=on-failure\nRestartSec=1\n"
        "RestartPreventExitStatus=78\nTimeoutStopSec=15\nKillMode=mixed\n"
    )


def _variables(site: Site) -> Sequence[str]:
    settings = site.settings
    lines = [
        f"VOLTAGE_PORT_BASE={settings.port_base}",
        f"VOLTAGE_DATA_DIR={site.data_dir}",
        f"VOLTAGE_CONFIG_DIR={site.config_dir}",
        "VOLTAGE_LOG_FORMAT=json",
        "PYTHONUNBUFFERED=1",
    ]
    return [*lines, f"VOLTAGE_NAMESPACE={settings.namespace}"] if settings.namespace else lines


def _quoted(text: str) -> str:
    """Quote for a unit file: % starts a specifier, and a path may hold spaces."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if set(text) & set(" '\"\t") else text


def _megabytes(text: str) -> int:
    """Return Redis' notation of a size (256mb, 1gb, bytes) in MB."""
    number, unit = (
        text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        text.lower().lstrip("0123456789"),
    )
    factors = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 10**6, "mb": 1 << 20, "g": 10**9, "gb": 1 << 30}
    try:
        return max(1, int(number) * factors[unit] // (1 << 20))
    except (ValueError, KeyError):
        raise InvalidError(f"VOLTAGE_REDIS_MAXMEMORY={text} is no size; write it as 256mb") from None


def next_steps(site: Site, plan: Plan) -> str:
    """Say what is left to do by hand."""
    control = "systemctl" if plan.system else "systemctl --user"
    steps = [f"{control} daemon-reload", f"{control} enable --now {plan.prefix}.target"]
    if plan.system:
        account = plan.account
        steps[:0] = [
            f"id -u {account} >/dev/null || useradd --system --home-dir {site.data_dir} {account}",
            f"install -d -o {account} -g {account} -m 0700 {site.data_dir}",
        ]
    else:
        steps.append("loginctl enable-linger      # runs without a log-in")
    if site.settings.redis.url is not None:
        steps.insert(0, f"# put VOLTAGE_REDIS_URL into {site.config_dir / 'voltage.env'} (mode 0600)")
    steps.append(f"journalctl {'' if plan.system else '--user '}-u '{plan.prefix}-*' -f")
    return "Now:\n" + "\n".join(f"  {step}" for step in steps)
