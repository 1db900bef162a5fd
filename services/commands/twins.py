"""From point tables to simulated devices: which links, which units, which registers.

Only the places of points are taken from comsrv; how values are packed and frames are built is the
simulator's own.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from libs.config import load
from libs.errors import ConfigurationError, Problem
from libs.points import PointKind
from libs.services import PORT_BASE, SIMULATOR_OFFSET, resolve_port
from services.comsrv.channel import Channel, ChannelSettings, Point
from services.comsrv.plugins.modbus.mapping import Mapping, Wire, resolve
from services.comsrv.settings import ComsrvSettings
from services.comsrv.tables import load_site
from services.simulator.registers import Table
from services.simulator.twins.cells import Cell
from services.simulator.twins.run import Described, Link

_TABLES: Final = {1: Table.COIL, 2: Table.DISCRETE, 3: Table.HOLDING, 4: Table.INPUT}
SERIAL: Final = "modbus_rtu"
TLS: Final = "modbus_tls"
FRAMED_AS_RTU: Final = frozenset((SERIAL, "modbus_rtu_over_tcp"))
SIMULATED: Final = FRAMED_AS_RTU | {"modbus_tcp", TLS}
HOST: Final = "127.0.0.1"
PORT: Final = 502
TLS_PORT: Final = 802


def read_channels(path: Path) -> tuple[tuple[Channel, ...], int]:
    """Read the channels of a configuration folder, of its `channels/`, or of one folder in there.

    Without a comsrv.yaml every folder of tables is a modbus_tcp device on base+20 and up.

    Returns:
        The channels, and the port base.

    Raises:
        ConfigurationError: every problem, each with file and line.
    """
    path = path.resolve()
    config_dir, only = path, None
    if path.name == "channels":
        config_dir = path.parent
    elif path.parent.name == "channels":
        config_dir, only = path.parent.parent, path.name
    folders = config_dir / "channels"
    if not folders.is_dir():
        raise ConfigurationError([Problem(str(path), "holds no folder channels/ with point tables")])
    loaded = load(ComsrvSettings, "comsrv", {**os.environ, "VOLTAGE_CONFIG_DIR": str(config_dir)})
    settings = loaded.settings
    if not settings.channels:
        settings = settings.model_copy(update={"channels": tuple(_guessed(folders))})
    if only is not None:
        chosen = tuple(channel for channel in settings.channels if str(channel.id) == only)
        if not chosen:
            raise ConfigurationError([Problem(str(path), f"comsrv.yaml has no channel {only}")])
        settings = settings.model_copy(update={"channels": chosen})
    return load_site(config_dir, settings, loaded.document.where), settings.port_base


def _guessed(folders: Path) -> Iterable[ChannelSettings]:
    names = sorted((folder.name for folder in folders.iterdir() if folder.name.isdecimal()), key=int)
    for number, name in enumerate(names):
        port = f"base+{SIMULATOR_OFFSET + number}"
        yield ChannelSettings(id=int(name), name=name, protocol="modbus_tcp", parameters={"host": HOST, "port": port})


def links_of(channels: Iterable[Channel], port_base: int = PORT_BASE, first_port: int | None = None) -> list[Link]:
    """Return the links of all Modbus channels; channels of one endpoint share it.

    Args:
        channels: checked channels; those of other protocols are left out.
        port_base: what `base+20` counts from.
        first_port: where given, TCP links listen from here on, in the order of the channels.
    """
    places: dict[Any, Channel] = {}
    points: dict[Any, dict[int, list[Described]]] = defaultdict(lambda: defaultdict(list))
    names: dict[Any, dict[int, str]] = defaultdict(dict)
    for channel in channels:
        if channel.protocol not in SIMULATED:
            continue
        key = _key(channel, port_base)
        places.setdefault(key, channel)
        for unit, described in _described(channel):
            names[key].setdefault(unit, f"{channel.id}/{unit}")
            points[key][unit].append(described)
    links = []
    for number, (key, channel) in enumerate(places.items()):
        place: tuple[str, int] | Path = Path(key) if isinstance(key, str) else (HOST, key[1])
        if first_port is not None and not isinstance(place, Path):
            place = (HOST, first_port + number)
        units = {unit: (names[key][unit], described) for unit, described in points[key].items()}
        rtu, tls = channel.protocol in FRAMED_AS_RTU, channel.protocol == TLS
        links.append(Link(str(channel.id), place, rtu, tls, units))
    return links


def _key(channel: Channel, port_base: int) -> str | tuple[str, int]:
    parameters = channel.parameters
    if channel.protocol == SERIAL:
        return str(parameters["port"])
    port = parameters.get("port", TLS_PORT if channel.protocol == TLS else PORT)
    return str(parameters["host"]), resolve_port(port, port_base)


def _described(channel: Channel) -> Iterable[tuple[int, Described]]:
    addressing = channel.parameters.get("addressing", "zero")
    for kind in PointKind:
        for point in channel.points.of(kind):
            if point.mapping is None:
                continue
            wire = resolve(kind, point, Mapping.model_validate(point.mapping), addressing)
            cell = cell_of(channel.id, kind, point, wire)
            if wire.scale is not None:
                scale, factor = _scale_cell(cell, wire)
                cell = cell._replace(scale=cell.scale * factor)
                yield wire.unit, scale
            yield wire.unit, Described(cell, point.unit)


def cell_of(channel: int, kind: PointKind, point: Point, wire: Wire) -> Cell:
    """Return the simulator's view of a point."""
    return Cell(
        name=f"{channel}:{kind}:{point.id}",
        table=_TABLES[wire.read_code],
        address=wire.address,
        width=wire.width,
        type=wire.type,
        order=wire.order,
        bit=wire.bit,
        bits=wire.bits,
        scale=point.scale,
        offset=point.offset,
        reverse=point.reverse,
        low=point.min,
        high=point.max,
        writable=not kind.readable,
        encoding=wire.encoding,
    )


def _scale_cell(cell: Cell, wire: Wire) -> tuple[Described, float]:
    """Return the register that scales a point, and what it scales by: a tenth, or the factor 2."""
    scale = wire.scale
    assert scale is not None  # noqa: S101 - the caller asked
    raw, factor = (-1.0, 0.1) if scale.power else (2.0, 2.0)
    width = 1 if scale.type in {"int16", "uint16"} else 2
    place = cell._replace(
        name=f"{cell.name}:scale", address=scale.address, width=width, type=scale.type, order=scale.order,
        bit=None, bits=0, scale=1.0, offset=0.0, low=None, high=None, writable=False,
    )  # fmt: skip
    return Described(place, fixed=raw), factor
