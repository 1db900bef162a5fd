"""Prometheus metrics of a service's HTTP side; a service adds its own to `app[METRICS]`."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class HttpMetrics:
    """Requests by method, route and status. One registry a service: several may share a process."""

    def __init__(self, service: str) -> None:
        """Register the metrics."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Gauge("voltage_service", "The service", ["service"], registry=self.registry).labels(service).set(1)
        labels = ["method", "route", "status"]
        self.requests = Counter("voltage_http_requests", "HTTP requests", labels, registry=self.registry)
        self.seconds = Histogram(
            "voltage_http_seconds", "Time to answer", labels[:2], buckets=BUCKETS, registry=self.registry
        )

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """Count one answer; the route is the pattern, so ids don't multiply series."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        self.requests.labels(request.method, route, str(status)).inc()
        self.seconds.labels(request.method, route).observe(seconds)


METRICS: Final = web.AppKey("metrics", HttpMetrics)


async def metrics(request: web.Request) -> web.Response:
    """Give the service's metrics in Prometheus' text format."""
    body = generate_latest(request.app[METRICS].registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
