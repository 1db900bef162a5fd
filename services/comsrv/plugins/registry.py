"""Protocols by name, from the entry points of the group `voltage.protocols`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Final

from services.comsrv.contract import ComBase

GROUP: Final = "voltage.protocols"


@cache
def protocols() -> dict[str, type[ComBase]]:
    """Return the plugin class of each protocol installed, by name.

    Raises:
        TypeError: an entry point names something that is no ComBase.
    """
    found: dict[str, type[ComBase]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        plugin = entry.load()
        if not (isinstance(plugin, type) and issubclass(plugin, ComBase)):
            raise TypeError(f"protocol {entry.name}: {entry.value} is no ComBase")
        found[entry.name] = plugin
    return found
