"""The composition root of netsrv."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from libs.config.desired import DesiredError, Entry
from libs.config.load import reload
from libs.definitions import Definition
from libs.errors import Problem, UnavailableError
from libs.http import BACKGROUND
from libs.http.metrics import METRICS
from libs.redis import client
from libs.redis.reports import Reporter
from libs.startup import Startup, functions_of
from services.netsrv.forwarder import Forwarder
from services.netsrv.functions import NETWORK, ROUTE, NetworkFunctions
from services.netsrv.handlers import FORWARDER, FUNCTIONS, NETWORKS, ROUTES
from services.netsrv.intervals import Intervals
from services.netsrv.networks import Networks
from services.netsrv.settings import NetsrvSettings
from services.netsrv.troubles import Troubles

NAME: Final = "netsrv"
# What its files hold, by section, in the order in which they build on one another.
KINDS: Final = {"networks": NETWORK, "routes": ROUTE}
FILE: Final = "netsrv.yaml"


def desired(settings: NetsrvSettings) -> list[Entry]:
    """Return the networks and routes of config/netsrv.yaml; networks come first.

    Raises:
        ConfigurationError: an id is missing or taken, or a network names a secret that is not there.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    sections: tuple[tuple[str, tuple[Definition, ...]], ...] = (
        ("networks", settings.networks),
        ("routes", settings.routes),
    )
    for section, definitions in sections:
        seen: set[str] = set()
        for index, definition in enumerate(definitions):
            where = f"{FILE}: {section}[{index}]"
            if definition.id is None or definition.id in seen:
                said = f"id {definition.id} is taken" if definition.id else "id: is required"
                problems.append(Problem(where, said))
                continue
            seen.add(definition.id)
            entries.append(Entry(section, definition.id, definition, where))
    problems += [
        Problem(f"{FILE}: networks[{index}]", f"secret: there is no {network.secret} in secrets")
        for index, network in enumerate(settings.networks)
        if network.secret and network.secret not in settings.secrets
    ]
    if problems:
        raise DesiredError(problems, entries)
    return entries


def reread(settings: NetsrvSettings) -> list[Entry]:
    """Return the networks and routes that the file names now; secrets are those of the start."""
    found = reload(settings, NAME)
    return desired(settings.model_copy(update={"networks": found.networks, "routes": found.routes}))


def create_app(settings: NetsrvSettings) -> web.Application:
    """Return the service; nothing connects before it starts."""
    gate = functions_of(settings)
    functions = NetworkFunctions(gate)
    blocking = client.connect(settings.redis_url, blocking=True)
    networks = Networks(settings.folder, functions, settings.secrets)
    forwarder = Forwarder(functions, blocking, networks, settings.forward)
    intervals = Intervals(functions, networks, forwarder)

    async def check_forwarding() -> str:
        if problem := forwarder.problem or intervals.problem:
            raise UnavailableError(problem)
        down = [one.link.name for one in networks if one.network.enabled and not one.link.connected]
        # A network that is away is no fault of this service: its queue holds.
        said = f"not connected: {', '.join(down)}" if down else "all networks are connected"
        return "; ".join([said, *forwarder.left_out])

    async def resources(app: web.Application) -> AsyncIterator[None]:
        yield
        # The tasks end before what they use.
        await app[BACKGROUND].stop()
        await networks.stop()
        await blocking.aclose()

    startup = Startup(
        gate,
        settings.namespace,
        kinds=KINDS,
        read=lambda: desired(settings),
        reread=lambda: reread(settings),
        work={
            "forward": forwarder.run,
            "intervals": intervals.run,
            "report": Reporter(gate, NAME, Troubles(networks, forwarder).look).run,
        },
        checks={"forwarding": check_forwarding},
    )
    app = startup.app(settings, NAME, ROUTES)
    app[FUNCTIONS], app[NETWORKS], app[FORWARDER] = functions, networks, forwarder
    app[METRICS].registry.register(_Metrics(networks, forwarder))
    app.cleanup_ctx.append(resources)
    return app


class _Metrics(Collector):
    """What the networks count, by network."""

    def __init__(self, networks: Networks, forwarder: Forwarder) -> None:
        self._networks = networks
        self._forwarder = forwarder

    def collect(self) -> Iterable[Metric]:
        """Return the families of this moment."""
        connected = GaugeMetricFamily("voltage_network_connected", "1 while connected", labels=["network"])
        counted = GaugeMetricFamily(
            "voltage_network_messages", "Messages since the queue was made", labels=["network", "outcome"]
        )
        for one in self._networks:
            connected.add_metric([one.link.name], float(one.link.connected))
            for name, value in one.queue.counters().items():
                counted.add_metric([one.link.name, name], value)
        unreadable = GaugeMetricFamily("voltage_forward_unreadable", "Queue entries nobody could read since the start")
        unreadable.add_metric([], self._forwarder.unreadable)
        return [connected, counted, unreadable]
