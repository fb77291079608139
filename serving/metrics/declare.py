"""How a metric is declared: on one registry, with all its series there from the start. Counts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Declare:
    """Makes metrics on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Only ever grows; `name` ends in `_total`."""
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Goes up and down."""
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Histogram:
        """Counts observations below each bound of `buckets`."""
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)


def create_series(metric: Counter | Gauge | Histogram, series: Iterable[tuple[str, ...]]) -> None:
    """Make these series exist at 0, so that `rate()` and alerts work before anything happened."""
    for labels in series:
        metric.labels(*labels)
