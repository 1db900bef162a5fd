"""comsrv's own metrics: what each channel does, read from the runners when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.comsrv.runner import Runner

_COUNTERS: Final = {
    "polls": "Polls of a channel",
    "late": "Polls left out because the one before took too long",
    "requests": "Read requests sent",
    "failures": "Read requests and connection attempts that failed",
    "connections": "Connections made",
}


class ChannelCollector(Collector):
    """Counters and state of the channels that run here."""

    def __init__(self, runners: Callable[[], Mapping[int, Runner]]) -> None:
        """Keep where the runners are."""
        self._runners = runners

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        running = {str(number): runner for number, runner in self._runners().items() if runner.poller is not None}
        up = GaugeMetricFamily("voltage_channel_up", "1 while a channel runs without problems", labels=["channel"])
        for number, runner in running.items():
            up.add_metric([number], float(runner.state == "running"))
        yield up
        for name, text in _COUNTERS.items():
            family = CounterMetricFamily(f"voltage_channel_{name}", text, labels=["channel"])
            for number, runner in running.items():
                if runner.poller is not None:
                    family.add_metric([number], getattr(runner.poller.statistics, name))
            yield family
        dropped = CounterMetricFamily(
            "voltage_channel_dropped", "Samples dropped while Redis was away", labels=["channel"]
        )
        for number, runner in running.items():
            if runner.uplink is not None:
                dropped.add_metric([number], runner.uplink.dropped)
        yield dropped
