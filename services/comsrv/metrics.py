"""comsrv's own metrics: what channels, their units and links do, read from the runners when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.comsrv.poller import Poller
from services.comsrv.runner import Runner
from services.comsrv.traffic import BOUNDS_MS, Traffic

_COUNTERS: Final = {
    "polls": "Polls of a channel",
    "late": "Polls left out because the one before took too long",
    "requests": "Read requests sent",
    "failures": "Read requests and connection attempts that failed",
    "timeouts": "Read requests without an answer",
    "malformed": "Answers that were no answer to the request",
    "connections": "Connections made",
    "searches": "Searches for what a device refuses of a block",
    "plans": "Plans made anew with what was learned",
}


class ChannelCollector(Collector):
    """Counters and state of the channels that run here."""

    def __init__(self, runners: Callable[[], Mapping[int, Runner]]) -> None:
        """Keep where the runners are."""
        self._runners = runners

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        running = {str(number): runner for number, runner in self._runners().items() if runner.poller is not None}
        pollers = {number: runner.poller for number, runner in running.items() if runner.poller is not None}
        up = GaugeMetricFamily("voltage_channel_up", "1 while a channel runs without problems", labels=["channel"])
        dropped = CounterMetricFamily(
            "voltage_channel_dropped", "Samples dropped while Redis was away", labels=["channel"]
        )
        for number, runner in running.items():
            up.add_metric([number], float(runner.state == "running"))
            if runner.uplink is not None:
                dropped.add_metric([number], runner.uplink.dropped)
        yield up
        yield dropped
        yield from _channels(pollers)
        yield from _units(pollers)
        links: dict[int, tuple[str, Traffic]] = {}
        for number, poller in pollers.items():
            if poller.plugin.traffic is not None:
                # Channels that share a link show it once.
                links.setdefault(id(poller.plugin.traffic), (number, poller.plugin.traffic))
        yield from _links(list(links.values()))


def _channels(pollers: Mapping[str, Poller]) -> Iterable[Metric]:
    for name, text in _COUNTERS.items():
        family = CounterMetricFamily(f"voltage_channel_{name}", text, labels=["channel"])
        for number, poller in pollers.items():
            family.add_metric([number], getattr(poller.statistics, name))
        yield family
    exceptions = CounterMetricFamily(
        "voltage_channel_exceptions", "Exception answers by code", labels=["channel", "code"]
    )
    quarantined = GaugeMetricFamily(
        "voltage_channel_quarantined", "Values that a device refuses and that are asked alone", labels=["channel"]
    )
    lasting = GaugeMetricFamily(
        "voltage_group_poll_seconds", "Time that the last poll of a group took", labels=["channel", "group"]
    )
    late = CounterMetricFamily("voltage_group_late", "Polls of a group that were left out", labels=["channel", "group"])
    for number, poller in pollers.items():
        for code, count in sorted(poller.statistics.exceptions.items()):
            exceptions.add_metric([number, str(code)], count)
        quarantined.add_metric([number], sum(task.entry is not None for task in poller.tasks))
        for group in poller.schedule.groups.values():
            if group.tasks:
                lasting.add_metric([number, group.name], group.last_poll_ms / 1000)
                late.add_metric([number, group.name], group.late)
    yield from (exceptions, quarantined, lasting, late)


def _units(pollers: Mapping[str, Poller]) -> Iterable[Metric]:
    labels = ["channel", "unit"]
    up = GaugeMetricFamily("voltage_unit_up", "1 while a unit answers", labels=labels)
    requests = CounterMetricFamily("voltage_unit_requests", "Read requests to a unit", labels=labels)
    timeouts = CounterMetricFamily("voltage_unit_timeouts", "Read requests a unit did not answer", labels=labels)
    request = GaugeMetricFamily("voltage_unit_request_seconds", "Learned cost of a request", labels=labels)
    register = GaugeMetricFamily("voltage_unit_register_seconds", "Learned cost of a register", labels=labels)
    for number, poller in pollers.items():
        for name, unit in poller.units.items():
            up.add_metric([number, name], float(not unit.problem))
            requests.add_metric([number, name], unit.requests)
            timeouts.add_metric([number, name], unit.timeouts)
            if unit.cost.learned is not None:
                request.add_metric([number, name], unit.cost.learned.request / 1000)
                register.add_metric([number, name], unit.cost.learned.register / 1000)
    yield from (up, requests, timeouts, request, register)


def _links(links: list[tuple[str, Traffic]]) -> Iterable[Metric]:
    """Yield what went over the links; `channel` is the first that uses it."""
    labels = ["link", "channel"]
    up = GaugeMetricFamily("voltage_link_up", "1 while a link is connected", labels=labels)
    moved = CounterMetricFamily("voltage_link_bytes", "Bytes on the wire", labels=[*labels, "direction"])
    busy = CounterMetricFamily("voltage_link_busy_seconds", "Time in which the link was taken", labels=labels)
    used = GaugeMetricFamily(
        "voltage_link_utilization_ratio", "Share of the last seconds in which the link was taken", labels=labels
    )
    rejected = CounterMetricFamily(
        "voltage_link_rejected_frames", "Frames that were no answer to what was asked", labels=[*labels, "kind"]
    )
    trips = HistogramMetricFamily("voltage_link_round_trip_seconds", "Round trips of requests", labels=labels)
    for number, traffic in links:
        place = [traffic.endpoint, number]
        up.add_metric(place, float(traffic.connected))
        moved.add_metric([*place, "in"], traffic.bytes_in)
        moved.add_metric([*place, "out"], traffic.bytes_out)
        busy.add_metric(place, traffic.busy_s)
        used.add_metric(place, traffic.utilization())
        for kind, count in sorted(traffic.rejected.items()):
            rejected.add_metric([*place, kind], count)
        bounds = [*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(traffic.round_trips)), strict=True))
        trips.add_metric(place, buckets, traffic.round_trip_sum_ms / 1000)
    yield from (up, moved, busy, used, rejected, trips)
