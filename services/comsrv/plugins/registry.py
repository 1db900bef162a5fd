"""Protocols by name, from the entry points of the group `voltage.protocols`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Final

from services.comsrv.contract import ComBase
from services.comsrv.isolated import Isolated

GROUP: Final = "voltage.protocols"
# The package whose protocols run on comsrv's own event loop.
OURS: Final = "voltageems"


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


@cache
def _foreign() -> frozenset[str]:
    """Return the protocols that other packages bring."""
    return frozenset(
        entry.name for entry in entry_points(group=GROUP) if entry.dist is None or entry.dist.name.lower() != OURS
    )


def make(name: str) -> ComBase:
    """Return a plugin for a channel; one of another package gets a thread of its own."""
    plugin = protocols()[name]()
    return Isolated(plugin) if name in _foreign() else plugin


def forget() -> None:
    """Look at the packages again; for tests that install one."""
    protocols.cache_clear()
    _foreign.cache_clear()
