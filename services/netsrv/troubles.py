"""What netsrv knows to be wrong: a network is away, a disk queue takes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from libs.redis.reports import Trouble
from services.netsrv.forwarder import Forwarder
from services.netsrv.networks import Networks


class Troubles:
    """Looks at the networks and at the way to them."""

    def __init__(self, networks: Networks, forwarder: Forwarder) -> None:
        """Keep them."""
        self._networks = networks
        self._forwarder = forwarder

    async def look(self) -> Sequence[Trouble]:
        """Return what is wrong now; a network that never was tried is not down."""
        found = [
            Trouble("network", one.link.name, one.link.last_error)
            for one in self._networks
            if one.network.enabled and not one.link.connected and one.link.last_error
        ]
        if problem := self._forwarder.problem:
            found.append(Trouble("forwarding", detail=problem))
        return found
