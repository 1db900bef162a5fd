"""Protocols by name: ours from a table, those of other packages from the entry points `voltage.protocols`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from services.comsrv.contract import ComBase
from services.comsrv.isolated import Isolated

GROUP: Final = "voltage.protocols"
# Those that run on comsrv's own event loop.
OURS: Final = {
    "grpc": "services.comsrv.plugins.grpc:Grpc",
    "modbus_rtu": "services.comsrv.plugins.modbus.rtu:ModbusRtu",
    "modbus_rtu_over_tcp": "services.comsrv.plugins.modbus.rtu:ModbusRtuOverTcp",
    "modbus_tcp": "services.comsrv.plugins.modbus.tcp:ModbusTcp",
    "modbus_tls": "services.comsrv.plugins.modbus.tls:ModbusTls",
    "virtual": "services.comsrv.plugins.virtual:Virtual",
}


@cache
def protocols() -> dict[str, type[ComBase]]:
    """Return the plugin class of each protocol installed, by name.

    Raises:
        TypeError: an entry point names something that is no ComBase.
    """
    found: dict[str, Any] = {entry.name: entry.load() for entry in entry_points(group=GROUP) if entry.name not in OURS}
    for name, where in OURS.items():
        module, _, attribute = where.partition(":")
        found[name] = getattr(import_module(module), attribute)
    for name, plugin in found.items():
        if not (isinstance(plugin, type) and issubclass(plugin, ComBase)):
            raise TypeError(f"protocol {name}: {plugin!r} is no ComBase")
    return dict(sorted(found.items()))


def make(name: str) -> ComBase:
    """Return a plugin for a channel; one of another package gets a thread of its own."""
    plugin = protocols()[name]()
    return plugin if name in OURS else Isolated(plugin)


def forget() -> None:
    """Look at the packages again; for tests that install one."""
    protocols.cache_clear()
