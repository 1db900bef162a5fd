"""What alarmsrv knows to be wrong: a recipient that messages do not reach."""

from __future__ import annotations

from collections.abc import Sequence

from libs.redis.reports import Trouble
from services.alarmsrv.notify.dispatcher import Dispatcher
from services.alarmsrv.notify.schemas import recipient_id


class Troubles:
    """Looks at the recipients."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Keep who sends."""
        self._dispatcher = dispatcher

    async def look(self) -> Sequence[Trouble]:
        """Return who is not reached now; whom no route names any more nobody misses."""
        await self._dispatcher.loaded.wait()
        failing = [(one["target"], one["last_error"]) for one in self._dispatcher.status() if one["last_error"]]
        named = await self._dispatcher.named() if failing else set()
        return [
            Trouble("notification", recipient_id(target), f"{target}: {reason}")
            for target, reason in failing
            if target in named
        ]
