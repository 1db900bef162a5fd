"""What alarmsrv counts for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.alarmsrv.journal.archive import Archive
from services.alarmsrv.notify.dispatcher import Dispatcher


class AlarmMetrics(Collector):
    """Messages by way and outcome, what waits, and how far the journal is on disk."""

    def __init__(self, dispatcher: Dispatcher, archive: Archive) -> None:
        """Keep what to look at."""
        self._dispatcher = dispatcher
        self._archive = archive

    def collect(self) -> Iterable[Metric]:
        """Return the families of this moment."""
        messages = CounterMetricFamily(
            "voltage_notifications", "Messages since the start", labels=["way", "outcome"]
        )  # fmt: skip
        for (way, outcome), count in self._dispatcher.counted.items():
            messages.add_metric([way, outcome], count)
        waiting = GaugeMetricFamily("voltage_notifications_waiting", "Entries of the outbox that wait for a recipient")
        flooded = GaugeMetricFamily("voltage_notifications_flooded", "Recipients in a flood, who get digests")
        status = self._dispatcher.status()
        waiting.add_metric([], sum(one["waiting"] for one in status))
        flooded.add_metric([], sum(bool(one["flood"]) for one in status))
        on_disk = GaugeMetricFamily("voltage_journal_on_disk", "Number of the journal's last entry on disk")
        on_disk.add_metric([], self._archive.known_number)
        return [messages, waiting, flooded, on_disk]
