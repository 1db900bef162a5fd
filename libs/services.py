"""The one table of services and ports; compose, nginx and the tests are checked against it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from libs.errors import InvalidError

PORT_BASE = 6000
REDIS_OFFSET = 379
SIMULATOR_OFFSET = 20
MODBUS_SERVER_PORT = 1502
MAX_PORT = 65535
_RELATIVE: Final = re.compile(r"base\+([0-9]{1,5})")


class Service(NamedTuple):
    """A service: its name (also its folder), its port relative to the base, its purpose."""

    name: str
    offset: int
    purpose: str


SERVICES: tuple[Service, ...] = (
    Service("comsrv", 0, "polls and commands field devices"),
    Service("modsrv", 1, "models of devices over points"),
    Service("alarmsrv", 2, "alarms, their life cycle and journal"),
    Service("rulesrv", 3, "rules over points and their actions"),
    Service("hissrv", 4, "history of points"),
    Service("gateway", 5, "one entry: every route, tokens, live stream, the page"),
    Service("netsrv", 6, "forwards points to MQTT and HTTP, takes commands from MQTT"),
)

BY_NAME: dict[str, Service] = {service.name: service for service in SERVICES}
# Ports promised to services that are not built yet.
RESERVED: dict[str, int] = {"gridsrv": 7, "risksrv": 8, "marketsrv": 9, "fleetsrv": 10}


def port_of(name: str, base: int = PORT_BASE) -> int:
    """Return the port of a service for a port base (`VOLTAGE_PORT_BASE`)."""
    return base + BY_NAME[name].offset


def resolve_port(port: int | str, base: int = PORT_BASE) -> int:
    """Return a port written as a number or as `base+20`, counted from the port base.

    Raises:
        InvalidError: it is neither, or no port.
    """
    match = _RELATIVE.fullmatch(port) if isinstance(port, str) else None
    number = base + int(match[1]) if match else port
    if not isinstance(number, int) or not 1 <= number <= MAX_PORT:
        msg = f"{port!r} is no port; write 1 to {MAX_PORT}, or base+20 to count from the port base"
        raise InvalidError(msg)
    return number
