"""The links of this process: channels that name the same endpoint get the same link.

So a serial port, or a device that takes one client, never sees two connections, whatever
is polled, reloaded or tried. A link is kept for a while after its last channel left, with
its counters, its pauses and what it learned of dead endpoints.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from libs.services import resolve_port
from services.comsrv.plugins.modbus.dialer import Settings
from services.comsrv.plugins.modbus.endpoints import Endpoint, SerialEndpoint, TcpEndpoint
from services.comsrv.plugins.modbus.link import Link
from services.comsrv.plugins.modbus.parameters import (
    RtuOverTcpParameters,
    RtuParameters,
    TcpParameters,
    Timing,
    TlsParameters,
)

_PROTOCOLS: Final = {
    TcpParameters: "modbus_tcp",
    RtuOverTcpParameters: "modbus_rtu_over_tcp",
    TlsParameters: "modbus_tls",
    RtuParameters: "modbus_rtu",
}
# Links without a channel that are kept.
KEPT: Final = 64

Key = tuple[str, ...]


class Place(NamedTuple):
    """What a channel asks for: a link's key, its endpoints, the first before its fallback, and its settings."""

    key: Key
    endpoints: tuple[Endpoint, ...]
    settings: Settings


class Links:
    """Links by endpoint."""

    def __init__(self) -> None:
        """Start without links."""
        self._links: WeakValueDictionary[Key, Link] = WeakValueDictionary()
        self._kept: deque[Link] = deque(maxlen=KEPT)

    def link(self, place: Place) -> Link:
        """Return the link of a place: the one there is, or a new one."""
        found = self._links.get(place.key)
        if found is None:
            found = self._links[place.key] = Link(place.endpoints, place.settings)
            self._kept.append(found)
        return found


_LINKS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Links]] = WeakKeyDictionary()


def link_of(place: Place) -> Link:
    """Return the link of this process (of this event loop, to be exact) to a place."""
    return _LINKS.setdefault(asyncio.get_running_loop(), Links()).link(place)


def _settings(parameters: Timing) -> Settings:
    """Return what all channels of a link must agree on."""
    rtu = isinstance(parameters, RtuParameters | RtuOverTcpParameters)
    gap_s = 0.0
    if isinstance(parameters, RtuParameters):
        gap_s = parameters.gap_s
    elif isinstance(parameters, RtuOverTcpParameters):
        gap_s = parameters.frame_gap_ms / 1000
    own = {"timeout_ms", "retries", "addressing", "any_unit"}
    return Settings(
        rtu=rtu,
        echo=isinstance(parameters, RtuParameters) and parameters.echo,
        gap_s=gap_s,
        pause_s=parameters.pause_ms / 1000,
        connect_pause_s=parameters.connect_pause_ms / 1000,
        reconnect_pause_s=parameters.reconnect_pause_ms / 1000,
        return_after_s=parameters.return_after_s,
        turnaround_s=getattr(parameters, "turnaround_ms", 0) / 1000,
        character_s=parameters.character_s if isinstance(parameters, RtuParameters) else 0.0,
        declared={"protocol": _PROTOCOLS[type(parameters)]}
        | {
            f"parameters.{name}": value
            for name, value in parameters.model_dump(mode="json", exclude=own).items()
            if name not in {"host", "port", "connection"}
        },
    )


def place_of(parameters: Timing, port_base: int) -> Place:
    """Return the place that parameters name."""
    endpoints: list[Endpoint] = []
    if isinstance(parameters, RtuParameters):
        # /dev/serial/by-id/... and /dev/ttyUSB0 may be the same port.
        key: Key = ("serial", os.path.realpath(parameters.port))
        endpoints.append(SerialEndpoint(parameters.port, parameters))
        if parameters.fallback:
            endpoints.append(SerialEndpoint(parameters.fallback.port, parameters))
    elif isinstance(parameters, TcpParameters):
        tls = parameters if isinstance(parameters, TlsParameters) else None
        port = resolve_port(parameters.port, port_base)
        key = ("tcp", parameters.host, str(port), parameters.connection)
        endpoints.append(TcpEndpoint(parameters.host, port, tls))
        if parameters.fallback:
            fallback = parameters.fallback
            endpoints.append(TcpEndpoint(fallback.host, resolve_port(fallback.port, port_base), tls))
    else:
        raise TypeError(f"{type(parameters).__name__} names no endpoint")
    return Place(key, tuple(endpoints), _settings(parameters))
