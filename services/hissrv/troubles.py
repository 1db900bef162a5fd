"""What hissrv knows to be wrong: the store is down, a disk fills up."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from libs.errors import UnavailableError
from libs.redis.reports import Trouble
from services.hissrv.consumer import Consumer, Maintenance
from services.hissrv.store.contract import Store

# A disk is filling up from here on, until it is down to the second.
FULL_PERCENT: Final = 90.0
ROOM_PERCENT: Final = 88.0


class Troubles:
    """Looks at the store, and at the disks of what this site keeps."""

    def __init__(self, store: Store, consumer: Consumer, maintenance: Maintenance, folders: dict[str, Path]) -> None:
        """Keep them; `folders` are looked at by name, those on one disk once."""
        self._store = store
        self._consumer = consumer
        self._maintenance = maintenance
        self._folders = folders
        self._filling: set[str] = set()

    async def look(self) -> Sequence[Trouble]:
        """Return what is wrong now."""
        problem = self._consumer.problem or self._maintenance.problem
        if problem is None:
            try:
                await self._store.status()
            except UnavailableError as error:
                problem = str(error)
        found = await asyncio.to_thread(self._disks)
        return [*([Trouble("store", detail=problem)] if problem else []), *found]

    def _disks(self) -> list[Trouble]:
        found, devices = [], set()
        for name, folder in self._folders.items():
            place = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
            if (device := place.stat().st_dev) in devices:
                continue
            devices.add(device)
            percent = used_percent(place)
            if percent >= (ROOM_PERCENT if name in self._filling else FULL_PERCENT):
                self._filling.add(name)
                found.append(Trouble("disk", name, f"{percent:.0f} % of {folder} is used"))
            else:
                self._filling.discard(name)
        return found


def used_percent(folder: Path) -> float:
    """Return how full a folder's disk is for those who are not root."""
    usage = shutil.disk_usage(folder)
    return 100 * (1 - usage.free / usage.total) if usage.total else 0.0
