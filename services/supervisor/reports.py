"""What the supervisor knows to be wrong: which service restarts, and why it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from libs.redis.reports import Trouble
from services.supervisor.keeper import Keeper

# One that runs this long again has restarted; until then it is restarting.
CALM_S: Final = 60.0


class Restarts:
    """Looks at the keepers."""

    def __init__(self, keepers: Callable[[], Sequence[Keeper]]) -> None:
        """Keep how to get them: services start after Redis."""
        self._keepers = keepers
        self._ended: dict[str, float] = {}
        self._known: dict[str, int] = {}

    async def look(self) -> Sequence[Trouble]:
        """Return the services that ended within the last minute, or are not back."""
        now = time.monotonic()
        found = []
        for keeper in self._keepers():
            name = keeper.name
            if keeper.ended != self._known.get(name, 0):
                self._known[name] = keeper.ended
                self._ended[name] = now
            back = keeper.ready.is_set() and now - self._ended.get(name, -CALM_S) >= CALM_S
            if name in self._ended and not back:
                found.append(Trouble("service", name, keeper.reason))
            elif back:
                self._ended.pop(name, None)
        return found
